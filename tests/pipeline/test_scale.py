"""Many shards: work, requests and memory grow with their number, and not faster."""

import cProfile
import dataclasses
import pickle
import pstats
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from gcs_server import GcsServer
from support import Segment

from pipeline.progress import Progress
from transforms import storage_local
from transforms.beam_shards import FindShards, MergeReports, ProcessShards, ReadPlan
from transforms.commits import commit_path
from transforms.decode import DecodePolicy
from transforms.inputs import Plan, Shard
from transforms.pack import COLUMNS, PackOperator
from transforms.shard_names import ShardName
from transforms.shard_report import ShardReport, Totals
from transforms.sink import Sink

ASKED = ("list_files", "is_file", "is_folder", "size_bytes", "read_bytes", "open_read")


def committed_run(root: Path, count: int) -> PackOperator:
    """Tiny shards in root/in, and their commit records in root/out as a run leaves them."""
    for folder in ("in", "out/metrics"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        name = str(ShardName("s", index, count))
        (root / "in" / f"{name}.tfrecord").touch()
        report = ShardReport(
            name,
            read=10,
            written=9,
            failed_by_reason={"truncated": 1},
            sums={"widths": {"640": 9}, "labels": [index % 3, 9]},
            highlights={
                "unsure": [[0.5, name, 1, "a.jpg", 0.5]],
                "sample": [[f"{hash(name) & 0xFFFF:x}", name, 1, "a.jpg", None]],
                "failures": {"truncated": [[name, 2, "b.jpg", "decode", "cut"]]},
            },
            clock={"microseconds": {"model": 5}},
        )
        (root / "out" / commit_path(name)).write_bytes(report.to_json())
    sink = Sink(str(root / "out"), "images", format="tfrecord", columns=COLUMNS)
    return PackOperator(sink, DecodePolicy(1000), masks_expected=False, threads=1)


@dataclasses.dataclass
class Work:
    """What a run over committed shards took."""

    totals: Totals
    asked: Counter[str]
    graph_bytes: int


def merge_all(root: Path, operator: PackOperator, monkeypatch: pytest.MonkeyPatch) -> Work:
    """FindShards, the commit records and MergeReports, as a resumed run has them."""
    asked: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        call = getattr(storage_local, name)

        def count(*arguments: Any) -> Any:
            asked[name] += 1
            return call(*arguments)

        return count

    class Keep(beam.DoFn):
        def process(self, totals: Totals) -> None:
            (root / "totals").write_bytes(pickle.dumps(totals))

    with monkeypatch.context() as patched:
        for name in ASKED:
            patched.setattr(storage_local, name, counted(name))
        pipeline = beam.Pipeline("FnApiRunner")
        reports = pipeline | FindShards(str(root / "in")) | ProcessShards(operator)
        _ = reports | MergeReports() | beam.ParDo(Keep())
        graph_bytes = pipeline.to_runner_api().ByteSize()
        pipeline.run().wait_until_finish()
    return Work(pickle.loads((root / "totals").read_bytes()), asked, graph_bytes)


@pytest.mark.slow
def test_a_hundred_thousand_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the shards take ten times the requests and calls, and the rest stays."""
    works, calls = {}, {}
    for count in (1_000, 10_000, 100_000):
        operator = committed_run(tmp_path / str(count), count)
        profile = cProfile.Profile()
        if count < 100_000:  # counting calls costs time
            profile.enable()
        works[count] = merge_all(tmp_path / str(count), operator, monkeypatch)
        profile.disable()
        calls[count] = pstats.Stats(profile).total_calls if count < 100_000 else 0
    assert calls[10_000] < 10 * calls[1_000]
    small, large = works[10_000], works[100_000]
    for count, work in works.items():
        totals = work.totals
        assert (totals.shards, totals.read, totals.failed) == (count, 10 * count, count)
        assert work.asked["list_files"] <= 3, "the input once, the commit records once a worker"
    assert large.asked.total() < 10.1 * small.asked.total()
    assert large.asked["read_bytes"] <= 1.01 * 100_000, "a commit record is read once"
    assert len(pickle.dumps(large.totals)) < 1.1 * len(pickle.dumps(small.totals))
    assert abs(large.graph_bytes - small.graph_bytes) < 1_000
    assert large.graph_bytes < 100_000


def test_the_graph_does_not_grow_with_the_plan(tmp_path: Path) -> None:
    sizes = []
    for count in (10, 10_000):
        plan = tmp_path / f"{count}.jsonl"
        shards = tuple(Shard(f"s-{i}", f"gs://b/s-{i}.tfrecord", 10) for i in range(count))
        plan.write_text(Plan(shards, "tfrecord").to_lines())
        sink = Sink(str(tmp_path), "images", format="tfrecord", columns=COLUMNS)
        operator = PackOperator(sink, DecodePolicy(1000), masks_expected=False)
        pipeline = beam.Pipeline("FnApiRunner")
        _ = pipeline | ReadPlan(str(plan)) | ProcessShards(operator) | MergeReports()
        sizes.append(pipeline.to_runner_api().ByteSize())
    assert sizes[1] - sizes[0] < 100
    assert sizes[1] < 100_000


def test_requests_to_gs_per_shard(gcs: GcsServer, packed: str, segment: Segment) -> None:
    """The numbers that docs/scale.md reckons with; looks by the clock are left out."""
    gcs.upload(packed, "in")
    assert segment("gs://bucket/in", "gs://bucket/out") == 0
    plan = [i for i, (_, path) in enumerate(gcs.log) if "out/plan.jsonl?alt" in path]
    of_workers = gcs.log[plan[0] + 1 : plan[1]]  # the plan is read when they begin, and at the end
    asked = Counter(method for method, path in of_workers if "_tmp" not in path)
    assert asked["POST"] == 6 * 3, "masks, records and the commit record: one write each"
    assert asked["GET"] <= 6 * 6
    assert asked.keys() == {"GET", "POST"}


def test_progress_looks_less_often_when_looking_takes_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run of N shards, which takes some N seconds, would list N records N times."""
    now = [0.0]
    monkeypatch.setattr("pipeline.progress.time.monotonic", lambda: now[0])

    def listed(out: str) -> set[str]:
        now[0] += 3.0
        return set()

    monkeypatch.setattr("pipeline.progress.committed_names", listed)
    progress = Progress(str(tmp_path), Plan((), "tfrecord"), "segment")
    assert progress.least_s >= 30
    monkeypatch.setattr("pipeline.progress.committed_names", lambda out: set())
    progress.poll()
    assert progress.least_s == 0
