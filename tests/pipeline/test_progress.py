"""The progress line: from commit records and from inside the process."""

from pathlib import Path

from pipeline.progress import Progress
from transforms.commits import commit_path
from transforms.inputs import ImageFile, Plan, Shard
from transforms.live import LIVE
from transforms.shard_report import ShardReport


def commit(out: Path, shard: str, read: int, failed: int) -> None:
    path = out / commit_path(shard)
    path.parent.mkdir(exist_ok=True)
    report = ShardReport(shard, read, read - failed, {"corrupt": failed} if failed else {})
    path.write_bytes(report.to_json())


def test_counts_commits_and_what_is_under_way(tmp_path: Path) -> None:
    files = tuple(ImageFile(f"{i}.png", str(i), 10) for i in range(100))
    plan = Plan(tuple(Shard(f"s{i}", "x", 1000, files) for i in range(4)), "images")
    commit(tmp_path, "s0", 100, 1)
    progress = Progress(str(tmp_path), plan, "segment")
    assert "1/4 shards  100/400 images  0 images/s  1 failed" in progress.line()
    assert "left" not in progress.line(), "nothing was done yet to judge by"
    LIVE.update(str(tmp_path), "s1", 40, 2)
    try:
        assert "1/4 shards  140/400 images" in progress.line()
        assert "3 failed" in progress.line()
        commit(tmp_path, "s1", 100, 2)
        progress.poll()
        assert "2/4 shards  200/400 images" in progress.line(), "not counted twice"
        assert progress.line().endswith("left")
    finally:
        LIVE.leave("s1")


def test_bytes_tell_the_time_left_of_shards_of_unknown_length(tmp_path: Path) -> None:
    plan = Plan(tuple(Shard(f"s{i}", "x", 1000) for i in range(2)), "tfrecord")
    progress = Progress(str(tmp_path), plan, "segment")
    commit(tmp_path, "s0", 7, 0)
    progress.poll()
    assert "1/2 shards  7 images" in progress.line()
    assert progress.line().endswith("left")
