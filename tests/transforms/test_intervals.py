"""Intervals agree with SciPy's t tests, and cover what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from transforms.intervals import LEVEL, mean_interval

VALUES = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=2, max_size=12
)


@given(VALUES)
def test_of_differences_it_is_the_paired_t_test_of_scipy(pairs: list[tuple[float, float]]) -> None:
    a, b = np.asarray(pairs).T
    found = mean_interval(a - b)
    if np.ptp(a - b) < 1e-9:  # where SciPy warns of precision lost
        assert found.high - found.low < 1e-7
        return
    expected = stats.ttest_rel(a, b).confidence_interval(LEVEL)
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.mean, (a - b).mean(), atol=1e-12)


def test_95_of_100_intervals_hold_the_mean() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 5))
    held = [found.low <= 3.0 <= found.high for found in map(mean_interval, draws)]
    assert 0.94 < np.mean(held) < 0.96


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = mean_interval([0.1] * 3)
    assert (found.mean, found.low, found.high) == (0.1, 0.1, 0.1)


def test_what_is_no_number_gives_none() -> None:
    assert np.isnan(mean_interval([0.1, np.nan]).low)


@pytest.mark.parametrize("values", [[0.5], [], [[1.0, 2.0]]])
def test_too_few_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="n of 2 or more"):
        mean_interval(values)
