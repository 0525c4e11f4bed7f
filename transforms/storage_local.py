"""Local files: a file is made under a temporary name in OUT/_tmp and renamed when it is whole.

Guarantees: files appear whole and are replaced in one step; of many creators of one name exactly
one succeeds (hard links; a lock on the folder where there are none); what is committed survives a
loss of power. Who makes a temporary file holds a lock on it, so that those of dead processes can
be told from those of live ones.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import google_crc32c

TEMPORARY = "_tmp"
_COPY_BYTES = 1 << 20
_SYNC_THREADS = 8
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def check(path: str, writes: bool) -> None:
    """Raises OSError when a folder is there and must not be used."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    if not os.access(path, os.W_OK | os.X_OK if writes else os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """See storage.list_files."""
    yield from _walk(folder, "")


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        # "a/b" sorts as the joined path would: a folder's slash takes part in the comparison
        found = sorted(entries, key=lambda e: e.name + ("/" if _is_folder(e) else ""))
    for entry in found:
        # what somebody renamed or deleted since the folder was read is not there any more
        with contextlib.suppress(FileNotFoundError):
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


def is_file(path: str) -> bool:
    return os.path.isfile(path)


def is_folder(path: str) -> bool:
    return os.path.isdir(path)


def size_bytes(path: str) -> int:
    return os.stat(path).st_size


def open_read(path: str) -> IO[bytes]:
    return open(path, "rb", buffering=_COPY_BYTES)


def read_range(path: str, start: int, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), size, start)


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def holds(path: str, data: bytes) -> bool:
    return os.path.exists(path) and size_bytes(path) == len(data) and read_bytes(path) == data


def file_crc32c(path: str) -> str:
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(_COPY_BYTES):
            value = google_crc32c.extend(value, chunk)
    return f"{value:08x}"


def stamp(path: str) -> tuple[int, str, str, float]:
    found = os.stat(path)
    # the time of the inode's change too: tools that copy set the other one back
    mark = f"{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns}.{found.st_ino}"
    return found.st_size, "", mark, found.st_mtime


def temporary_path(root: str, name: str) -> str:
    """A new path in root/_tmp (same file system as root) that no other attempt will use."""
    folder = os.path.join(root, TEMPORARY)
    os.makedirs(folder, exist_ok=True)
    # 48 characters are at most 192 bytes; a file name may have 255
    return os.path.join(folder, f"{os.path.basename(name)[-48:]}.{secrets.token_hex(8)}")


def open_new(path: str) -> IO[bytes]:
    """A new file, locked until it is closed, which marks it as that of a live process."""
    while True:
        try:
            file = open(path, "xb", buffering=_COPY_BYTES)  # noqa: SIM115 - the caller's
        except FileNotFoundError:  # the folder was empty for a moment, and cleaned up
            if os.path.basename(os.path.dirname(path)) != TEMPORARY:
                raise
            os.makedirs(os.path.dirname(path), exist_ok=True)
            continue
        with contextlib.suppress(OSError):  # a file system without locks: nobody cleans there
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # cleaned up between the two calls


def publish(temporary: str, final: str, may_replace: Callable[[], None]) -> None:
    _make_folders(os.path.dirname(final))
    if not os.path.exists(final):
        os.replace(temporary, final)
    elif size_bytes(final) == size_bytes(temporary) and (
        file_crc32c(final) == file_crc32c(temporary)
    ):
        delete(temporary)
    else:
        may_replace()
        os.replace(temporary, final)
    sync_path(os.path.dirname(final))


def write(root: str, path: str, data: bytes, may_replace: Callable[[], None], synced: bool) -> None:
    final = os.path.join(root, path)
    _make_folders(os.path.dirname(final))
    if os.path.exists(final):
        if holds(final, data):
            if synced:
                sync_path(final)
                sync_path(os.path.dirname(final))
            return
        may_replace()
    with _temporary(root, path, data, synced) as temporary:
        os.replace(temporary, final)
    if synced:
        sync_path(os.path.dirname(final))


def sync_all(root: str, paths: Sequence[str]) -> None:
    """Makes files below root, and all names on the way to them, survive a power failure."""
    folders = {""}
    for path in paths:
        while path := os.path.dirname(path):
            folders.add(path)
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:  # one flush of the disk serves many files
        for _ in pool.map(lambda path: sync_path(os.path.join(root, path)), [*paths, *folders]):
            pass


def create(root: str, path: str, data: bytes) -> bool:
    final = os.path.join(root, path)
    _make_folders(os.path.dirname(final))
    with _temporary(root, path, data, synced=True) as temporary:
        try:
            os.link(temporary, final)  # unlike a rename, a link never replaces
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not _create_without_links(temporary, final):
                return False
    sync_path(os.path.dirname(final))
    return True


def _create_without_links(temporary: str, final: str) -> bool:
    """For file systems that know no hard links: a lock on the folder decides who renames."""
    with _locked(os.path.dirname(final)):
        if os.path.exists(final):
            return False
        os.replace(temporary, final)
        return True


def exchange(root: str, path: str, old: bytes, new: bytes) -> bool:
    final = os.path.join(root, path)
    with _temporary(root, path, new, synced=True) as temporary, _locked(os.path.dirname(final)):
        if not holds(final, old):
            return False
        os.replace(temporary, final)
    sync_path(os.path.dirname(final))
    return True


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """One at a time in a folder. The system drops the lock of a process that dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(root: str, path: str, data: bytes, synced: bool) -> Iterator[str]:
    """A temporary file with some content, locked; gone when the block ends, unless renamed."""
    temporary = temporary_path(root, path)
    try:
        with open_new(temporary) as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
            yield temporary
    finally:
        delete(temporary)  # on a full disk it would be in the way of the next attempt


def _make_folders(folder: str) -> None:
    """Makes a folder and those above it; their names survive a power failure."""
    folder = os.path.abspath(folder)
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder) or "."
    _make_folders(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    sync_path(above)


def sync_path(path: str) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def delete_tree(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(FileNotFoundError):  # somebody else deletes it too
            shutil.rmtree(path)
    else:
        delete(path)


def delete_dead(root: str) -> list[str]:
    """Deletes temporary files whose makers are gone; those of live ones are locked."""
    removed = []
    folder = os.path.join(root, TEMPORARY)
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):  # somebody else may just have cleaned up
        names = sorted(os.listdir(folder))
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or os.path.islink(path):
            continue
        with contextlib.suppress(OSError):  # locked, or gone, or on a file system without locks
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
                removed.append(f"{TEMPORARY}/{name}")
            finally:
                os.close(descriptor)
    with contextlib.suppress(OSError):  # not there, or in use
        os.rmdir(folder)
    return removed


def fetch(folder: str, names: Sequence[str], target: str) -> None:
    for name in names:
        os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
        shutil.copyfile(os.path.join(folder, name), os.path.join(target, name))
