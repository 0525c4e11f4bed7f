"""Random numbers of an item: its own, the same everywhere, and of the right distribution."""

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from models.binding import OtherInput
from models.latents import encode_label, latent

NORMAL = OtherInput("z", "float32", (7,), True, "latent")
GOLDEN = np.array(
    [
        -1.1486650705337524,
        -0.634491503238678,
        -1.4398927688598633,
        1.8384052515029907,
        -1.0838602781295776,
        1.2329944372177124,
        -1.4295517206192017,
    ],
    np.float32,
)
BIG = st.integers(0, 2**64 - 1)


def of(distribution, shape=(7,)):
    return dataclasses.replace(NORMAL, distribution=distribution, shape=shape)


@given(BIG, BIG, st.integers(0, 1000), st.integers(0, 5))
def test_the_same_item_has_the_same_numbers_anywhere(seed, item, attempt, number):
    again = pickle.loads(pickle.dumps(NORMAL))
    first = latent(NORMAL, seed, item, attempt, number)
    np.testing.assert_array_equal(first, latent(again, seed, item, attempt, number))
    assert first.dtype == np.float32
    assert np.isfinite(first).all()


@example((2**63, 0, 0, 0), 0)
@given(st.tuples(BIG, BIG, st.integers(0, 9), st.integers(0, 9)), st.integers(0, 3))
def test_another_seed_item_attempt_or_input_has_others(where, axis):
    other = [value + (place == axis) for place, value in enumerate(where)]
    other[0], other[1] = other[0] % 2**64, other[1] % 2**64
    assert not np.any(latent(NORMAL, *where) == latent(NORMAL, *other))


def test_numbers_are_as_they_always_were():
    """A change here changes every picture that was ever made: make none."""
    np.testing.assert_array_equal(latent(NORMAL, 2026, 3, 1), GOLDEN)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("normal", stats.norm()),
        ("uniform", stats.uniform(-1, 2)),
        ("truncated_normal", stats.truncnorm(-2, 2)),
    ],
)
def test_the_distribution_is_the_one_that_was_asked_for(distribution, expected):
    numbers = np.concatenate([latent(of(distribution, (100,)), 0, item) for item in range(200)])
    assert stats.kstest(numbers, expected.cdf).pvalue > 0.01
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


def test_a_truncated_normal_is_cut_and_a_sphere_is_round():
    cut = np.concatenate([latent(of("truncated_normal", (500,)), 1, item) for item in range(50)])
    assert np.abs(cut).max() <= 2
    points = np.stack([latent(of("sphere", (16,)), 0, item) for item in range(500)])
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-6)
    assert np.abs(points.mean(axis=0)).max() < 0.05


def test_a_latent_of_several_axes_has_its_shape():
    assert latent(of("normal", (4, 4, 8)), 0, 0).shape == (4, 4, 8)


def test_labels_are_encoded_as_the_input_takes_them():
    by_id = OtherInput("y", "int64", (1,), True, "label", encoding="id", labels=3)
    one_hot = OtherInput("y", "float32", (3,), True, "label", encoding="one_hot", labels=3)
    np.testing.assert_array_equal(encode_label(by_id, 2), np.array([2], np.int64))
    np.testing.assert_array_equal(encode_label(one_hot, 2), np.array([0, 0, 1], np.float32))
    assert encode_label(by_id, 0).dtype == np.int64
    for wrong in (3, -1, None):
        with pytest.raises(ValueError, match="expected 0 to 2 for 'y'"):
            encode_label(by_id, wrong)
