"""The Beam transforms: what is committed is set aside, what fails fails alone, sums are one."""

import dataclasses
import os

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from transforms import storage
from transforms.beam_shards import (
    DONE,
    MISSING,
    NAMESPACE,
    FindShards,
    MergeReports,
    ProcessShards,
    ReadPlan,
    _SetAside,
)
from transforms.commits import committed_names, committed_totals
from transforms.counters import image_counters
from transforms.failures import Failure
from transforms.inputs import Plan, Shard, plan_input
from transforms.records import Encoded, Record, Result
from transforms.shard_report import ShardReport, Totals
from transforms.shard_work import process_shard
from transforms.sink import Sink

SHARDS = tuple(Shard(f"d/s-{n:05}-of-00004", f"/in/{n}", 1) for n in range(4))


@dataclasses.dataclass(frozen=True)
class Tiny:
    """Three records a shard, the last of which fails; the work of some shards has a bad disk."""

    sink: Sink
    unreadable: tuple[str, ...] = ()
    log: str = ""

    def open(self):
        return self._work

    def _work(self, shard, clock):
        with open(self.log, "a") as log:
            log.write(f"{shard.name}\n")
        with clock.model(2):
            pass
        for index in range(3):
            if shard.name in self.unreadable and index == 1:
                raise OSError(121, "Remote I/O error", shard.root)
            record = Record(index, f"k{index}", shard.root, 2)
            if index == 2:
                yield record, Failure("decode", "corrupt", "made to fail")
            else:
                outputs = {"masks": Encoded(b"mask", "png")}
                yield record, Result(outputs, {}, {"pixels": 5}, None)


@pytest.fixture
def operator(tmp_path):
    sink = Sink(str(tmp_path / "out"), "masks", "tfrecord", pa.schema([]))
    return Tiny(sink, log=str(tmp_path / "worked.txt"))


def worked(operator):
    if not os.path.exists(operator.log):
        return []
    with open(operator.log) as log:
        return sorted(log.read().split())


def run(operator, check, shards=SHARDS, fraction=0.5):
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        reports = pipeline | beam.Create(shards) | ProcessShards(operator)
        assert_that(reports, check, label="reports")
        totals = reports | MergeReports(fraction)
        assert_that(totals, what_is_committed(operator.sink.root, fraction), label="totals")


def what_is_committed(root, fraction):
    """Checks that the totals are the sum of the commit records in OUT, errors aside."""

    def check(totals):
        (merged,) = totals
        stored = committed_totals(root, committed_names(root), fraction)
        assert dataclasses.replace(merged, errors=(), shards_failed=0) == stored

    return check


def names_and_errors(expected):
    expected = sorted(expected)

    def check(reports):
        got = sorted((report.shard, report.error) for report in reports)
        assert got == expected, got

    return check


def test_a_bad_disk_costs_one_shard_and_the_next_run_does_only_that_one(operator):
    bad = dataclasses.replace(operator, unreadable=(SHARDS[2].name,))
    message = "OSError: [Errno 121] Remote I/O error: '/in/2'"
    run(bad, names_and_errors((s.name, message if s is SHARDS[2] else None) for s in SHARDS))
    assert worked(operator) == [shard.name for shard in SHARDS]
    good = [shard for shard in SHARDS if shard is not SHARDS[2]]
    assert committed_names(operator.sink.root) == {shard.name for shard in good}
    assert os.listdir(f"{operator.sink.root}/_tmp") == []

    def commit_records():
        return [storage.read_bytes(f"{operator.sink.root}/metrics/{s.name}.json") for s in good]

    before = commit_records()
    stored = [operator.sink.committed(shard) for shard in good]
    os.unlink(operator.log)

    def the_stored_reports_and_a_new_one(reports):
        assert sorted(report.shard for report in reports) == [shard.name for shard in SHARDS]
        assert all(report.error is None for report in reports)
        assert all(report in reports for report in stored)

    run(operator, the_stored_reports_and_a_new_one)
    assert worked(operator) == [SHARDS[2].name]
    assert commit_records() == before
    totals = committed_totals(operator.sink.root, committed_names(operator.sink.root), 0.5)
    assert (totals.shards, totals.read, totals.written) == (4, 12, 8)
    assert totals.failed_by_reason == {"corrupt": 4} and totals.sums["pixels"] == 40


def test_the_engine_counts_what_the_reports_say(operator):
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create(SHARDS) | ProcessShards(operator)
    found = pipeline.run().metrics().query()
    counted = {
        c.key.metric.name: c.committed
        for c in found["counters"]
        if c.key.metric.namespace == NAMESPACE
    }
    totals = committed_totals(operator.sink.root, committed_names(operator.sink.root), 0.5)
    expected = image_counters(totals.read, totals.written, totals.failed_by_reason)
    assert counted == expected | {"num_inferences": 8}
    sizes = {d.key.metric.name: d.committed for d in found["distributions"]}
    batches = sizes["inference_request_batch_size"]
    stored = totals.distributions["inference_request_batch_size"]
    assert (batches.count, batches.sum, batches.min, batches.max) == (4, 8, 2, 2)
    assert stored == {"count": 4, "sum": 8, "min": 2, "max": 2}


def test_committed_shards_never_wait_among_the_others(operator):
    process_shard(SHARDS[1], operator.open, operator.sink)
    sorter = _SetAside(operator.sink)
    sorter.start_bundle()
    tags = [output.tag for shard in SHARDS for output in sorter.process(shard)]
    assert tags == [MISSING, DONE, MISSING, MISSING]


@pytest.mark.parametrize("content", [b"{", b"", None])
def test_a_damaged_commit_record_costs_its_shard_alone_and_stays_as_it_is(operator, content):
    process_shard(SHARDS[0], operator.open, operator.sink)
    path = f"{operator.sink.root}/metrics/{SHARDS[0].name}.json"
    if content is None:  # the record of another shard, copied here by hand
        content = storage.read_bytes(path)
        path = f"{operator.sink.root}/metrics/{SHARDS[3].name}.json"
    with open(path, "wb") as file:
        file.write(content)
    errors = [process_shard(shard, operator.open, operator.sink).error for shard in SHARDS]
    (error,) = (error for error in errors if error is not None)
    assert path in error and "delete it" in error
    assert storage.read_bytes(path) == content


def test_a_committed_shard_is_answered_without_opening_the_model(operator):
    first = process_shard(SHARDS[1], operator.open, operator.sink)

    def never():
        raise AssertionError("the model was loaded for nothing")

    assert process_shard(SHARDS[1], never, operator.sink) == first


def test_reports_are_merged_to_one_even_when_there_are_none():
    reports = [
        ShardReport("a", read=10, written=9, failed_by_reason={"corrupt": 1}, sums={"n": 1}),
        ShardReport("b", read=10, written=5, failed_by_reason={"corrupt": 5}, sums={"n": 2}),
        ShardReport("c", error="gone"),
    ]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        merged = pipeline | beam.Create(reports) | MergeReports(0.2)
        nothing = pipeline | "None" >> beam.Create([]) | "MergeNone" >> MergeReports()
        expected = Totals(
            shards=2,
            read=20,
            written=14,
            failed_by_reason={"corrupt": 6},
            sums={"n": 3},
            over_budget=("b",),
            errors=(("c", "gone"),),
            shards_over_budget=1,
            shards_failed=1,
        )
        assert_that(merged, equal_to([expected]), label="merged")
        assert_that(nothing, equal_to([Totals()]), label="nothing")


def test_shards_are_found_by_pattern_and_by_plan(tmp_path):
    for n in range(5):
        (tmp_path / f"{n}.png").write_bytes(b"1" * n)
    plan = plan_input(str(tmp_path), 2)
    plan_file = tmp_path / "plan.jsonl"
    plan_file.write_text(plan.to_lines())
    assert len(plan.shards) == 3 and Plan.from_lines(plan.to_lines()) == plan
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | FindShards(str(tmp_path) + "/*.png", 2)
        stored = pipeline | ReadPlan(str(plan_file))
        assert_that(found, equal_to(plan.shards), label="found")
        assert_that(stored, equal_to(plan.shards), label="stored")
