"""Writing pictures as a tree of files: each is published as it comes, whole."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from transforms import storage
from transforms.picture_files import CODECS
from transforms.records import Encoded, Record
from transforms.shard_report import FileEntry

_UPLOADS = ThreadPoolExecutor(16, "upload")  # of all shards of the process
_UNDER_WAY = 64  # of one shard


class PictureFiles:
    """The pictures of one attempt at a shard, OUT/<kind>/<output name>.<format>.

    Among objects each one is a request, so that many are under way at once; their errors are raised
    by a later call.
    """

    def __init__(
        self,
        root: str,
        kind: str,
        may_replace: Callable[[], None],
        place: Callable[[str, str], str],
    ) -> None:
        self._root = root
        self._place = place
        self._kinds = (kind, "confidence")
        self._may_replace = may_replace
        self._remote = storage.is_remote(root)
        self._pending: deque[Future[None]] = deque()
        self._files: list[FileEntry] = []
        self._failed: list[str] = []

    def write(self, record: Record, outputs: Mapping[str, Encoded]) -> None:
        """Raises OSError."""
        for kind, picture in outputs.items():
            self._add(f"{kind}/{record.output_name}.{picture.format}", picture.data)

    def _add(self, name: str, data: bytes) -> None:
        """Writes a file, or has it written, and notes it."""
        crc32c = storage.crc32c(data)
        path = self._place(name, crc32c)
        if self._remote:
            while len(self._pending) >= _UNDER_WAY:
                self._pending.popleft().result()
            self._pending.append(_UPLOADS.submit(self._write, path, data))
        else:
            self._write(path, data)
        self._files.append(FileEntry(path, len(data), crc32c))

    def keep(self, files: Sequence[FileEntry]) -> None:
        """Takes pictures that are there already."""
        self._files.extend(files)

    def _write(self, path: str, data: bytes) -> None:
        storage.write_unsynced(self._root, path, data, self._may_replace)

    def fail(self, record: Record) -> None:
        """Notes a record without pictures: an attempt that died may have had luck with it."""
        self._failed.append(record.output_name)

    def publish(self, may_replace: Callable[[], None]) -> list[FileEntry]:
        """Waits for all of them. Raises OSError."""
        while self._pending:
            self._pending.popleft().result()
        storage.sync_all(self._root, [file.path for file in self._files])
        return list(self._files)

    def committed(self) -> None:
        """Deletes pictures of failed records that an earlier attempt left."""
        names = {
            f"{kind}/{name}.{extension}"
            for name in self._failed
            for kind in self._kinds
            for extension in (*CODECS, "tif")
        }
        names.difference_update(file.path for file in self._files)
        for _ in _UPLOADS.map(storage.delete, [f"{self._root}/{name}" for name in names]):
            pass

    def discard(self) -> None:
        """Waits for what is under way, so that nothing is written after the attempt."""
        for future in self._pending:
            future.cancel()
        for future in self._pending:
            if not future.cancelled():
                future.exception()
