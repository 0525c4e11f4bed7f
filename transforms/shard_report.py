"""The commit record of a shard: what was read, written, failed and measured, and which files."""

import dataclasses
import hashlib
import heapq
import json
from collections.abc import Mapping
from typing import Any

from transforms.failures import Problem
from transforms.records import Record
from transforms.sums import Sums, add

FORMAT = 1
_KEEP = 24  # pictures of each kind that a run remembers for its report
_KEEP_FAILURES = 5  # failures of each reason


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """One file of a shard: path relative to OUT, with its size and checksum."""

    path: str
    size_bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """What one shard adds to the run.

    Attributes:
        shard: its name.
        read, written: numbers of records; read = written + failed.
        failed_by_reason: numbers of failed records.
        bytes_in, bytes_out: of the encoded pictures read and of all files written.
        sums: the operator's metrics (see transforms/sums.py).
        highlights: records worth showing (see Highlights).
        files: all that belongs to the shard but the commit record itself.
        run: of which run: a digest of the configuration, "" outside of runs. A record with another
            one is stale: left by a run that was overwritten.
        clock: readings that differ from run to run: microseconds by stage, start and end.
        error: why the shard was not committed; None for a committed one.
    """

    shard: str
    read: int = 0
    written: int = 0
    failed_by_reason: Mapping[str, int] = dataclasses.field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    sums: Sums = dataclasses.field(default_factory=dict)
    highlights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: tuple[FileEntry, ...] = ()
    run: str = ""
    clock: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str | None = None

    @property
    def failed(self) -> int:
        return sum(self.failed_by_reason.values())

    def to_json(self) -> bytes:
        """The bytes of the commit record. Clock readings stand under one name, `clock`."""
        fields = {"format": FORMAT, **dataclasses.asdict(self)}
        del fields["error"]
        return json_lines(fields)

    @staticmethod
    def from_json(data: bytes) -> "ShardReport":
        """Raises ValueError when the bytes are no commit record of this format."""
        try:
            fields = json.loads(data)
            if fields.pop("format") != FORMAT:
                raise ValueError("it is of another version of pixelmill")
            files = tuple(FileEntry(**entry) for entry in fields.pop("files"))
            return ShardReport(**fields, files=files)
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise ValueError(f"it is no commit record: {error!r}") from error


class Highlights:
    """The few records of a shard that a report shows: least sure, random, and failed by reason.

    Each is the smallest k of something, so highlights merge exactly and in any order.
    """

    def __init__(self, shard: str) -> None:
        self._shard = shard
        self._unsure: list[list[Any]] = []
        self._sample: list[list[Any]] = []
        self._failures: dict[str, list[list[Any]]] = {}

    def add(self, record: Record, rank: float | None) -> None:
        """Notes a record that was written; `rank` tells how sure its result is."""
        digest = hashlib.blake2b(f"{self._shard}\0{record.key}".encode(), digest_size=6).hexdigest()
        shown = None if rank is None else round(rank, 6)
        entry = [self._shard, record.index, record.key, shown]
        self._sample = _with(self._sample, [digest, *entry])
        if shown is not None:
            self._unsure = _with(self._unsure, [shown, *entry])

    def add_failure(self, record: Record, problem: Problem) -> None:
        """Notes a record that failed."""
        entries = self._failures.setdefault(problem.reason, [])
        if len(entries) < _KEEP_FAILURES:  # records come in order
            entries.append([self._shard, record.index, record.key, problem.stage, problem.message])

    def to_dict(self) -> dict[str, Any]:
        return {"unsure": self._unsure, "sample": self._sample, "failures": self._failures}


def _with(smallest: list[list[Any]], entry: list[Any]) -> list[list[Any]]:
    """The smallest of a sorted list and one more entry."""
    if len(smallest) == _KEEP and entry >= smallest[-1]:
        return smallest
    return sorted([*smallest, entry])[:_KEEP]


def merge_highlights(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Highlights of both; neither is changed."""
    if not a or not b:
        return dict(a or b)
    reasons = sorted({*a["failures"], *b["failures"]})
    return {
        "unsure": heapq.nsmallest(_KEEP, [*a["unsure"], *b["unsure"]]),
        "sample": heapq.nsmallest(_KEEP, [*a["sample"], *b["sample"]]),
        "failures": {
            reason: heapq.nsmallest(
                _KEEP_FAILURES, [*a["failures"].get(reason, ()), *b["failures"].get(reason, ())]
            )
            for reason in reasons
        },
    }


@dataclasses.dataclass(frozen=True)
class Totals:
    """Reports added up. `merge` is associative and commutative, `Totals()` is its zero.

    Attributes:
        shards: committed ones.
        read, written, failed_by_reason, bytes_in, bytes_out, sums, highlights: as in ShardReport.
        microseconds: by stage.
        over_budget: names of shards with more failures than allowed, the first 100 by name.
        errors: why shards were not committed, the first 100 by name.
        shards_over_budget, shards_failed: how many of each there are in all.
    """

    shards: int = 0
    read: int = 0
    written: int = 0
    failed_by_reason: Mapping[str, int] = dataclasses.field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    sums: Sums = dataclasses.field(default_factory=dict)
    highlights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    microseconds: Mapping[str, int] = dataclasses.field(default_factory=dict)
    over_budget: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    shards_over_budget: int = 0
    shards_failed: int = 0

    @property
    def failed(self) -> int:
        return sum(self.failed_by_reason.values())

    @staticmethod
    def of(report: ShardReport, max_failed_fraction: float) -> "Totals":
        """The totals of one shard."""
        if report.error is not None:
            return Totals(errors=((report.shard, report.error),), shards_failed=1)
        over = is_over_budget(report, max_failed_fraction)
        return Totals(
            shards=1,
            read=report.read,
            written=report.written,
            failed_by_reason=report.failed_by_reason,
            bytes_in=report.bytes_in,
            bytes_out=report.bytes_out,
            sums=report.sums,
            highlights=report.highlights,
            microseconds=report.clock.get("microseconds", {}),
            over_budget=(report.shard,) if over else (),
            shards_over_budget=int(over),
        )

    def merge(self, other: "Totals") -> "Totals":
        return Totals(
            shards=self.shards + other.shards,
            read=self.read + other.read,
            written=self.written + other.written,
            failed_by_reason=add(self.failed_by_reason, other.failed_by_reason),
            bytes_in=self.bytes_in + other.bytes_in,
            bytes_out=self.bytes_out + other.bytes_out,
            sums=add(self.sums, other.sums),
            highlights=merge_highlights(self.highlights, other.highlights),
            microseconds=add(self.microseconds, other.microseconds),
            over_budget=tuple(sorted({*self.over_budget, *other.over_budget})[:100]),
            errors=tuple(sorted({*self.errors, *other.errors})[:100]),
            shards_over_budget=self.shards_over_budget + other.shards_over_budget,
            shards_failed=self.shards_failed + other.shards_failed,
        )


def is_over_budget(report: ShardReport, max_failed_fraction: float) -> bool:
    """Whether more of a shard failed than may: too many records, all of them, or its rest."""
    return (
        report.failed > allowed_failures(report.read, max_failed_fraction)
        or (report.read > 0 and report.written == 0)
        or "rest_lost" in report.failed_by_reason
    )


def json_lines(fields: Mapping[str, Any]) -> bytes:
    """JSON with one field a line: short enough to store by the million, and still readable."""
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def allowed_failures(read: int, max_failed_fraction: float) -> int:
    """How many of a shard's records may fail: the fraction, but one in a tiny shard.

    A fraction of 0 allows none.
    """
    if max_failed_fraction <= 0:
        return 0
    return max(1, int(round(read * max_failed_fraction, 6)))  # 100 * 0.29 is 28.999999999999996
