"""Quotients of merged sums agree with scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from transforms.scores import agreement, chance_accuracy, confusion_of, histogram_distance
from transforms.sums import add

labels = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(labels)
def test_agreement_equals_scikit_learn(pairs):
    asked, predicted = zip(*pairs, strict=True)
    sums = {}
    for a, p in pairs:
        sums = add(sums, {str(a): {str(p): 1}})
    confusion = confusion_of(sums, 5)
    np.testing.assert_array_equal(
        confusion, confusion_matrix(asked, predicted, labels=list(range(5)))
    )
    found = agreement(confusion)
    assert found.accuracy == pytest.approx(accuracy_score(asked, predicted))
    expected = precision_recall_fscore_support(
        asked, predicted, labels=list(range(5)), zero_division=np.nan
    )
    np.testing.assert_allclose(found.precision, expected[0], rtol=1e-12)
    np.testing.assert_allclose(found.recall, expected[1], rtol=1e-12)
    np.testing.assert_allclose(found.f1, expected[2], rtol=1e-12)


def test_chance_is_what_shuffled_labels_reach():
    rng = np.random.default_rng(0)
    asked, predicted = rng.integers(0, 4, 4000), rng.choice(4, 4000, p=[0.7, 0.1, 0.1, 0.1])
    confusion = confusion_matrix(asked, predicted)
    chance, deviation = chance_accuracy(confusion)
    assert agreement(confusion).accuracy == pytest.approx(chance, abs=4 * deviation)
    assert deviation == pytest.approx(np.sqrt(0.25 * 0.75 / 4000), rel=0.05)
    true = confusion_matrix(asked, asked)
    assert agreement(true).accuracy > chance_accuracy(true)[0] + 50 * deviation


@given(st.lists(st.integers(0, 9), min_size=8, max_size=8), st.data())
def test_histogram_distance_equals_scipy(a, data):
    b = data.draw(st.lists(st.integers(0, 9), min_size=8, max_size=8))
    if not sum(a) or not sum(b):
        assert np.isnan(histogram_distance(a, b))
        return
    expected = wasserstein_distance(range(8), range(8), a, b)
    assert histogram_distance(a, b) == pytest.approx(expected, abs=1e-12)
