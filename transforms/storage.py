"""The one door to files: list, read, publish whole, create once, delete. Paths are strings.

By the scheme of a path it opens one of three places, which differ in what they can promise:

    local paths              storage_local   temporary names, fsync, rename and hard links
    gs://                    storage_gcs     conditional uploads, checksums by the service
    what else Beam can open  storage_beam    no conditions: see there

Nothing is ever visible half written, and `create_once` lets one of many succeed (but see
storage_beam). docs/storage.md tells how a shard's commit is made of that. All errors of the storage
are OSErrors with `strerror` and `filename`.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple, Protocol

import google_crc32c

from models.errors import UserError
from transforms import paths, storage_local

TEMPORARY = storage_local.TEMPORARY
_COPY_BYTES = 1 << 20
NO_AUTH = "PIXELMILL_NO_AUTH"  # in the environment, so that worker processes inherit it


class Stamp(NamedTuple):
    """What is known of a file's content without reading it.

    Attributes:
        size_bytes: its size.
        crc32c: as the service says; "" where only reading tells.
        mark: another one whenever the file was written: generation, or size, times and inode.
        modified_s: when it was written, in seconds since 1970.
    """

    size_bytes: int
    crc32c: str
    mark: str
    modified_s: float


class Backend(Protocol):
    """What a place must be able to do; the functions below say what each one means."""

    def check(self, path: str, writes: bool) -> None: ...
    def list_files(self, folder: str) -> Iterator[tuple[str, int]]: ...
    def is_file(self, path: str) -> bool: ...
    def is_folder(self, path: str) -> bool: ...
    def size_bytes(self, path: str) -> int: ...
    def open_read(self, path: str) -> IO[bytes]: ...
    def read_range(self, path: str, start: int, size: int) -> bytes: ...
    def read_bytes(self, path: str) -> bytes: ...
    def holds(self, path: str, data: bytes) -> bool: ...
    def file_crc32c(self, path: str) -> str: ...
    def stamp(self, path: str) -> tuple[int, str, str, float]: ...
    def temporary_path(self, root: str, name: str) -> str: ...
    def publish(self, temporary: str, final: str, may_replace: Callable[[], None]) -> None: ...
    def write(
        self, root: str, path: str, data: bytes, may_replace: Callable[[], None], synced: bool
    ) -> None: ...
    def sync_all(self, root: str, paths: Sequence[str]) -> None: ...
    def create(self, root: str, path: str, data: bytes) -> bool: ...
    def exchange(self, root: str, path: str, old: bytes, new: bytes) -> bool: ...
    def delete(self, path: str) -> None: ...
    def delete_tree(self, path: str) -> None: ...
    def delete_dead(self, root: str) -> list[str]: ...
    def fetch(self, folder: str, names: Sequence[str], target: str) -> None: ...


def _backend(path: str) -> Backend:
    match paths.scheme(path):
        case "":
            return storage_local
        case "gs":
            from transforms import storage_gcs  # a second to import: only for those who need it

            return storage_gcs
        case _:
            from transforms import storage_beam

            return storage_beam


def use_no_auth() -> None:
    """gs:// without credentials, in this process and those that it starts."""
    os.environ[NO_AUTH] = "1"


def is_remote(path: str) -> bool:
    """Whether a path is not on a local file system: each look at it is a request."""
    return paths.scheme(path) != ""


def check_place(path: str, writes: bool = False) -> None:
    """Sees at once whether a place can be used at all.

    Raises:
        UserError: no such bucket, no permission, no credentials, nobody answers: one clear message,
            within seconds.
    """
    try:
        _backend(path).check(path, writes)
    except OSError as error:
        what = "write to" if writes else "read"
        raise UserError(f"cannot {what} {error.filename or path}: {error.strerror}") from error


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """Relative path (with "/") and size in bytes of every file below a folder, but hidden ones.

    Sorted by path. Links to folders are not followed, so nothing outside is listed; these, links
    that lead nowhere, pipes and the like are listed with a size of -1.

    Raises:
        OSError: when the folder cannot be read.
    """
    return _backend(folder).list_files(folder)


def exists(path: str) -> bool:
    """Whether a file or folder is there. Raises OSError."""
    return is_file(path) or is_folder(path)


def is_file(path: str) -> bool:
    """Whether a file is there. Raises OSError."""
    return _backend(path).is_file(path)


def is_folder(path: str) -> bool:
    """Whether a folder is there; among objects: whether there is anything below. Raises OSError."""
    return _backend(path).is_folder(path)


def size_bytes(path: str) -> int:
    """Size of a file in bytes. Raises OSError when it is not there."""
    return _backend(path).size_bytes(path)


def open_read(path: str) -> IO[bytes]:
    """Opens a file for reading from front to back, buffered by 1 MiB or more. Raises OSError."""
    return _backend(path).open_read(path)


def read_range(path: str, start: int, size: int) -> bytes:
    """So many bytes of a file, or fewer at its end. Raises OSError."""
    return _backend(path).read_range(path, start, size)


def read_bytes(path: str) -> bytes:
    """The whole content of a file. Raises OSError: FileNotFoundError when it is not there."""
    return _backend(path).read_bytes(path)


def holds(path: str, data: bytes) -> bool:
    """Whether a file is there with just this content. Raises OSError."""
    return _backend(path).holds(path, data)


def crc32c(data: bytes) -> str:
    """crc32c (Castagnoli) of bytes as eight hexadecimal digits."""
    return f"{google_crc32c.value(data):08x}"


def file_crc32c(path: str) -> str:
    """crc32c of a file's content; on gs:// what the service says, without reading. OSError."""
    return _backend(path).file_crc32c(path)


def stamp(path: str) -> Stamp:
    """See Stamp. Raises OSError: FileNotFoundError when the file is not there."""
    return Stamp(*_backend(path).stamp(path))


def as_text(path: str) -> str:
    r"""A path as text that can be stored: bytes that are no UTF-8, which it may hold, as `\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def temporary_path(root: str, name: str) -> str:
    """A new local path, for open_new, that no other attempt will use; `publish` takes it to root.

    In root/_tmp when root is local, else in a folder of this process.
    """
    return _backend(root).temporary_path(root, name)


def open_new(path: str) -> IO[bytes]:
    """Opens a new local file for writing. Raises OSError, also when it is there already.

    While it is open it is locked, which tells cleaners that its maker is alive.
    """
    return storage_local.open_new(path)


def sync(file: IO[bytes]) -> None:
    """Makes what was written to an open local file survive a power failure."""
    file.flush()
    os.fsync(file.fileno())


def _yes() -> None:
    """Anything may be replaced."""


def publish(temporary: str, final: str, may_replace: Callable[[], None] = _yes) -> None:
    """Gives a complete, synced file its final name in one step.

    A file of that name with the same content is left alone.

    Args:
        may_replace: asked before a different one is replaced; raises OSError to prevent it.
    """
    _backend(final).publish(temporary, final, may_replace)


def write(root: str, path: str, data: bytes, may_replace: Callable[[], None] = _yes) -> None:
    """Writes root/path whole: readers see the old content or the new, never a part."""
    _backend(root).write(root, path, data, may_replace, synced=True)


def write_unsynced(
    root: str, path: str, data: bytes, may_replace: Callable[[], None] = _yes
) -> None:
    """The same without waiting for the disk: whole for every reader, durable after sync_all."""
    _backend(root).write(root, path, data, may_replace, synced=False)


def sync_all(root: str, paths: Sequence[str]) -> None:
    """Makes files below root, and their names, survive a power failure. Raises OSError."""
    _backend(root).sync_all(root, paths)


def create_once(root: str, path: str, data: bytes) -> bool:
    """Writes root/path whole, unless it exists already: of many attempts exactly one succeeds.

    Returns:
        True when this call made the file, False when it was there before; it then stays as it was.
    """
    return _backend(root).create(root, path, data)


def exchange(root: str, path: str, old: bytes, new: bytes) -> bool:
    """Replaces the content of root/path in one step, if it is just `old`: of many one succeeds.

    Returns:
        True when this call did it, False when the file is another by now, or gone.
    """
    return _backend(root).exchange(root, path, old, new)


def copy(root: str, source: str, path: str, may_replace: Callable[[], None] = _yes) -> None:
    """Copies root/source to root/path, which appears whole (see publish). Raises OSError."""
    temporary = temporary_path(root, path)
    try:
        with open_read(os.path.join(root, source)) as file, open_new(temporary) as copied:
            shutil.copyfileobj(file, copied, _COPY_BYTES)
            sync(copied)  # not closed yet: that would take its lock
            publish(temporary, os.path.join(root, path), may_replace)
    finally:
        storage_local.delete(temporary)


def copy_to(file: IO[bytes], target: IO[bytes]) -> None:
    """Copies what is left of an open file to another, which then stands at its beginning."""
    shutil.copyfileobj(file, target, _COPY_BYTES)
    target.seek(0)


def delete(path: str) -> None:
    """Deletes a file if it is there."""
    _backend(path).delete(path)


def delete_tree(path: str) -> None:
    """Deletes a file, or a folder with all that is in it, if it is there. Follows no links."""
    _backend(path).delete_tree(path)


def delete_dead(root: str) -> list[str]:
    """Deletes temporary files below root whose makers are gone, never those of live ones.

    Returns:
        Their paths, relative to root.
    """
    return _backend(root).delete_dead(root)


def fetch(folder: str, names: Sequence[str], target: str) -> None:
    """Copies files below a folder to a local folder, under the same names. Raises OSError."""
    _backend(folder).fetch(folder, names, target)
