"""Distances of generated from real pictures equal the reference implementations, merged or not."""

import json
from pathlib import Path

import numpy as np
import pytest
from fidelity_reference import feature_sets, logits, subsets
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from transforms.fidelity import (
    ScoreSums,
    inception_score,
    kid,
    nearest,
    precision_recall,
    random_subsets,
    squared_mmd,
)
from transforms.moments import Moments, frechet_distance, packed, unpacked

REFERENCE = json.loads(Path(__file__).parents[1].joinpath("fidelity_reference.json").read_text())
NAMES = sorted(REFERENCE["features"])


def merged(rows, parts):
    """Moments of rows that came in parts, the last one empty."""
    total = Moments.of(rows[:0])
    for part in [*np.array_split(rows, parts), rows[:0]]:
        total = total.merge(Moments.of(part))
    return total


@pytest.mark.parametrize("parts", [1, 7, 20])
@pytest.mark.parametrize("name", NAMES)
def test_frechet_distance_equals_the_reference_in_any_parts(name, parts):
    made, real = feature_sets()[name]
    found = frechet_distance(merged(made, parts), merged(real, parts))
    assert found == pytest.approx(REFERENCE["features"][name]["frechet"], rel=1e-6)
    assert found == pytest.approx(frechet_distance(Moments.of(made), Moments.of(real)), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_kid_and_coverage_equal_the_reference(name):
    made, real = feature_sets()[name]
    expected = REFERENCE["features"][name]
    rows = subsets(len(made), len(real))
    assert kid(made, real, rows) == pytest.approx(expected["kid"], rel=1e-9, abs=1e-9)
    covered = precision_recall(made, real, k=3)
    assert covered == pytest.approx((expected["precision"], expected["recall"]), abs=1e-9)


@pytest.mark.parametrize("parts", [1, 7, 20])
def test_inception_score_equals_the_reference_in_any_parts(parts):
    total = ScoreSums.of(np.empty((0, 10)))
    for part in np.array_split(softmax(logits(), axis=1), parts):
        total = total.merge(ScoreSums.of(part))
    assert inception_score(total) == pytest.approx(REFERENCE["inception_score"], rel=1e-9)


def test_inception_score_of_certain_answers_is_the_number_of_classes():
    assert inception_score(ScoreSums.of(np.eye(7))) == pytest.approx(7)
    assert inception_score(ScoreSums.of(np.eye(7)[[2] * 5])) == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 6), st.data())
def test_moments_merge_to_those_of_the_whole(seed, n, features, data):
    rng = np.random.default_rng(seed)
    rows = rng.normal(rng.uniform(-100, 100), 0.1, (n, features))
    cut = data.draw(st.integers(0, n))
    a, b = Moments.of(rows[:cut]), Moments.of(rows[cut:])
    for found in (a.merge(b), b.merge(a)):
        assert found.n == n
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
        expected = np.cov(rows, rowvar=False).reshape(features, features)
        np.testing.assert_allclose(found.covariance, expected, rtol=1e-9, atol=1e-11)


def test_moments_survive_a_large_mean():
    """Sums of squares would lose all digits of this variance."""
    rows = 1e8 + np.random.default_rng(0).normal(0, 1, (1000, 2))
    np.testing.assert_allclose(merged(rows, 20).covariance, np.cov(rows, rowvar=False), rtol=1e-7)


def test_moments_of_other_features_are_refused():
    with pytest.raises(ValueError, match="2 features and 3"):
        Moments.of(np.ones((4, 2))).merge(Moments.of(np.ones((4, 3))))
    with pytest.raises(ValueError, match="1 rows does not exist"):
        _ = Moments.of(np.ones((1, 2))).covariance


def test_a_triangle_is_the_whole_matrix():
    scatter = Moments.of(np.random.default_rng(1).normal(size=(9, 5))).scatter
    scatter = (scatter + scatter.T) / 2
    assert packed(scatter).shape == (15,)
    np.testing.assert_array_equal(unpacked(packed(scatter), 5), scatter)


def test_the_distance_of_a_set_from_itself_is_zero():
    rows = np.random.default_rng(2).normal(size=(50, 8))
    assert frechet_distance(Moments.of(rows), Moments.of(rows)) == pytest.approx(0, abs=1e-9)
    assert precision_recall(rows, rows) == (1.0, 1.0)


def test_kid_is_unbiased():
    """Of two samples of one distribution it is 0 on average, at any size."""
    rng = np.random.default_rng(3)
    values = [squared_mmd(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20


def test_random_subsets_are_always_the_same_and_do_not_repeat():
    first, again = (list(random_subsets(50, 30, 20, 3)) for _ in range(2))
    for (a, b), (c, d) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
        assert len(set(a.tolist())) == len(set(b.tolist())) == 20
        assert max(b) < 30
    assert first[0][0].tolist() != first[1][0].tolist()
    assert first[0][0].tolist()[:5] == [0, 43, 38, 21, 2]
    with pytest.raises(ValueError, match="cannot draw 31 of 30"):
        next(random_subsets(50, 30, 31, 1))


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="3 rows have no 3 neighbours"):
        precision_recall(np.ones((3, 2)), np.ones((9, 2)))
    with pytest.raises(ValueError, match="at least two"):
        squared_mmd(np.ones((1, 2)), np.ones((1, 2)))


def test_nearest_equals_comparing_all():
    rng = np.random.default_rng(4)
    rows, among = rng.normal(size=(30, 5)), rng.normal(size=(70, 5))
    places, distances = nearest(rows, among)
    every = np.linalg.norm(rows[:, np.newaxis] - among, axis=2)
    np.testing.assert_array_equal(places, every.argmin(axis=1))
    np.testing.assert_allclose(distances, every.min(axis=1), rtol=1e-9)
