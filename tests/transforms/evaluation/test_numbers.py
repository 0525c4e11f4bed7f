"""Calibration, drift and bootstrap by their definitions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from transforms.evaluation.bootstrap import _weights, intervals
from transforms.evaluation.calibration import (
    bins_of,
    confidence_counts,
    expected_calibration_error,
)
from transforms.evaluation.drift import aligned, jensen_shannon, moved_shares


def plain_ece(confidence, right, bins=15):
    """Guo et al. 2017, as written in their code: bins (low, high]."""
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            total += gap * inside.mean()
    return total


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(1, 256, (50, 40)).astype(np.uint8)
    truth, predicted = rng.integers(0, 4, (2, 50, 40))
    counts = confidence_counts(confidence, truth, predicted, 3)
    kept = (truth < 3) & (predicted < 3)
    expected = plain_ece(confidence[kept] / 255, (truth == predicted)[kept])
    assert expected_calibration_error(counts) == pytest.approx(expected, rel=1e-9)
    assert counts.sum() == kept.sum() == sum(row["pixels"] for row in bins_of(counts))


def test_calibration_of_nothing_and_of_the_ends():
    assert np.isnan(expected_calibration_error(np.zeros((2, 256), np.int64)))
    ends = np.zeros((2, 256), np.int64)
    ends[1, 255], ends[0, 0] = 3, 1
    assert expected_calibration_error(ends) == 0
    assert [row["low"] for row in bins_of(ends, 10)] == [0, 0.9]
    edge = np.zeros((2, 256), np.int64)
    edge[1, 51] = 1  # 0.2, the upper edge of its bin
    assert bins_of(edge, 5)[0]["low"] == 0


COUNTS = st.lists(st.integers(0, 1000), min_size=5, max_size=5)


@given(COUNTS, COUNTS)
def test_divergence_is_scipys_and_bounded(a, b):
    found = jensen_shannon(a, b)
    if not sum(a) or not sum(b):
        assert np.isnan(found)
        return
    assert found == pytest.approx(jensenshannon(a, b, base=2) ** 2, abs=1e-9)
    assert 0 <= found <= 1 and found == pytest.approx(jensen_shannon(b, a), abs=1e-15)
    assert jensen_shannon(a, a) == 0


def test_divergence_of_what_shares_nothing_is_one():
    assert jensen_shannon([5, 0], [0, 2]) == 1
    assert aligned({"480": 2}, {"360": 1, "480": 1}) == ([0, 2], [1, 1])
    assert moved_shares([1, 3], [1, 1, 2]).tolist() == [0, 0.5, -0.5]


def test_intervals_hold_the_metric_and_shrink_with_more_images():
    rng = np.random.default_rng(0)
    true = np.full((400, 2), 100)
    hit = rng.binomial(100, [0.9, 0.5], (400, 2))
    predicted = hit + (100 - hit)[:, ::-1]
    areas = np.concatenate([hit, predicted, true], axis=1)
    few, many = intervals(areas[:25], 2), intervals(sparse.csr_matrix(areas), 2)
    total = areas.sum(axis=0).reshape(3, 2)
    miou = (total[0] / (total[1] + total[2] - total[0])).mean()
    assert many["miou"].low < miou < many["miou"].high
    assert many["miou"].high - many["miou"].low < few["miou"].high - few["miou"].low
    accuracy = hit.sum(axis=1) / 200  # all images weigh the same: its standard error is known
    half = 1.96 * accuracy.std() / 20
    got = many["pixel_accuracy"]
    assert (got.high - got.low) / 2 == pytest.approx(half, rel=0.12)
    assert many == intervals(areas, 2) and intervals(areas[:1], 2) == {}


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_rounds_do_not_depend_on_how_many_there_are(seed):
    few, many = (np.concatenate(list(_weights(12, rounds, seed))) for rounds in (40, 100))
    assert few.shape == (40, 12) and many.shape == (100, 12)
    np.testing.assert_array_equal(few, many[:40])
    assert (many.sum(axis=1) == 12).all() and len(np.unique(many, axis=0)) > 90
