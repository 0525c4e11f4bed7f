"""Writing a shard and committing it.

A shard passes through three states:

    open        files grow under temporary names in OUT/_tmp, nothing of it is visible
    published   complete files take their final names; readers that go by OUT/metrics ignore them
    committed   OUT/metrics/<shard>.json exists. Created once, last, and never changed

An attempt that dies leaves temporary files, or published files without a commit record; the next
attempt writes the same bytes again. An attempt that comes late, a zombie, finds the commit record
and publishes nothing. Before it replaces a file by a different one, it looks whether the shard is
committed meanwhile or OUT has gone to another run. Its own commit record is refused, and the first
one's is its answer. docs/storage.md tells more.
"""

import contextlib
import dataclasses
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, cast

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.clock import Clock
from transforms.commits import commit_path, read_commit, run_in
from transforms.examples import FEATURES, example_of
from transforms.failures import Failure, Problem
from transforms.features import feature_column
from transforms.formats import folder
from transforms.formats.base import BadRecord
from transforms.formats.folder import TABLE
from transforms.formats.registry import FOLDER, WRITERS, read_shard_file
from transforms.inputs import Shard
from transforms.records import Encoded, Extras, Record, Result
from transforms.shard_report import FileEntry, Highlights, ShardReport
from transforms.sink_folder import PictureFolder
from transforms.sums import Sums, add, log_bin, plain

RECORDS = "records"
_TRIES = 5

_COMMON_COLUMNS = [
    pa.field("index", pa.int64()),
    pa.field("key", pa.string()),
    pa.field("source", pa.string()),
    pa.field("output_name", pa.string()),
    pa.field("status", pa.string()),
    pa.field("stage", pa.string()),
    pa.field("reason", pa.string()),
    pa.field("message", pa.string()),
    pa.field("bytes_in", pa.int64()),
]


def picture_path(sink: "Sink", shard_name: str) -> str:
    """The file of a shard's pictures, relative to OUT; of a sink that has one."""
    return f"{sink.kind}/{shard_name}{WRITERS[sink.format].extension}"


def read_written(root: str, kind: str, shard_name: str) -> Iterator[bytes | BadRecord]:
    """The serialized tf.Examples of a shard that was written to OUT/<kind>, in whatever format.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    if (found := _written(root, kind, shard_name)) is None:
        path = os.path.join(root, kind, shard_name)
        raise FileNotFoundError(errno.ENOENT, "there is no file of this shard, in any format", path)
    path, name = found
    if name == FOLDER:
        yield from folder.read_examples(path, f"{FEATURES[kind]}/encoded")
    else:
        yield from read_shard_file(path, name)


def is_written(root: str, kind: str, shard_name: str) -> bool:
    """Whether there is something for `read_written`; else the shard is a part of a tree of files.

    Raises OSError.
    """
    return _written(root, kind, shard_name) is not None


def _written(root: str, kind: str, shard_name: str) -> tuple[str, str] | None:
    """Path and format of a shard that was written."""
    stem = os.path.join(root, kind, shard_name)
    for name, form in WRITERS.items():
        if storage.is_file(path := f"{stem}{form.extension}"):
            return path, name.removesuffix(".gz")
    return (stem, FOLDER) if storage.is_file(f"{stem}/{TABLE}") else None


def records_path(shard_name: str) -> str:
    """The table of a shard's records, relative to OUT."""
    return f"{RECORDS}/{shard_name}.parquet"


@dataclasses.dataclass(frozen=True)
class Sink:
    """Where shards go.

    Attributes:
        root: OUT.
        kind: what OUT is full of, "masks" or "images": the folder of the shards.
        format: of the shards, a key of WRITERS; or FOLDER for a tree of picture files,
            OUT/<kind>/<output name>.
        columns: of the records file, after the common ones.
        run: which run OUT belongs to, see run_digest; "" outside of runs.
        retry: reasons for which failed records of committed shards are tried again.
    """

    root: str
    kind: str
    format: str
    columns: pa.Schema
    run: str = ""
    retry: frozenset[str] = frozenset()

    @property
    def as_files(self) -> bool:
        """Whether it writes picture files."""
        return self.format == FOLDER

    def committed(self, shard: Shard) -> ShardReport | None:
        """The report of a shard that is committed, else None. Raises OSError, UserError."""
        return read_commit(self.root, shard.name, self.run)

    def may_replace(self, shard: Shard) -> None:
        """Raises OSError when a file of the shard must not be replaced by a different one."""
        self.check_owner()
        if self.committed(shard) is not None:
            raise OSError(errno.ECANCELED, "another attempt has committed this shard", shard.name)

    def check_owner(self) -> None:
        """Raises OSError when OUT has been given to another run."""
        if self.run and run_in(self.root) != self.run:
            raise OSError(errno.ECANCELED, "another run has taken over this folder", self.root)

    @contextlib.contextmanager
    def open(
        self, shard: Shard, clock: Clock, kind: "type[ShardWriter] | None" = None
    ) -> Iterator["ShardWriter"]:
        """A writer for one attempt. What it did not commit is gone when the block ends."""
        writer = (kind or ShardWriter)(self, shard, clock)
        try:
            yield writer
        finally:
            writer.discard()


class ShardWriter:
    """One attempt to write a shard. Takes results in order; `commit` makes them real."""

    def __init__(self, sink: Sink, shard: Shard, clock: Clock) -> None:
        self.shard = shard
        self._sink = sink
        self._clock = clock
        self._pictures: PictureFolder | PictureRecords = (
            PictureFolder(sink.root, sink.kind, shard.name, self._may_replace, self._place)
            if sink.as_files
            else PictureRecords(sink, shard, self._place)
        )
        self._rows: list[dict[str, Any]] = []
        self._features: list[bytes] = []
        self._sums: Sums = {}
        self._failed: dict[str, int] = {}
        self._extra_files: dict[str, bytes] = {}
        self._bytes_in = 0
        self._highlights = Highlights(shard.name)

    @property
    def read(self) -> int:
        return len(self._rows)

    @property
    def failed(self) -> int:
        return sum(self._failed.values())

    def write(self, record: Record, result: Result | Failure) -> None:
        """Adds a record: its pictures, its row, its share of the metrics. Raises OSError."""
        row: dict[str, Any] = {
            "index": record.index,
            "key": record.key,
            "source": record.source,
            "output_name": record.output_name or None,
            "bytes_in": record.bytes_in,
        }
        self._bytes_in += record.bytes_in
        if record.twice:
            self._sums = add(self._sums, {"repeated_names": 1})
        if isinstance(result, Failure):
            problem = Problem(result.stage, result.reason, result.message)
            row.update(status="failed", **problem._asdict())
            self._failed[problem.reason] = self._failed.get(problem.reason, 0) + 1
            self._highlights.add_failure(record, problem)
            self._pictures.fail(record)
        else:
            self._pictures.write(record, result.outputs)
            row.update(status="ok", **result.row)
            self._sums = add(self._sums, {**result.sums, "image_bytes": log_bin(record.bytes_in)})
            self._highlights.add(record, result.rank)
        texts = {name: storage.as_text(v) for name, v in row.items() if isinstance(v, str)}
        self._rows.append(row | texts)  # paths in them may be no UTF-8
        self._features.append(record.features)

    def add(self, extras: Extras) -> None:
        """Adds what the shard has besides its records."""
        self._extra_files.update(extras.files)
        self._sums = add(self._sums, extras.sums)

    def commit(self) -> ShardReport:
        """Publishes the files and creates the commit record.

        Returns:
            This attempt's report, or the report of the attempt that was first.

        Raises:
            OSError: the storage failed; nothing is committed.
        """
        self._check_complete()
        if (first := self._sink.committed(self.shard)) is not None:
            return first
        return self._create(self._report(self._publish()))

    def _check_complete(self) -> None:
        if self.shard.records not in (None, len(self._rows)):
            raise ValueError(f"{len(self._rows)} of {self.shard.records} records came through")

    def _publish(self) -> list[FileEntry]:
        with self._clock("commit"):
            files = self._pictures.publish(self._may_replace)
            files += [self._write(path, data) for path, data in self._extra_files.items()]
            files.append(self._write_records())
        return files

    def _report(self, files: Sequence[FileEntry]) -> ShardReport:
        return ShardReport(
            shard=self.shard.name,
            run=self._sink.run,
            read=len(self._rows),
            written=len(self._rows) - self.failed,
            failed_by_reason=dict(sorted(self._failed.items())),
            bytes_in=self._bytes_in,
            bytes_out=sum(file.size_bytes for file in files),
            sums=plain(self._sums),
            highlights=self._highlights.to_dict(),
            files=tuple(files),
            clock={
                "started": round(self._clock.started, 3),
                "committed": round(time.time(), 3),
                "process": f"{socket.gethostname()}:{os.getpid()}",
                "microseconds": self._clock.microseconds(),
                "distributions": self._clock.distributions(),
            },
        )

    def _create(self, report: ShardReport) -> ShardReport:
        """Creates the commit record, or returns the one of the attempt that was first."""
        path = commit_path(self.shard.name)
        self._sink.check_owner()
        for _ in range(_TRIES):
            if storage.create_once(self._sink.root, path, report.to_json()):
                self._pictures.committed()
                return report
            first = read_commit(self._sink.root, self.shard.name)
            if first is not None and self._sink.run in ("", first.run):
                return first
            if first is not None:  # left by a zombie of a run that was overwritten
                self._sink.check_owner()
                storage.delete(os.path.join(self._sink.root, path))
        raise OSError(
            errno.EBUSY, "it comes and goes: something else writes and deletes files here", path
        )

    def _may_replace(self) -> None:
        self._sink.may_replace(self.shard)

    def _place(self, path: str, crc32c: str) -> str:
        """Where in OUT a file of the shard is written, by its path and content."""
        return path

    def discard(self) -> None:
        """Deletes what is left under temporary names."""
        self._pictures.discard()

    def _write_records(self) -> FileEntry:
        schema = pa.schema([*_COMMON_COLUMNS, *self._sink.columns])
        table = pa.Table.from_pylist(self._rows, schema=schema)
        if (features := feature_column(self._features)) is not None:
            table = table.append_column("features", features)
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        return self._write(records_path(self.shard.name), buffer.getvalue().to_pybytes())

    def _write(self, path: str, data: bytes) -> FileEntry:
        crc32c = storage.crc32c(data)
        path = self._place(path, crc32c)
        storage.write(self._sink.root, path, data, self._may_replace)
        return FileEntry(path, len(data), crc32c)


class PictureRecords:
    """One file of tf.Examples, in the format of the sink; grows under a temporary name."""

    def __init__(self, sink: Sink, shard: Shard, place: Callable[[str, str], str]) -> None:
        self._root = sink.root
        self._path = picture_path(sink, shard.name)
        self._place = place
        self._temporary = storage.temporary_path(sink.root, shard.name)
        self._file = _Measured(storage.open_new(self._temporary))
        folder = os.path.dirname(self._temporary)
        self._writer = WRITERS[sink.format].open_writer(cast(IO[bytes], self._file), folder)

    def write(self, record: Record, outputs: Mapping[str, Encoded]) -> None:
        self.keep(example_of(record, outputs))

    def keep(self, example: bytes) -> None:
        """Takes a serialized example as it is."""
        self._writer.write(example)

    def fail(self, record: Record) -> None:
        """A failed record has no example."""

    def publish(self, may_replace: Callable[[], None]) -> list[FileEntry]:
        self._writer.finish()
        self._file.sync()  # not closed yet: that would take its lock
        crc32c = f"{self._file.crc32c:08x}"
        path = self._place(self._path, crc32c)
        storage.publish(self._temporary, os.path.join(self._root, path), may_replace)
        self._file.close()
        return [FileEntry(path, self._file.size_bytes, crc32c)]

    def committed(self) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        try:
            self._writer.close()
            self._file.close()
        finally:  # a full disk, where closing fails, is where it matters most
            storage.delete(self._temporary)


class _Measured:
    """A file for writing, front to back, that knows the size and crc32c of what went through it."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size_bytes = 0
        self.crc32c = 0

    def write(self, data: bytes) -> int:
        self.size_bytes += len(data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        """Done by `sync`."""

    def sync(self) -> None:
        storage.sync(self._file)

    def close(self) -> None:
        self._file.close()
