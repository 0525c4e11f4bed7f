"""Distances of histograms agree with scipy; those of features are in test_feature_state.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from transforms.distances import histogram_distance


@given(st.lists(st.integers(0, 9), min_size=8, max_size=8), st.data())
def test_histogram_distance_equals_scipy(a, data):
    b = data.draw(st.lists(st.integers(0, 9), min_size=8, max_size=8))
    if not sum(a) or not sum(b):
        assert np.isnan(histogram_distance(a, b))
        return
    expected = wasserstein_distance(range(8), range(8), a, b)
    assert histogram_distance(a, b) == pytest.approx(expected, abs=1e-12)
