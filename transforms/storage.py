"""Files, as far as the machine needs them: list, read, publish whole, create once, delete.

Everything that leaves the process goes through here, so that another kind of storage is one more
module like this one. Today: local paths. Nothing is ever visible half written: a file is made
under a temporary name in OUT/_tmp and then takes its final name in one step.
"""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import google_crc32c

from models.errors import UserError

TEMPORARY = "_tmp"
_COPY_BYTES = 1 << 20
_SYNC_THREADS = 8
_LOCK_SECONDS = 10.0


def check_supported(path: str) -> None:
    """Raises UserError for a path that this storage cannot serve, with the way out."""
    scheme, found, _ = path.partition("://")
    if found:
        raise UserError(
            f"{path}: {scheme}:// is not supported yet; copy the data to a local path first"
        )


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """Relative path (with "/") and size in bytes of every file below a folder, but hidden ones.

    Sorted by path. Links to folders are not followed, so nothing outside is listed; these, links
    that lead nowhere, pipes and the like are listed with a size of -1.

    Raises:
        OSError: when the folder cannot be read.
    """
    yield from _walk(folder, "")


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        # "a/b" sorts as the joined path would: a folder's slash takes part in the comparison
        found = sorted(entries, key=lambda e: e.name + ("/" if _is_folder(e) else ""))
    for entry in found:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name, entry.stat().st_size
        else:
            yield prefix + entry.name, -1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    return os.path.exists(path)


def size_bytes(path: str) -> int:
    """Size of a file in bytes. Raises OSError when it is not there."""
    return os.stat(path).st_size


def open_read(path: str) -> IO[bytes]:
    """Opens a file for reading, buffered by 1 MiB. Raises OSError."""
    return open(path, "rb", buffering=_COPY_BYTES)


def open_new(path: str) -> IO[bytes]:
    """Opens a new file for writing. Raises OSError, also when it is there already."""
    return open(path, "xb", buffering=_COPY_BYTES)


def read_bytes(path: str) -> bytes:
    """The whole content of a file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def holds(path: str, data: bytes) -> bool:
    """Whether a file is there with just this content. Raises OSError."""
    return exists(path) and size_bytes(path) == len(data) and read_bytes(path) == data


def crc32c(data: bytes) -> str:
    """crc32c (Castagnoli) of bytes as eight hexadecimal digits."""
    return f"{google_crc32c.value(data):08x}"


def file_crc32c(path: str) -> str:
    """crc32c of a file's content, read by chunks. Raises OSError."""
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(_COPY_BYTES):
            value = google_crc32c.extend(value, chunk)
    return f"{value:08x}"


def as_text(path: str) -> str:
    r"""A path as text that can be stored: bytes that are no UTF-8, which it may hold, as `\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def temporary_path(root: str, name: str) -> str:
    """A new path in root/_tmp (same file system as root) that no other attempt will use."""
    folder = os.path.join(root, TEMPORARY)
    os.makedirs(folder, exist_ok=True)
    # 48 characters are at most 192 bytes; a file name may have 255
    return os.path.join(folder, f"{os.path.basename(name)[-48:]}.{secrets.token_hex(8)}")


def sync(file: IO[bytes]) -> None:
    """Makes what was written to an open local file survive a power failure."""
    file.flush()
    os.fsync(file.fileno())


def publish(temporary: str, final: str) -> None:
    """Gives a complete, synced file its final name in one step, replacing what was there."""
    os.makedirs(os.path.dirname(final), exist_ok=True)
    os.replace(temporary, final)


def write(root: str, path: str, data: bytes) -> None:
    """Writes root/path whole: readers see the old content or the new, never a part."""
    temporary = _write_temporary(root, path, data)
    try:
        publish(temporary, os.path.join(root, path))
    except OSError:
        delete(temporary)
        raise
    _sync_path(os.path.dirname(os.path.join(root, path)))


def write_unsynced(root: str, path: str, data: bytes) -> None:
    """The same without waiting for the disk: whole for every reader, durable after sync_all."""
    temporary = temporary_path(root, path)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        publish(temporary, os.path.join(root, path))
    except OSError:
        delete(temporary)
        raise


def sync_all(root: str, paths: Sequence[str]) -> None:
    """Makes files below root, and their names, survive a power failure. Raises OSError."""
    folders = {os.path.dirname(path) for path in paths}
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:  # one flush of the disk serves many files
        for _ in pool.map(lambda path: _sync_path(os.path.join(root, path)), [*paths, *folders]):
            pass


def create_once(root: str, path: str, data: bytes) -> bool:
    """Writes root/path whole, unless it exists already: of many attempts exactly one succeeds.

    Returns:
        True when this call made the file, False when it was there before; it then stays as it was.
    """
    final = os.path.join(root, path)
    os.makedirs(os.path.dirname(final), exist_ok=True)
    temporary = _write_temporary(root, path, data)
    try:
        os.link(temporary, final)  # unlike a rename, a link never replaces
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        return _create_without_links(temporary, final)
    finally:
        delete(temporary)
    _sync_path(os.path.dirname(final))
    return True


def _create_without_links(temporary: str, final: str) -> bool:
    """For file systems that know no hard links: a lock folder decides who renames."""
    lock = f"{final}.lock"
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            os.mkdir(lock)
            break
        except FileExistsError:  # who holds it may not have renamed yet, or may have failed
            if os.path.exists(final):
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, "left by a process that died? then delete it", lock
                ) from None
            time.sleep(0.01)
    try:
        if os.path.exists(final):
            return False
        os.replace(temporary, final)
        return True
    finally:
        os.rmdir(lock)


def _write_temporary(root: str, path: str, data: bytes) -> str:
    temporary = temporary_path(root, path)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            sync(file)
    except OSError:
        delete(temporary)  # on a full disk it would be in the way of the next attempt
        raise
    return temporary


def _sync_path(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(path: str) -> None:
    """Deletes a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def delete_tree(path: str) -> None:
    """Deletes a file, or a folder with all that is in it, if it is there. Follows no links."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(FileNotFoundError):  # somebody else deletes it too
            shutil.rmtree(path)
    else:
        delete(path)
