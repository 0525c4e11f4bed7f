"""Lists of files as an input, and stamps, which tell that a file has changed."""

import os
from pathlib import Path

import pytest
from gcs_server import GcsServer

from transforms import storage
from transforms.listing import InputError, list_input, read_list


def test_a_list_names_files_below_its_folder_and_may_point_to_another(tmp_path: Path) -> None:
    for name in ("a/x.tfrecord", "b/x.tfrecord", "c.tfrecord"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "1.list").write_text("# two\na/x.tfrecord\n\nb/x.tfrecord\n")
    (tmp_path / "latest.list").write_text("1.list\n")
    found = list_input(f"{tmp_path}/latest.list")
    assert found.root == str(tmp_path)
    assert found.files == (("a/x.tfrecord", 12), ("b/x.tfrecord", 12))


@pytest.mark.parametrize("line", ["../x", "/etc/passwd", "gs://b/x", "a//b", "a/./b"])
def test_a_list_cannot_leave_its_folder(tmp_path: Path, line: str) -> None:
    (tmp_path / "1.list").write_text(f"ok\n{line}\n")
    with pytest.raises(InputError, match="expected paths below its folder"):
        read_list(f"{tmp_path}/1.list")


@pytest.mark.parametrize(
    ("text", "message"),
    [("1.list\n", "name one another"), ("# no\n", "names no files"), ("gone\n", "cannot read")],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "1.list").write_text(text)
    with pytest.raises(InputError, match=message):
        list_input(f"{tmp_path}/1.list")


def test_a_stamp_shows_every_write_of_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = storage.stamp(str(path))
    assert storage.stamp(str(path)) == first
    assert (first.size_bytes, first.crc32c) == (3, "")
    path.write_bytes(b"two")
    os.utime(path, (first.modified_s, first.modified_s))  # as tools do that copy
    assert storage.stamp(str(path)).mark != first.mark
    with pytest.raises(FileNotFoundError):
        storage.stamp(f"{path}2")


def test_a_stamp_of_an_object_is_what_the_service_says(gcs: GcsServer) -> None:
    gcs.put("a", b"one")
    first = storage.stamp("gs://bucket/a")
    assert (first.size_bytes, first.crc32c) == (3, storage.crc32c(b"one"))
    assert first.mark == str(gcs.generation("a"))
    gcs.put("a", b"one")
    assert storage.stamp("gs://bucket/a").mark != first.mark
    with pytest.raises(FileNotFoundError):
        storage.stamp("gs://bucket/b")
