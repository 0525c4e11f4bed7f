"""The Beam transforms: names of shards in, reports of shards out. No pixel passes between them.

p | FindShards(pattern)                       Shard
  | SegmentShards(operator)                   ShardReport
  | MergeReports()                            Totals
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from transforms import counters, storage
from transforms.clock import Clock
from transforms.commits import committed_names
from transforms.inputs import FILES_PER_SHARD, Plan, Shard, plan_input
from transforms.live import BEGUN
from transforms.segment import SegmentOperator
from transforms.shard_report import ShardReport, Totals
from transforms.shard_work import Operator, Work, process_shard
from transforms.sink import Sink

MISSING, DONE = "missing", "done"
NAMESPACE = "pixelmill"  # of counters and distributions


@dataclasses.dataclass
class FindShards(beam.PTransform):
    """PBegin -> Shard: lists an input (see plan_input). The listing is made by a worker."""

    pattern: str
    files_per_shard: int = FILES_PER_SHARD

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Shard]:
        return (
            root
            | "Pattern" >> beam.Create([self.pattern])  # str
            | "Plan" >> beam.FlatMap(lambda p: plan_input(p, self.files_per_shard).shards)  # Shard
        )


@dataclasses.dataclass
class ReadPlan(beam.PTransform):
    """PBegin -> Shard: the shards of a plan file, so that the job graph stays small.

    Attributes:
        path: of the plan, in OUT.
        sign: leave a sign in OUT that a worker has begun (see live.begun_path).
    """

    path: str
    sign: bool = False

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Shard]:
        return (
            root
            | "Path" >> beam.Create([self.path])  # str
            | "Shards" >> beam.FlatMap(_read_plan, self.sign)  # Shard
        )


def _read_plan(path: str, sign: bool) -> Iterable[Shard]:
    if sign:
        storage.write_unsynced(os.path.dirname(path), BEGUN, b"")
    return Plan.from_lines(storage.read_bytes(path).decode()).shards


@dataclasses.dataclass
class ProcessShards(beam.PTransform):
    """Shard -> ShardReport: does what the operator does to every shard not committed yet.

    Attributes:
        operator: what is done.
        hints: Beam's resource hints, "accelerator" and "min_ram", for the one step that holds the
            model; the others need no accelerator.
    """

    operator: Operator
    hints: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[ShardReport]:
        sorted_out = shards | "SetAside" >> beam.ParDo(_SetAside(self.operator.sink)).with_outputs(
            MISSING, DONE
        )
        process = beam.ParDo(_ProcessShard(self.operator)).with_resource_hints(**self.hints)
        fresh = (
            sorted_out[MISSING]  # Shard
            | "Spread" >> beam.Reshuffle()  # Shard
            | "Process" >> process  # ShardReport
        )
        stored = (
            sorted_out[DONE]  # Shard
            | "SpreadDone" >> beam.Reshuffle()  # Shard
            | "ReadReport" >> beam.ParDo(_ReadReport(self.operator))  # ShardReport
        )
        return (fresh, stored) | "All" >> beam.Flatten()  # ShardReport


@dataclasses.dataclass
class SegmentShards(ProcessShards):
    """Shard -> ShardReport: masks of all images of the shards, by a SavedModel."""

    operator: SegmentOperator


@dataclasses.dataclass
class MergeReports(beam.PTransform):
    """ShardReport -> Totals: one, even of no reports."""

    max_failed_fraction: float = 0.01

    def expand(self, reports: beam.PCollection[ShardReport]) -> beam.PCollection[Totals]:
        return (
            reports
            | "Totals" >> beam.Map(Totals.of, self.max_failed_fraction)  # Totals
            | "Sum" >> beam.CombineGlobally(_SumTotals())  # Totals
        )


class _SetAside(beam.DoFn):
    """Tells committed shards from the others by one listing a worker. With something to retry
    only reading their records can tell, which all workers do."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._names: set[str] = set()

    def start_bundle(self) -> None:
        self._names = set() if self._sink.retry else committed_names(self._sink.root)

    def process(self, shard: Shard) -> Iterator[beam.pvalue.TaggedOutput]:
        yield beam.pvalue.TaggedOutput(DONE if shard.name in self._names else MISSING, shard)


class _ProcessShard(beam.DoFn):
    """Turns one shard into its outputs and commits them."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._shared = Shared()
        self._work: Work | None = None

    def setup(self) -> None:
        self._work = self._shared.acquire(self._operator.open)

    def process(self, shard: Shard) -> Iterator[ShardReport]:
        clocks: list[Clock] = []

        def make_clock() -> Clock:
            clocks.append(Clock())
            return clocks[-1]

        report = process_shard(shard, self._opened, self._operator.sink, make_clock)
        _count(report, clocks)
        yield report

    def display_data(self) -> dict[str, Any]:
        """What an engine's page shows of the step."""
        fields = (
            (f.name, getattr(self._operator, f.name)) for f in dataclasses.fields(self._operator)
        )
        shown = {name: value for name, value in fields if isinstance(value, str | int | float)}
        return {"output": self._operator.sink.root, **shown}

    def _opened(self) -> Work:
        assert self._work is not None, "setup() comes before process()"
        return self._work


class _ReadReport(beam.DoFn):
    """The stored report of a committed shard; one that has gone meanwhile is processed again."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def process(self, shard: Shard) -> Iterator[ShardReport]:
        yield process_shard(shard, self._operator.open, self._operator.sink)


class _SumTotals(beam.CombineFn):
    """Adds totals; all arithmetic is Totals.merge."""

    def create_accumulator(self) -> Totals:
        return Totals()

    def add_input(self, mutable_accumulator: Totals, element: Totals) -> Totals:
        return mutable_accumulator.merge(element)

    def merge_accumulators(self, accumulators: Iterable[Totals]) -> Totals:
        total = Totals()
        for accumulator in accumulators:
            total = total.merge(accumulator)
        return total

    def extract_output(self, accumulator: Totals) -> Totals:
        return accumulator


def _count(report: ShardReport, clocks: Sequence[Clock]) -> None:
    """Shows in the engine what became of a shard, and each call of the model that it took."""
    found = counters.image_counters(report.read, report.written, report.failed_by_reason)
    for name, value in found.items():
        Metrics.counter(NAMESPACE, name).inc(value)
    for clock in clocks:
        for name, values in clock.values().items():
            distribution = Metrics.distribution(NAMESPACE, name)
            for value in values:
                distribution.update(value)
            if name == counters.BATCH_SIZE:
                Metrics.counter(NAMESPACE, counters.INFERENCES).inc(sum(values))
