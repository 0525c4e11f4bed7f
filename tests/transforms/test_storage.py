"""Whole files or none: atomic writes, and names that exactly one of many attempts can create."""

import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest

from models.errors import UserError
from transforms import storage


def temporaries(root):
    folder = root / storage.TEMPORARY
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch):
    """A file system with hard links, and one that refuses them."""
    if request.param == "no links":

        def refuse(*_args, **_kwargs):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return request.param


def race(attempt, threads=8):
    """Runs attempt(0), attempt(1), ... at the same moment; gives their results."""
    start = threading.Barrier(threads)

    def run(number):
        start.wait(5)
        return attempt(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_of_many_creators_exactly_one_wins_and_all_see_its_bytes(tmp_path, links):
    for round_ in range(12):
        path = f"metrics/{round_}.json"

        def create(number, path=path):
            made = storage.create_once(str(tmp_path), path, b"%d" % number * 1000)
            return made, (tmp_path / path).read_bytes()  # there, also for those who lost

        results = race(create)
        winners = [number for number, (made, _) in enumerate(results) if made]
        assert len(winners) == 1
        assert {seen for _, seen in results} == {b"%d" % winners[0] * 1000}
    assert temporaries(tmp_path) == []
    assert sorted(os.listdir(tmp_path / "metrics")) == sorted(f"{n}.json" for n in range(12))


def test_what_was_created_once_never_changes(tmp_path, links):
    assert storage.create_once(str(tmp_path), "a/b", b"first")
    assert not storage.create_once(str(tmp_path), "a/b", b"second")
    assert (tmp_path / "a/b").read_bytes() == b"first"
    assert temporaries(tmp_path) == []


def test_other_errors_of_links_are_raised_and_leave_nothing(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="Input/output"):
        storage.create_once(str(tmp_path), "a", b"data")
    assert not (tmp_path / "a").exists() and temporaries(tmp_path) == []


def test_a_reader_never_sees_a_part(tmp_path):
    contents = [bytes([65 + n]) * 300_000 for n in range(3)]
    storage.write(str(tmp_path), "x/y.bin", contents[0])
    stop, seen = threading.Event(), set()

    def watch():
        while not stop.is_set():
            seen.add((tmp_path / "x/y.bin").read_bytes())

    reader = threading.Thread(target=watch)
    reader.start()
    for n in range(30):
        storage.write(str(tmp_path), "x/y.bin", contents[n % 3])
    stop.set()
    reader.join(5)
    assert seen <= set(contents)
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("write", "broken"),
    [
        (storage.write, "replace"),
        (storage.write, "fsync"),
        (storage.write_unsynced, "replace"),
        (storage.write_unsynced, "makedirs"),
    ],
)
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path, monkeypatch, write, broken
):
    storage.write(str(tmp_path), "a", b"old")

    def fail(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space"):
        write(str(tmp_path), "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert temporaries(tmp_path) == []


def test_what_was_written_unsynced_is_synced_with_its_folder(tmp_path, monkeypatch):
    paths = ["m/a.png", "m/n/b.png", "m/a2.png"]
    for path in paths:
        storage.write_unsynced(str(tmp_path), path, path.encode())
    synced, fsync = set(), os.fsync

    def note(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    storage.sync_all(str(tmp_path), paths)
    expected = [*paths, "m", "m/n"]
    assert {os.stat(tmp_path / path).st_ino for path in expected} <= synced
    assert [(tmp_path / path).read_bytes() for path in paths] == [p.encode() for p in paths]
    with pytest.raises(FileNotFoundError):
        storage.sync_all(str(tmp_path), ["m/gone.png"])


@pytest.mark.parametrize("name", ["a" * 251, "é" * 125, "雪" * 83, "🎞" * 62, "with space\n'\"*"])
def test_any_name_that_the_file_system_takes_can_be_written(tmp_path, name):
    storage.write(str(tmp_path), f"masks/{name}.png", b"1")
    assert storage.create_once(str(tmp_path), f"metrics/{name}.x", b"2")
    assert storage.read_bytes(str(tmp_path / "masks" / f"{name}.png")) == b"1"


def test_a_root_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage.write("out", "a/b/c", b"1")
    storage.write_unsynced("out2", "c", b"2")
    assert storage.create_once("out3", "c", b"3")
    assert (tmp_path / "out/a/b/c").read_bytes() + (tmp_path / "out3/c").read_bytes() == b"13"


def test_temporary_paths_are_never_shared(tmp_path):
    paths = {storage.temporary_path(str(tmp_path), "a/b/same") for _ in range(50)}
    assert len(paths) == 50
    assert all(os.path.dirname(path) == str(tmp_path / "_tmp") for path in paths)


def test_a_listing_is_sorted_by_the_whole_path_and_skips_hidden_files(tmp_path):
    names = ["b.png", "a/z.png", "a.png", "a-b/c.png", "a/b/c.png", "ä/1.png"]
    for name in [*names, ".hidden.png", ".git/x.png", "a/.DS_Store"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    listed = list(storage.list_files(str(tmp_path)))
    assert listed == sorted((name, 5) for name in names)


def test_a_listing_leaves_out_what_vanishes_meanwhile(tmp_path):
    for name in ("a", "b", "c/d", "e/f", "g"):
        storage.write(str(tmp_path), name, b"12")
    listing = storage.list_files(str(tmp_path))
    assert next(listing) == ("a", 2)  # the folder has been read, the sizes of the others have not
    (tmp_path / "b").unlink()
    shutil.rmtree(tmp_path / "c")
    assert list(listing) == [("e/f", 2), ("g", 2)]


def test_a_listing_follows_links_to_files_and_not_to_folders(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"123")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "file.png").symlink_to(outside / "secret.png")
    (folder / "dangling.png").symlink_to(outside / "nothing")
    os.mkfifo(folder / "pipe.png")
    assert list(storage.list_files(str(folder))) == [
        ("dangling.png", -1),
        ("file.png", 3),
        ("linked", -1),
        ("loop", -1),
        ("pipe.png", -1),
    ]


def test_a_new_file_must_be_new(tmp_path):
    path = str(tmp_path / "a")
    storage.open_new(path).close()
    with pytest.raises(FileExistsError):
        storage.open_new(path)


def test_checksums_of_bytes_and_files_agree(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert storage.crc32c(data) == storage.file_crc32c(str(tmp_path / "a"))
    assert storage.crc32c(data) == f"{google_crc32c.value(data):08x}"
    assert storage.crc32c(b"123456789") == "e3069283"  # the check value of CRC-32C
    assert storage.crc32c(b"") == "00000000"


def test_deleting_what_is_not_there_is_fine_and_the_rest_is_not_hidden(tmp_path):
    storage.delete(str(tmp_path / "nothing"))
    storage.delete_tree(str(tmp_path / "nothing"))
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_bytes(b"")
    with pytest.raises(OSError, match="d"):
        storage.delete(str(tmp_path / "d"))
    storage.delete_tree(str(tmp_path / "d"))
    assert not storage.exists(str(tmp_path / "d"))


def test_places_that_nobody_can_open_are_refused_with_the_way_out():
    with pytest.raises(UserError, match=r"Beam cannot open s3:// here: .*apache-beam\[aws\]"):
        storage.check_place("s3://bucket/x")
    with pytest.raises(UserError, match="cannot open nonsense://"):
        storage.check_place("nonsense://x")


def test_a_folder_that_must_not_be_written_is_told(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(UserError, match=f"cannot write to {file}"):
        storage.check_place(str(file / "out"), writes=True)
    storage.check_place(str(tmp_path / "new/out"), writes=True)


def test_temporary_files_of_the_dead_are_deleted_and_those_of_the_living_stay(tmp_path):
    living = storage.temporary_path(str(tmp_path), "living")
    dead = storage.temporary_path(str(tmp_path), "dead")
    with storage.open_new(living) as file:
        storage.open_new(dead).close()
        assert storage.delete_dead(str(tmp_path)) == [os.path.relpath(dead, tmp_path)]
        assert temporaries(tmp_path) == [os.path.basename(living)]
        file.write(b"x")
        storage.sync(file)
        storage.publish(living, str(tmp_path / "final"))
    assert (tmp_path / "final").read_bytes() == b"x"
    assert storage.delete_dead(str(tmp_path / "nothing")) == []


def test_a_file_is_replaced_by_a_different_one_only_if_that_is_allowed(tmp_path):
    asked = []

    def refuse():
        asked.append(1)
        raise OSError(errno.ECANCELED, "not now")

    root = str(tmp_path)
    for publish in (storage.write, storage.write_unsynced, publish_file):
        storage.write(root, "a", b"old")
        publish(root, "a", b"old", refuse)  # equal
        publish(root, "new", b"new", refuse)
        storage.delete(f"{root}/new")
        assert asked == []
        with pytest.raises(OSError, match="not now"):
            publish(root, "a", b"new", refuse)
        assert (tmp_path / "a").read_bytes() == b"old" and asked.pop()


def publish_file(root, path, data, may_replace):
    temporary = storage.temporary_path(root, path)
    try:
        with storage.open_new(temporary) as file:
            file.write(data)
        storage.publish(temporary, f"{root}/{path}", may_replace)
    finally:
        storage.delete(temporary)


def test_of_many_exchanges_exactly_one_wins(tmp_path):
    storage.write(str(tmp_path), "m/a", b"old")
    won = race(lambda number: storage.exchange(str(tmp_path), "m/a", b"old", b"%d" % number))
    assert sum(won) == 1 and (tmp_path / "m/a").read_bytes() == b"%d" % won.index(True)
    assert not storage.exchange(str(tmp_path), "m/gone", b"old", b"new")
    assert temporaries(tmp_path) == []


def test_a_part_of_a_file(tmp_path):
    (tmp_path / "m").write_bytes(bytes(range(100)))
    assert storage.read_range(str(tmp_path / "m"), 10, 5) == bytes(range(10, 15))
    assert storage.read_range(str(tmp_path / "m"), 98, 5) == bytes((98, 99))
