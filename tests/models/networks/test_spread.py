"""Collapse and copying are seen; what is as varied as the real is not blamed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.networks.spread import copies, spread


def cloud(seed, count=300, size=16):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_pictures_of_the_same_kind_are_as_varied_and_no_copies():
    assert abs(spread(cloud(0), cloud(1)) - 1) < 0.05
    assert copies(cloud(0), cloud(1)) < 0.03


def test_one_picture_over_and_over_has_no_spread():
    assert spread(np.repeat(cloud(0)[:1], 50, 0), cloud(1)) == 0


def test_pictures_trained_with_are_copies_even_with_a_little_noise():
    real = cloud(0)
    assert copies(real[:100], real) == 1
    assert copies(real[:100] + np.float32(1e-3), real) == 1


@given(st.floats(0.1, 10), st.integers(0, 9))
def test_scale_counts_for_spread_alone(scale, seed):
    made, real = cloud(seed, 40), cloud(seed + 10, 40)
    factor = np.float32(scale)
    np.testing.assert_allclose(spread(made * factor, real * factor), spread(made, real), rtol=1e-3)
    np.testing.assert_allclose(spread(made * factor, real), scale * spread(made, real), rtol=1e-3)


def test_real_pictures_that_are_all_alike_compare_with_nothing() -> None:
    made = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert np.isnan(spread(made, np.ones((4, 3), np.float32)))
