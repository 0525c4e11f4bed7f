"""Polygons and RLE cover the pixels that pycocotools says, and hostile ones are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from transforms.failures import Failure
from transforms.label_sources.runs import area, polygon_runs, rle_runs, union

sides = st.integers(1, 40)


def painted(runs, size_hw):
    flat = np.zeros(size_hw[0] * size_hw[1], np.uint8)
    for start, stop in runs:
        assert not flat[start:stop].any()
        flat[start:stop] = 1
    assert (runs[:, 0] < runs[:, 1]).all() and (runs[1:, 0] > runs[:-1, 1]).all()
    return flat.reshape(size_hw, order="F")


@settings(max_examples=400, deadline=None)
@given(st.data(), sides, sides)
def test_polygons_are_pycocotools(data, height, width):
    side = max(height, width)
    coordinate = st.one_of(
        st.floats(-side, 2 * side, width=32),
        st.integers(-side, 2 * side).map(float),
        st.integers(-2 * side, 4 * side).map(lambda n: n / 2),
        st.integers(-10 * side, 20 * side).map(lambda n: round(n / 10, 2)),
    )
    points = data.draw(
        st.lists(coordinate, min_size=6, max_size=24).map(lambda p: p[: len(p) // 2 * 2])
    )
    expected = coco.decode(coco.frPyObjects([points], height, width))[..., 0]
    runs = polygon_runs(points, (height, width))
    np.testing.assert_array_equal(painted(runs, (height, width)), expected)
    assert area(runs) == expected.sum()


@settings(max_examples=200, deadline=None)
@given(st.data(), sides, sides)
def test_rle_of_both_kinds(data, height, width):
    bits = data.draw(st.binary(min_size=1, max_size=8))
    mask = np.resize(np.unpackbits(np.frombuffer(bits, np.uint8)), (height, width))
    encoded = coco.encode(np.asfortranarray(mask))
    runs = rle_runs(encoded["counts"].decode(), (height, width))
    np.testing.assert_array_equal(painted(runs, (height, width)), mask)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    np.testing.assert_array_equal(rle_runs(counts, (height, width)), runs)


def test_large_counts_of_compressed_rle():
    mask = np.zeros((2000, 3000), np.uint8)
    mask[100:1900, 7:2900] = 1
    mask[1000, 2999] = 1
    encoded = coco.encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(
        painted(rle_runs(encoded["counts"].decode(), mask.shape), mask.shape), mask
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=4))
def test_union_is_of_sets(edges):
    regions, expected = [], np.zeros((6, 10), np.uint8)
    for found in edges:
        runs = np.array(sorted(set(found))[: len(set(found)) // 2 * 2], np.int64).reshape(-1, 2)
        runs = runs[np.append(True, runs[1:, 0] > runs[:-1, 1])[: len(runs)]]
        regions.append(runs)
        expected |= painted(runs, (6, 10))
    np.testing.assert_array_equal(painted(union(regions), (6, 10)), expected)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [1, 2],
        [1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6, 7],
        [0, 0, 1e9, 0, 0, 5],
        [0, 0, float("nan")] * 2,
        ["a"] * 6,
        None,
        [[1, 2]] * 6,
        {"x": 1},
        [0, 0, float("inf"), 0, 0, 9],
    ],
)
def test_hostile_polygons(points):
    with pytest.raises(Failure) as caught:
        polygon_runs(points, (10, 10))
    assert caught.value.reason == "mask_format"


def test_a_border_that_would_fill_the_memory():
    points = [0, 0, 20000, 20000] * 500
    with pytest.raises(Failure, match="border has"):
        polygon_runs(points, (20000, 20000))


@pytest.mark.parametrize(
    "counts",
    [
        *([], [99], [101], [-1, 101], [10**30], "x" * 3, "P" * 100, "\x00", "ö", None, [0.5, "a"]),
        *({}, [[50], [50]], [2**62, 2**62], "oooooooooooooooooooooooooooo0"),
    ],
)
def test_hostile_rle(counts):
    with pytest.raises(Failure) as caught:
        rle_runs(counts, (10, 10))
    assert caught.value.reason == "mask_format"
