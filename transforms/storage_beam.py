"""All other places that Beam's FileSystems can open: s3://, hdfs://, azfs://.

Guarantees are weaker than elsewhere, for these interfaces know no conditions: a file is uploaded
from a whole one on this machine's disk, under a hidden name, and renamed; on hdfs:// one that is
replaced is gone for a moment. "Create" looks before it writes. So two attempts at one shard at the
same moment may both write; both write the same bytes, and the later commit record stays.
"""

import contextlib
import errno
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import google_crc32c
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from models.errors import UserError
from transforms import paths, scratch

_COPY_BYTES = 1 << 20
_RENAMES_OVER = ("s3", "azfs")  # as a copy on the service, which replaces in one step


def check(path: str, writes: bool) -> None:
    """Lists, and writes and deletes a small file. Raises UserError."""
    try:
        FileSystems.get_filesystem(path)
        is_folder(path)
        if writes:
            trial = f"{path}/_tmp/check-{secrets.token_hex(8)}"
            _upload(io.BytesIO(b""), trial)
            delete(trial)
    except (ValueError, ImportError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(
            f"{path}: Beam cannot open {paths.scheme(path)}:// here: {reason}. s3:// takes "
            "apache-beam[aws] and its flags --s3_..., azfs:// apache-beam[azure], hdfs:// the "
            "flags --hdfs_...; or give a local path or gs://"
        ) from error


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    for path, size in sorted(_match(f"{_escape(folder)}/**")):
        name = path[len(folder) + 1 :]
        if not any(part.startswith(".") for part in name.split("/")):
            yield name, size


def is_file(path: str) -> bool:
    return any(found == path for found, _ in _match(_escape(path)))


def is_folder(path: str) -> bool:
    return next(_match(f"{_escape(path)}/**", limit=1), None) is not None


def size_bytes(path: str) -> int:
    for found, size in _match(_escape(path)):
        if found == path:
            return size
    raise FileNotFoundError(errno.ENOENT, "there is no such file", path)


def open_read(path: str) -> IO[bytes]:
    size_bytes(path)  # raises what says that it is not there
    with _as_os_error(path):
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)  # type: ignore[no-any-return]


def read_range(path: str, start: int, size: int) -> bytes:
    with open_read(path) as file, _as_os_error(path):
        file.seek(start)
        return file.read(size)


def read_bytes(path: str) -> bytes:
    with open_read(path) as file, _as_os_error(path):
        parts = []
        while part := file.read(_COPY_BYTES):
            parts.append(part)
    return b"".join(parts)


def holds(path: str, data: bytes) -> bool:
    return is_file(path) and size_bytes(path) == len(data) and read_bytes(path) == data


def file_crc32c(path: str) -> str:
    value = 0
    with open_read(path) as file, _as_os_error(path):
        while part := file.read(_COPY_BYTES):
            value = google_crc32c.extend(value, part)
    return f"{value:08x}"


def stamp(path: str) -> tuple[int, str, str, float]:
    for found in FileSystems.match([_escape(path)])[0].metadata_list:
        if found.path == path:
            changed_s = float(found.last_updated_in_seconds or 0)
            return found.size_in_bytes, "", str(changed_s or ""), changed_s
    raise FileNotFoundError(errno.ENOENT, "there is no such file", path)


def temporary_path(root: str, name: str) -> str:
    return os.path.join(scratch.folder(), f"{os.path.basename(name)[-48:]}.{secrets.token_hex(8)}")


def publish(temporary: str, final: str, may_replace: Callable[[], None]) -> None:
    if is_file(final):
        may_replace()
    with open(temporary, "rb") as file:
        _upload(file, final)
    os.unlink(temporary)


def write(root: str, path: str, data: bytes, may_replace: Callable[[], None], synced: bool) -> None:
    final = f"{root}/{path}"
    if is_file(final):
        if holds(final, data):
            return
        may_replace()
    _upload(io.BytesIO(data), final)


def sync_all(root: str, paths: Sequence[str]) -> None:
    """Nothing to do: what was closed is stored."""


def create(root: str, path: str, data: bytes) -> bool:
    final = f"{root}/{path}"
    if is_file(final):
        return False
    _upload(io.BytesIO(data), final)
    return True


def exchange(root: str, path: str, old: bytes, new: bytes) -> bool:
    """Looked at first, like all writes here: two at the same moment may both write."""
    final = f"{root}/{path}"
    if not holds(final, old):
        return False
    _upload(io.BytesIO(new), final)
    return True


def delete(path: str) -> None:
    if is_file(path):
        with _as_os_error(path):
            FileSystems.delete([path])


def delete_tree(path: str) -> None:
    found = [found for found, _ in _match(f"{_escape(path)}/**")]
    with _as_os_error(path):
        FileSystems.delete(found)
    delete(path)


def delete_dead(root: str) -> list[str]:
    """Checks at the start and wishes to stop; where files are renamed, those lie elsewhere."""
    left = [path for path, _ in _match(f"{_escape(root)}/_tmp/**")]
    if left:
        with _as_os_error(root):
            FileSystems.delete(left)
    return [path[len(root) + 1 :] for path in left]


def fetch(folder: str, names: Sequence[str], target: str) -> None:
    for name in names:
        path = os.path.join(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(read_bytes(f"{folder}/{name}"))


def _upload(source: IO[bytes], path: str) -> None:
    """Writes a whole file under a hidden name, and renames it.

    Under its own name it could not be given up: Beam's files publish what they have when they are
    closed, and Python closes what nobody holds.
    """
    head, _, name = path.rpartition("/")
    temporary = f"{head}/.{name[-48:]}.{secrets.token_hex(8)}"
    with _as_os_error(path):
        with contextlib.suppress(Exception):  # it is there, or the place has no folders
            FileSystems.mkdirs(head)
        file = FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED)
        shutil.copyfileobj(source, file, _COPY_BYTES)
        file.close()
        if paths.scheme(path) not in _RENAMES_OVER and is_file(path):
            FileSystems.delete([path])
        FileSystems.rename([temporary], [path])
    if (found := size_bytes(path)) != source.tell():
        raise OSError(errno.EIO, f"{source.tell()} bytes were written, {found} are there", path)


def _match(pattern: str, limit: int | None = None) -> Iterator[tuple[str, int]]:
    with _as_os_error(pattern):
        (result,) = FileSystems.match([pattern], None if limit is None else [limit])
        for metadata in result.metadata_list:
            yield metadata.path, int(metadata.size_in_bytes)


def _escape(path: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


@contextlib.contextmanager
def _as_os_error(path: str) -> Iterator[Any]:
    """Beam's file systems raise what their libraries raise."""
    try:
        yield
    except BeamIOError as error:
        details = map(str, (error.exception_details or {}).values())
        text = " ".join(" ".join([str(error), *details]).split())
        raise OSError(errno.EIO, text, path) from error
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", path) from error
