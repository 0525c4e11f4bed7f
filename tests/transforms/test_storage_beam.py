"""Places that only Beam can open, by a file system of its kind that lives in memory."""

import io
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.options.pipeline_options import PipelineOptions

from models.errors import UserError
from transforms import storage, storage_beam
from transforms.listing import list_input


class _File(io.BytesIO):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def close(self) -> None:
        if not self.closed:
            MemoryFileSystem.files[self._name] = self.getvalue()
        super().close()


class MemoryFileSystem(FileSystem):  # type: ignore[misc]
    """mem://"""

    files: ClassVar[dict[str, bytes]] = {}
    over = True

    @classmethod
    def scheme(cls) -> str:
        return "mem"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> Any:
        return path.rsplit("/", 1)

    def mkdirs(self, path: str) -> None:
        raise OSError("there are no folders")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for name, data in self.files.items():
            if name.startswith(dir_or_prefix):
                yield FileMetadata(name, len(data))

    def create(self, path: str, *_: Any, **__: Any) -> Any:
        return _File(path)

    def open(self, path: str, *_: Any, **__: Any) -> Any:
        return io.BytesIO(self.files[path])

    def copy(self, sources: list[str], targets: list[str]) -> None:
        raise NotImplementedError

    def rename(self, sources: list[str], targets: list[str]) -> None:
        for source, target in zip(sources, targets, strict=True):
            if target in self.files and not self.over:
                raise OSError("it is there already")
            self.files[target] = self.files.pop(source)

    def exists(self, path: str) -> bool:
        return path in self.files

    def size(self, path: str) -> int:
        return len(self.files[path])

    def last_updated(self, path: str) -> float:
        return 0.0

    def checksum(self, path: str) -> str:
        raise NotImplementedError

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            del self.files[path]


ROOT = "mem://place/out"


@pytest.fixture(autouse=True, params=["over", "not over"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A place where a rename replaces, and one where it does not."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(PipelineOptions([]))
    MemoryFileSystem.files.clear()
    over = request.param == "over"
    monkeypatch.setattr(storage_beam, "_RENAMES_OVER", ("mem",) if over else ())
    monkeypatch.setattr(MemoryFileSystem, "over", over)
    return MemoryFileSystem.files


def test_what_is_written_is_read(place: dict[str, bytes]) -> None:
    storage.check_place(ROOT, writes=True)
    assert place == {}
    storage.write(ROOT, "a/b", b"one")
    storage.write_unsynced(ROOT, "a/c", b"two")
    temporary = storage.temporary_path(ROOT, "x")
    with storage.open_new(temporary) as file:
        file.write(b"three" * 1000)
    storage.publish(temporary, f"{ROOT}/a/d.txt")
    assert not os.path.exists(temporary)
    assert place == {
        f"{ROOT}/a/b": b"one",
        f"{ROOT}/a/c": b"two",
        f"{ROOT}/a/d.txt": b"three" * 1000,
    }
    assert storage.read_bytes(f"{ROOT}/a/b") == b"one"
    with storage.open_read(f"{ROOT}/a/d.txt") as file:
        assert file.read(7) == b"threeth"
    assert list(storage.list_files(ROOT)) == [("a/b", 3), ("a/c", 3), ("a/d.txt", 5000)]
    assert storage.file_crc32c(f"{ROOT}/a/b") == storage.crc32c(b"one")
    assert storage.is_folder(f"{ROOT}/a") and storage.is_file(f"{ROOT}/a/b")
    assert not storage.exists(f"{ROOT}/a/none")
    assert storage.holds(f"{ROOT}/a/b", b"one") and not storage.holds(f"{ROOT}/a/b", b"two")


def test_created_once_and_replaced_only_if_allowed(place: dict[str, bytes]) -> None:
    assert storage.create_once(ROOT, "m", b"first")
    assert not storage.create_once(ROOT, "m", b"second")

    def refuse() -> None:
        raise OSError("not now")

    storage.write(ROOT, "m", b"first", refuse)
    with pytest.raises(OSError, match="not now"):
        storage.write(ROOT, "m", b"second", refuse)
    storage.write(ROOT, "m", b"third")
    assert place == {f"{ROOT}/m": b"third"}


def test_deleting_and_fetching(place: dict[str, bytes], tmp_path: Any) -> None:
    for name in ("a/1", "a/2", "a[1]/3", "ab"):
        storage.write(ROOT, name, name.encode())
    storage.fetch(ROOT, ["a/1", "a[1]/3"], str(tmp_path))
    assert (tmp_path / "a[1]/3").read_bytes() == b"a[1]/3"
    storage.delete(f"{ROOT}/a[1]/3")
    storage.delete(f"{ROOT}/none")
    storage.delete_tree(f"{ROOT}/a")
    assert place == {f"{ROOT}/ab": b"ab"}


def test_what_is_not_there_and_what_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (storage.read_bytes, storage.size_bytes, storage.open_read):
        with pytest.raises(FileNotFoundError) as caught:
            read(f"{ROOT}/none")
        assert caught.value.filename == f"{ROOT}/none"

    def fail(*_: Any) -> None:
        raise RuntimeError("the library's own error")

    monkeypatch.setattr(MemoryFileSystem, "create", fail)
    with pytest.raises(OSError, match="RuntimeError: the library's own error"):
        storage.write(ROOT, "x", b"")
    with pytest.raises(UserError, match="Beam cannot open mem:// here"):
        storage.check_place(ROOT, writes=True)


def test_an_upload_that_breaks_off_is_not_published(
    place: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_source: Any, file: Any, _size: int) -> None:
        file.write(b"half")
        raise OSError(5, "broken")

    monkeypatch.setattr(storage_beam.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="broken"):
        storage.write(ROOT, "x", b"half and half")
    assert f"{ROOT}/x" not in place


def test_inputs_are_found(place: dict[str, bytes]) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/.hidden.png", "notes.txt"):
        storage.write("mem://place/in", name, b"12")
    listing = list_input("mem://place/in/", ROOT)
    assert listing.root == "mem://place/in"
    assert listing.files == (("a/1.png", 2), ("a/2.png", 2), ("b/3.png", 2))
    assert list_input("mem://place/in/*/[12].png").files == (("a/1.png", 2), ("a/2.png", 2))
    assert list_input("mem://place/in/**/3.png").files == (("b/3.png", 2),)


def test_an_exchange_replaces_only_what_it_was_told(place: dict[str, bytes]) -> None:
    storage.write(ROOT, "m/a", b"old")
    assert not storage.exchange(ROOT, "m/a", b"another", b"new")
    assert not storage.exchange(ROOT, "m/gone", b"old", b"new")
    assert storage.exchange(ROOT, "m/a", b"old", b"new")
    assert storage.read_bytes(f"{ROOT}/m/a") == b"new"


def test_a_part_of_a_file() -> None:
    MemoryFileSystem.files["mem://x/m"] = bytes(range(100))
    assert storage.read_range("mem://x/m", 10, 5) == bytes(range(10, 15))
    assert storage.read_range("mem://x/m", 98, 5) == bytes((98, 99))
