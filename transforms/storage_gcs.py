"""gs://: objects of Google Cloud Storage, by google-cloud-storage.

There is no rename and no folder. An object appears whole, at the end of its upload, so that a dead
attempt leaves nothing to see: what it had sent is forgotten by the service after a week. Every
write names the generation that it replaces (0: none), which makes all of these safe to repeat:

    create     only if there is no such object. When the answer to a stored request was lost, the
               repeated one is refused (412); the checksum then tells whether it is ours.
    replace    only the generation that was looked at; a later one is looked at again first.

Checksums (crc32c) are checked by the service before an upload counts, and here after a download.
Requests that fail for a while (408, 429, 5xx, broken or stalled connections) are repeated with
growing waits until a deadline; it counts from the last time that the bucket answered, so that a
process whose storage is gone ends soon, however much it still wants.
"""

import base64
import contextlib
import errno
import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple

import google_crc32c
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud.storage import transfer_manager

from transforms import scratch
from transforms.gcs_calls import call, client, os_error, transient
from transforms.gcs_reader import Reader

_CHUNK_BYTES = 16 << 20  # of a resumable upload, in memory
_THREADS = 16
_TRIES = 20  # against others that replace an object all the time
_START_S = 10.0  # for the checks at the start
_RETRY_S = 60.0  # for one request within an upload or a fetch


class Facts(NamedTuple):
    """What the service says of an object."""

    generation: int
    size_bytes: int
    crc32c: str


def check(path: str, writes: bool) -> None:
    """Lists, and creates and deletes a small object. Raises OSError within seconds."""
    bucket, name = _split(path)
    call(
        path,
        lambda: next(iter(client().list_blobs(bucket, prefix=name, max_results=1, retry=None)), 0),
        _START_S,
    )
    if writes:
        trial = _blob(f"{path}/_tmp/check-{secrets.token_hex(8)}")
        call(path, lambda: trial.upload_from_string(b"", retry=None), _START_S)
        with contextlib.suppress(api.NotFound):
            call(path, lambda: trial.delete(retry=None), _START_S, refused=(api.NotFound,))


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """See storage.list_files. Names that are no paths have a size of -1."""
    for name, size in _list(f"{folder}/"):
        parts = name.split("/")
        if not parts[-1] or any(part.startswith(".") for part in parts):
            continue  # what consoles make for an empty folder, and hidden ones
        yield name, size if all(parts) else -1


def _list(prefix: str) -> Iterator[tuple[str, int]]:
    """Names behind a prefix, with sizes, in the order of their code points, page by page."""
    bucket, begin = _split(prefix)
    token: str | None = None
    while True:

        def page(token: str | None = token) -> tuple[list[tuple[str, int]], str | None]:
            blobs = client().list_blobs(
                bucket,
                prefix=begin,
                page_token=token,
                fields="items(name,size),nextPageToken",
                retry=None,
            )
            found = [(blob.name[len(begin) :], int(blob.size)) for blob in next(blobs.pages, ())]
            return found, blobs.next_page_token

        found, token = call(prefix, page)
        yield from found
        if token is None:
            return


def is_file(path: str) -> bool:
    return _split(path)[1] != "" and _facts(path) is not None


def is_folder(path: str) -> bool:
    bucket, name = _split(f"{path}/")

    def first() -> bool:
        found = client().list_blobs(bucket, prefix=name, max_results=1, retry=None)
        return next(iter(found), None) is not None

    return call(path, first)


def size_bytes(path: str) -> int:
    return _there(path).size_bytes


def file_crc32c(path: str) -> str:
    """As the service computed it, without a download."""
    return _there(path).crc32c


def stamp(path: str) -> tuple[int, str, str, float]:
    if (blob := _reloaded(path)) is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", path)
    facts = _facts_of(blob)
    return facts.size_bytes, facts.crc32c, str(facts.generation), blob.updated.timestamp()


def open_read(path: str) -> IO[bytes]:
    """Reads ahead by parts in parallel; all of one generation, checked at the end."""
    facts = _there(path)
    reader = Reader(path, lambda: _blob(path, facts.generation), facts.size_bytes, facts.crc32c)
    return io.BufferedReader(reader, 1 << 20)


def read_range(path: str, start: int, size: int) -> bytes:
    blob = _blob(path)
    data: bytes = call(
        path,
        lambda: blob.download_as_bytes(
            start=start, end=start + size - 1, raw_download=True, checksum=None, retry=None
        ),
    )
    return data


def read_bytes(path: str) -> bytes:
    blob = _blob(path)
    data: bytes = call(
        path,
        lambda: blob.download_as_bytes(raw_download=True, checksum="crc32c", retry=None),
    )
    return data


def holds(path: str, data: bytes) -> bool:
    facts = _facts(path)
    return facts is not None and facts[1:] == _content(data)


def temporary_path(root: str, name: str) -> str:
    """On this machine's disk: what is uploaded is whole and its checksum known beforehand."""
    return os.path.join(scratch.folder(), f"{os.path.basename(name)[-48:]}.{secrets.token_hex(8)}")


def publish(temporary: str, final: str, may_replace: Callable[[], None]) -> None:
    with open(temporary, "rb") as file:
        value = 0
        while chunk := file.read(1 << 20):
            value = google_crc32c.extend(value, chunk)
        size = file.tell()

        def upload(generation: int) -> None:
            blob = _blob(final)
            blob.chunk_size = _CHUNK_BYTES
            blob.upload_from_file(
                file,
                rewind=True,
                size=size,
                if_generation_match=generation,
                checksum="crc32c",
                crc32c_checksum_value=base64.b64encode(value.to_bytes(4, "big")).decode(),
                retry=Retry(predicate=transient, initial=0.2, maximum=10.0, timeout=_RETRY_S),
            )

        found = _facts(final)  # a large upload is not begun for nothing
        _replace(final, found, (size, f"{value:08x}"), upload, may_replace)
    os.unlink(temporary)


def write(root: str, path: str, data: bytes, may_replace: Callable[[], None], synced: bool) -> None:
    final = f"{root}/{path}"

    def upload(generation: int) -> None:
        _upload(final, data, generation)

    _replace(final, None, _content(data), upload, may_replace)


def _replace(
    path: str,
    found: Facts | None,
    content: tuple[int, str],
    upload: Callable[[int], None],
    may_replace: Callable[[], None],
) -> None:
    """Uploads unless the object is so already; never over a generation that was not looked at.

    Args:
        found: what is there, None for nothing, or not known.
        content: size in bytes and crc32c of what is to be there.
        may_replace: asked after the look and before the upload; raises if others go first.
    """
    for _ in range(_TRIES):
        if found is not None:
            if found[1:] == content:
                return
            may_replace()
        generation = 0 if found is None else found.generation
        try:
            call(path, lambda: upload(generation), refused=(api.PreconditionFailed,))  # noqa: B023
            return
        except api.PreconditionFailed:  # another's, or ours, whose answer was lost
            found = _facts(path)
    raise OSError(errno.EBUSY, f"it was replaced by others {_TRIES} times meanwhile", path)


def sync_all(root: str, paths: Sequence[str]) -> None:
    """Nothing to do: what the service has answered for is stored."""


def create(root: str, path: str, data: bytes) -> bool:
    final = f"{root}/{path}"
    for _ in range(_TRIES):
        tries = 0

        def upload() -> None:
            nonlocal tries
            tries += 1
            _upload(final, data, 0)

        try:
            call(final, upload, refused=(api.PreconditionFailed,))
            return True
        except api.PreconditionFailed:
            found = _facts(final)
        if found is not None:  # only a repeated request can have been stored before by us
            return tries > 1 and found[1:] == _content(data)
    raise OSError(errno.EBUSY, f"it came and went {_TRIES} times", final)


def exchange(root: str, path: str, old: bytes, new: bytes) -> bool:
    final = f"{root}/{path}"
    for tries in range(_TRIES):
        found = _facts(final)
        if tries and found is not None and found[1:] == _content(new):
            return True  # stored, though the answer to it was lost
        if found is None or found[1:] != _content(old):
            return False
        generation = found.generation
        with contextlib.suppress(api.PreconditionFailed):
            call(
                final,
                lambda: _upload(final, new, generation),  # noqa: B023
                refused=(api.PreconditionFailed,),
            )
            return True
    raise OSError(errno.EBUSY, f"it was replaced by others {_TRIES} times meanwhile", final)


def delete(path: str) -> None:
    blob = _blob(path)
    with contextlib.suppress(api.NotFound):  # also when the answer to a first request was lost
        call(path, lambda: blob.delete(retry=None), refused=(api.NotFound,))


def delete_tree(path: str) -> None:
    """Object by object: who looks meanwhile sees a part of them."""
    with ThreadPoolExecutor(_THREADS) as pool:
        names = [f"{path}/{name}" for name, _ in _list(f"{path}/")]
        for _ in pool.map(delete, [*names, path]):
            pass


def delete_dead(root: str) -> list[str]:
    """An upload that did not end is no object; only checks at the start and wishes to stop are."""
    left = [f"_tmp/{name}" for name, _ in _list(f"{root}/_tmp/")]
    for name in left:
        delete(f"{root}/{name}")
    return left


def fetch(folder: str, names: Sequence[str], target: str) -> None:
    pairs = []
    for name in names:
        facts, path = _there(f"{folder}/{name}"), os.path.join(target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pairs.append((_blob(f"{folder}/{name}", facts.generation), path))
    answers = transfer_manager.download_many(
        pairs,
        download_kwargs={
            "raw_download": True,
            "checksum": "crc32c",
            "retry": Retry(predicate=transient, initial=0.2, maximum=10.0, timeout=_RETRY_S),
        },
        worker_type=transfer_manager.THREAD,
    )
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, Exception):
            raise os_error(answer, f"{folder}/{name}") from answer


def _upload(path: str, data: bytes, generation: int) -> None:
    _blob(path).upload_from_string(
        data,
        content_type="application/octet-stream",
        if_generation_match=generation,
        checksum="crc32c",
        retry=None,
    )


def _facts(path: str) -> Facts | None:
    blob = _reloaded(path)
    return None if blob is None else _facts_of(blob)


def _facts_of(blob: Any) -> Facts:
    crc = base64.b64decode(blob.crc32c or "").hex()
    return Facts(int(blob.generation), int(blob.size), crc)


def _reloaded(path: str) -> Any | None:
    """A blob with all that the service says of it, None for no such object."""
    blob = _blob(path)
    try:
        call(path, lambda: blob.reload(retry=None), refused=(api.NotFound,))
    except api.NotFound as error:
        if "bucket does not exist" in str(error):
            raise os_error(error, path) from error
        return None
    return blob


def _there(path: str) -> Facts:
    facts = _facts(path)
    if facts is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", path)
    return facts


def _content(data: bytes) -> tuple[int, str]:
    return len(data), f"{google_crc32c.value(data):08x}"


def _blob(path: str, generation: int | None = None) -> Any:
    bucket, name = _split(path)
    return client().bucket(bucket).blob(name, generation=generation)


def _split(path: str) -> tuple[str, str]:
    bucket, _, name = path.partition("://")[2].partition("/")
    return bucket, name
