"""Records go into new shards: all of them, once, in an order that seed and names decide."""

import io
import os
from itertools import chain, pairwise

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transforms.cuts import bounds
from transforms.inputs import ImageFile, Shard
from transforms.pack import COLUMNS, STAGED_COLUMNS, PackOperator
from transforms.regroup import GatherOperator, Grouping, order_hash, plan_groups, read_picks
from transforms.shard_work import process_shard
from transforms.sink import Sink, read_written


@given(
    st.lists(st.integers(0, 50), max_size=40),
    st.one_of(st.none(), st.integers(1, 10)),
    st.one_of(st.none(), st.integers(1, 60)),
)
def test_cuts_hold_everything_and_no_more_than_asked(sizes, most, most_bytes):
    cuts = bounds(sizes, most, most_bytes)
    assert cuts[0] == 0 and cuts[-1] == len(sizes)
    for start, stop in pairwise(cuts):
        assert start < stop
        assert most is None or stop - start <= most
        assert most_bytes is None or sum(sizes[start:stop]) <= most_bytes or stop == start + 1
    if most and most_bytes is None:
        assert len(cuts) - 1 == -(-len(sizes) // most)
        assert max(np.diff(cuts), default=0) - min(np.diff(cuts), default=0) <= 1


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Three shards of five pictures; one of them has failed."""
    root = tmp_path_factory.mktemp("staged")
    (root / "in").mkdir()
    for n in range(15):
        (root / f"in/{n:02d}.png").write_bytes(png(n) if n != 7 else b"broken")
    sink = Sink(str(root / "out"), "images", "tfrecord", STAGED_COLUMNS)
    operator = PackOperator(sink, threads=2)
    for s in range(3):
        files = tuple(ImageFile(f"{n:02d}.png", f"{n:02d}", 9) for n in range(5 * s, 5 * s + 5))
        report = process_shard(Shard(f"s{s}", str(root / "in"), 9, files), operator.open, sink)
        assert report.error is None
    return sink


SHARDS = ["s0", "s1", "s2"]


def keys_of(shards):
    return [[record.key for record, _ in read_picks(shard)] for shard in shards]


def test_without_a_seed_the_order_stays(staged):
    shards = list(plan_groups(staged, SHARDS, "x", Grouping(most=4)))
    assert [shard.name for shard in shards] == [f"x-0000{n}-of-00004" for n in range(4)]
    keys = keys_of(shards)
    assert [len(found) for found in keys] == [3, 4, 4, 4]
    assert list(chain(*keys)) == [f"{n:02d}.png" for n in range(15)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), most=st.integers(1, 16))
def test_with_a_seed_it_is_of_seed_and_names(staged, seed, most):
    grouping = Grouping(most=most, seed=seed)
    found = list(chain(*keys_of(plan_groups(staged, SHARDS, "x", grouping))))
    names = [f"{n:02d}.png" for n in range(15)]
    assert found == sorted(names, key=lambda name: order_hash(seed, name))
    other = list(chain(*keys_of(plan_groups(staged, ["s2", "s0", "s1"], "x", grouping))))
    assert other == found


def test_parts_have_shards_of_their_own(staged):
    def validates(key):
        return int(key[:2]) % 4 == 0

    shards = list(plan_groups(staged, SHARDS, "x", Grouping(most=6, seed=3), validates))
    assert [s.name for s in shards] == [
        *(f"train/x-0000{n}-of-00002" for n in range(2)),
        "validation/x-00000-of-00001",
    ]
    for shard, keys in zip(shards, keys_of(shards), strict=True):
        assert all(validates(key) == shard.name.startswith("validation") for key in keys)


def gather(staged, out, shards, threads=3):
    operator = GatherOperator(Sink(str(out), "images", "tfrecord", COLUMNS), staged.root, threads)
    return [process_shard(shard, operator.open, operator.sink) for shard in shards]


def test_records_are_what_they_were_and_the_books_are_right(staged, tmp_path):
    shards = list(plan_groups(staged, SHARDS, "x", Grouping(most=4, seed=1)))
    reports = gather(staged, tmp_path / "a", shards)
    for report in reports:
        assert report.error is None and report.read == report.written + report.failed
    assert sum(r.read for r in reports) == 15 and sum(r.written for r in reports) == 14
    assert sum(r.failed_by_reason.get("unsupported", 0) for r in reports) == 1
    assert sum(r.sums["formats"]["PNG"] for r in reports) == 14
    before = {e for name in SHARDS for e in read_written(staged.root, "images", name)}
    after = [e for s in shards for e in read_written(str(tmp_path / "a"), "images", s.name)]
    assert len(after) == 14 and set(after) == before
    again = gather(staged, tmp_path / "b", shards, threads=1)
    assert [r.files for r in again] == [r.files for r in reports]


def test_names_that_meet_in_a_shard_are_told_apart(staged):
    shards = list(plan_groups(staged, ["s0", "s0"], "x", Grouping(most=100, seed=1)))
    keys = keys_of(shards)[0]
    assert len(set(keys)) == 10 and sum(key.endswith("~2") for key in keys) == 5


def test_what_is_not_what_was_committed_is_an_error_of_the_shard(staged, tmp_path):
    shards = list(plan_groups(staged, SHARDS, "x", Grouping(most=100)))
    path = os.path.join(staged.root, "images/s1.tfrecord")
    with open(path, "rb") as file:
        data = file.read()
    try:
        for damaged in (data[:-9], data[:40] + b"x" + data[41:]):
            with open(path, "wb") as file:
                file.write(damaged)
            (report,) = gather(staged, tmp_path / str(len(damaged)), shards)
            assert report.error
            assert "not what was committed" in report.error
    finally:
        with open(path, "wb") as file:
            file.write(data)


def test_all_features_come_along(staged, tmp_path):
    (shard,) = plan_groups(staged, ["s0"], "x", Grouping(most=100))
    gather(staged, tmp_path / "a", [shard])
    for example in read_written(str(tmp_path / "a"), "images", shard.name):
        features = tf.train.Example.FromString(example).features.feature
        assert set(features) == {
            *("image/encoded", "image/filename", "image/format", "image/height", "image/width"),
        }
