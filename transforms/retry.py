"""Trying again what failed in a committed shard, and merging it in: `--retry_failed`.

A commit record is changed by nothing else, and always as a whole: from one that describes complete
files to one that describes complete files. The steps, with what a crash after each leaves:

    1  the merged files are written to OUT/retries/<record>.<file>/..., named by the checksums of
       the commit record that they are to replace and of themselves. A crash: the shard is what it
       was; the next try takes equal files as they are.
    2  the commit record is exchanged, if it still is the one that was read, for one that lists
       these files. From now on the shard is the new one, whoever looks.
    3  the files are copied to their usual places. A crash: the same as after 2, and whoever meets
       the shard next, any run with any flags, does 3 to 5 again.
    4  the commit record is exchanged for one that lists the usual places.
    5  the files in OUT/retries are deleted. A crash: `verify --clean` deletes them, for nobody can
       ever commit them: the record that they were to replace is gone.

Of two that try again at once one wins step 2; the other takes its report. A zombie that comes late
finds another record, and can do nothing. Records that are good are copied from the committed files,
whose checksums are looked at first; the model does not see them.
"""

import dataclasses
import errno
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.clock import Clock
from transforms.commits import commit_path, read_commit
from transforms.counters import merge_distributions
from transforms.failures import Failure, Kept, Problem
from transforms.formats.base import BadRecord
from transforms.inputs import Part, Shard
from transforms.records import Record, Result
from transforms.shard_report import FileEntry, ShardReport, merge_highlights
from transforms.sink import (
    PictureRecords,
    ShardWriter,
    Sink,
    is_written,
    read_written,
    records_path,
)
from transforms.sink_files import PictureFiles
from transforms.sink_folder import PictureFolder
from transforms.sums import add, plain

RETRIES = "retries"
_REST = "rest_lost"


def is_wanted(report: ShardReport, reasons: frozenset[str]) -> bool:
    """Whether a committed shard has records that failed for one of the reasons."""
    return not reasons.isdisjoint(report.failed_by_reason)


def usual_path(path: str) -> str:
    """Where a file belongs in the end, for one in OUT/retries as for any other."""
    return path.split("/", 2)[-1] if path.startswith(f"{RETRIES}/") else path


def replaces(path: str) -> str:
    """crc32c of the commit record that a file in OUT/retries is to replace; "" for other files."""
    top, _, rest = path.partition("/")
    return rest.partition(".")[0] if top == RETRIES else ""


def settled(root: str, report: ShardReport) -> ShardReport:
    """Takes the files of a shard to their usual places, where a retry has left them elsewhere.

    Returns:
        The report of the shard as it is now.

    Raises:
        OSError: the storage failed; the shard is what it was.
    """
    path = commit_path(report.shard)
    while any(replaces(file.path) for file in report.files):
        old = storage.read_bytes(os.path.join(root, path))
        report = ShardReport.from_json(old)
        away = [file.path for file in report.files if replaces(file.path)]

        def may_replace(old: bytes = old) -> None:
            if not storage.holds(os.path.join(root, path), old):
                raise OSError(errno.ECANCELED, "another attempt was faster", path)

        try:
            for name in away:
                storage.copy(root, name, usual_path(name), may_replace)
        except OSError:
            if storage.holds(os.path.join(root, path), old):
                raise
            continue  # another one has settled it meanwhile, and tidied up
        files = tuple(dataclasses.replace(f, path=usual_path(f.path)) for f in report.files)
        new = dataclasses.replace(report, files=files)
        if storage.exchange(root, path, old, new.to_json()):
            for name in away:
                storage.delete_tree(os.path.join(root, *name.split("/")[:2]))
            return new
    return report


class RetryWriter(ShardWriter):
    """Writes a committed shard once more: what it had, but for the records that are tried again.

    `shard` is the one to work on: only its part is.
    """

    def __init__(self, sink: Sink, shard: Shard, clock: Clock) -> None:
        """Reads what is committed.

        Raises:
            OSError: the storage failed, or the files are not those that were committed.
        """
        self._old_record = storage.read_bytes(os.path.join(sink.root, commit_path(shard.name)))
        self._old = ShardReport.from_json(self._old_record)
        self._old_rows = _read_rows(sink, self._old)
        indices = frozenset(
            row["index"]
            for row in self._old_rows
            if row["status"] == "failed" and row["reason"] in sink.retry
        )
        last = self._old_rows[-1]
        self._goes_on = last["reason"] == _REST and last["index"] in indices
        part = Part(indices, len(self._old_rows) if self._goes_on else None)
        super().__init__(sink, dataclasses.replace(shard, part=part), clock)
        self._old_pictures = _OldPictures(sink, self._old)
        self._base = storage.crc32c(self._old_record)
        self._changed = False
        self._repeated = 0

    def write(self, record: Record, result: Result | Failure) -> None:
        """Adds a record that was tried again, or one that is kept. Raises OSError."""
        old = self._old_rows[record.index] if record.index < len(self._old_rows) else None
        if old is None and not self._goes_on:
            if self._old_rows[-1]["reason"] == _REST:
                return  # not asked for
            raise self._other_input(f"more than {len(self._old_rows)} records")
        if not isinstance(result, Kept):
            if old is None or not isinstance(result, Failure) or _problem(old) != _told(result):
                self._changed = True
            super().write(record, result)
            return
        assert old is not None, "only what was committed is kept"
        self._repeated += record.twice
        if old["status"] == "ok":
            if self.shard.is_examples and record.bytes_in != old["bytes_in"]:
                raise self._other_input(f"other bytes in record {record.index}")
            self._old_pictures.keep(record, self._pictures)
            names = {"key": record.key, "source": record.source}
            old = old | {name: storage.as_text(value) for name, value in names.items()}
        else:
            problem = _problem(old)
            self._failed[problem.reason] = self._failed.get(problem.reason, 0) + 1
            self._highlights.add_failure(dataclasses.replace(record, key=old["key"]), problem)
        self._bytes_in += old["bytes_in"]
        self._rows.append(old)
        self._features.append(record.features)

    def commit(self) -> ShardReport:
        """Exchanges the shard for the merged one (see above).

        Returns:
            The report of the shard as it is now: the old one where nothing has changed.

        Raises:
            OSError: the storage failed or the input is another; the shard is what it was.
        """
        missing = self._old_rows[len(self._rows) :]
        if any(row["reason"] != _REST or row["index"] not in self._part for row in missing):
            raise self._other_input(f"{len(self._rows)} records")
        if not (self._changed or missing):
            return self._old
        self._sink.check_owner()
        away = self._report(self._publish())
        path = commit_path(self.shard.name)
        if not storage.exchange(self._sink.root, path, self._old_record, away.to_json()):
            self._sink.check_owner()
        now = read_commit(self._sink.root, self.shard.name, self._sink.run)
        if now is None:
            raise OSError(errno.ECANCELED, "somebody has deleted this shard", path)
        for file in {*away.files} - {*now.files}:  # of one that was too late
            if replaces(file.path):
                storage.delete(os.path.join(self._sink.root, file.path))
        return settled(self._sink.root, now)

    @property
    def _part(self) -> Part:
        assert self.shard.part is not None
        return self.shard.part

    def _report(self, files: list[FileEntry]) -> ShardReport:  # type: ignore[override]
        new = super()._report(files)
        before = {n: v for n, v in self._old.sums.items() if n != "repeated_names"}
        repeated = {"repeated_names": self._repeated} if self._repeated else {}
        clock = dict(new.clock)
        clock["microseconds"] = add(self._old.clock["microseconds"], clock["microseconds"])
        clock["distributions"] = merge_distributions(
            self._old.clock.get("distributions", {}), clock["distributions"]
        )
        clock["started"] = self._old.clock["started"]
        return dataclasses.replace(
            new,
            sums=plain(add(add(before, new.sums), repeated)),
            highlights=merge_highlights(self._old.highlights, new.highlights)
            | {"failures": new.highlights["failures"]},
            clock=clock,
        )

    def _place(self, path: str, crc32c: str) -> str:
        return f"{RETRIES}/{self._base}.{crc32c}/{path}"

    def _may_replace(self) -> None:
        """Only an equal one has the same name."""

    def _check_complete(self) -> None:
        """Done by commit."""

    def _other_input(self, found: str) -> OSError:
        return OSError(
            errno.EINVAL,
            f"the input has {found}, not those that the run read; only what failed may be mended. "
            "--overwrite does all of it anew",
            self.shard.root,
        )


class _OldPictures:
    """The committed pictures of a shard, for records in their order."""

    def __init__(self, sink: Sink, old: ShardReport) -> None:
        self._files: dict[str, list[FileEntry]] = {}
        self._examples: Iterator[bytes | BadRecord] = iter(())
        self._there: list[FileEntry] = []
        if is_written(sink.root, sink.kind, old.shard):
            self._examples = _read_examples(sink, old)
            self._there = [file for file in old.files if sink.as_files]
        for file in old.files:
            stem = os.path.splitext(file.path.partition("/")[2])[0]
            self._files.setdefault(stem, []).append(file)

    def keep(self, record: Record, pictures: PictureFolder | PictureRecords) -> None:
        if isinstance(pictures, PictureFiles) and record.output_name:
            pictures.keep(self._files[record.output_name])
            return
        example = next(self._examples)
        assert isinstance(example, bytes), "its checksum was right"
        if isinstance(pictures, PictureFolder):
            pictures.keep_example(record.index, example, self._there)
        else:
            pictures.keep(example)


def _read_examples(sink: Sink, old: ShardReport) -> Iterator[bytes | BadRecord]:
    prefix = f"{sink.kind}/{old.shard}"
    for file in old.files:
        if file.path.startswith((f"{prefix}.", f"{prefix}/")):
            _checked(sink, old, file.path)
    yield from read_written(sink.root, sink.kind, old.shard)


def _read_rows(sink: Sink, old: ShardReport) -> list[dict[str, Any]]:
    path = _checked(sink, old, records_path(old.shard))
    table = pq.read_table(pa.BufferReader(storage.read_bytes(path)))
    rows: list[dict[str, Any]] = table.drop_columns(
        [name for name in table.column_names if name == "features"]
    ).to_pylist()
    return rows


def _checked(sink: Sink, old: ShardReport, name: str) -> str:
    """The path of a file of the shard, if it is what was committed. Raises OSError."""
    path = os.path.join(sink.root, name)
    (entry,) = (file for file in old.files if file.path == name)
    if storage.file_crc32c(path) != entry.crc32c:
        raise OSError(
            errno.EBADMSG,
            f"it is not what was committed; delete {commit_path(old.shard)} to make it anew",
            path,
        )
    return path


def _problem(row: dict[str, Any]) -> Problem:
    return Problem(row["stage"] or "", row["reason"] or "", row["message"] or "")


def _told(failure: Failure) -> Problem:
    return Problem(failure.stage, failure.reason, storage.as_text(failure.message))
