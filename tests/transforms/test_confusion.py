"""Confusion matrices and IoU agree with scikit-learn's, and images add up exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transforms.confusion import (
    chance_accuracy,
    confusion_matrix,
    confusion_of,
    iou_per_class,
    scores,
)
from transforms.sums import add

metrics = pytest.importorskip("sklearn.metrics")


def masks(seed, num_classes, shape=(37, 41)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, shape)
    predicted = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, num_classes, shape))
    return truth.astype(np.uint8), predicted.astype(np.uint8)


@pytest.mark.parametrize("num_classes", [1, 2, 7, 256])
def test_the_matrix_is_scikit_learns(num_classes):
    truth, predicted = masks(num_classes, num_classes)
    expected = metrics.confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(num_classes))
    got = confusion_matrix(truth, predicted, num_classes)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("num_classes", [2, 7, 30])
def test_iou_is_scikit_learns_jaccard_score(num_classes):
    truth, predicted = masks(99, num_classes)
    expected = metrics.jaccard_score(
        truth.ravel(), predicted.ravel(), labels=range(num_classes), average=None
    )
    got = iou_per_class(confusion_matrix(truth, predicted, num_classes))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@given(
    hnp.arrays(np.uint8, st.integers(0, 60), elements=st.integers(0, 4)),
    st.data(),
)
def test_matrices_of_any_cut_add_up_to_the_matrix_of_the_whole(truth, data):
    predicted = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 4)))
    cut = data.draw(st.integers(0, truth.size))
    parts = [(truth[:cut], predicted[:cut]), (truth[cut:], predicted[cut:])]
    merged = sum(confusion_matrix(t, p, 5) for t, p in parts)
    np.testing.assert_array_equal(merged, confusion_matrix(truth, predicted, 5))
    assert merged.sum() == truth.size


def test_rows_are_the_truth():
    got = confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2)
    assert got.tolist() == [[0, 2], [0, 1]]


def test_a_class_in_neither_mask_has_no_iou_and_one_never_hit_has_zero():
    got = iou_per_class(confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 0]), 3))
    assert got[:2].tolist() == [2 / 3, 0.0]
    assert np.isnan(got[2])


def test_no_overflow_of_small_integers():
    ids = np.full((20, 20), 255, np.uint8)
    assert confusion_matrix(ids, ids, 256)[255, 255] == 400


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"truth is \(2, 3\)"),
        (np.array([0, 3]), np.array([0, 0]), "truth has ids 0 to 3, expected 0 to 2"),
        (np.array([0, 0]), np.array([0, 255]), "prediction has ids 0 to 255"),
        (np.array([-1, 0]), np.array([0, 0]), "truth has ids -1 to 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, predicted, 3)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_scikit_learns(seed, absent):
    classes = 6
    truth, predicted = masks(seed, classes)
    if absent:  # one class only true, one only predicted, one in neither
        truth[truth == 1], predicted[predicted == 2] = 0, 0
        truth[truth == 3], predicted[predicted == 3] = 0, 0
    flat = truth.ravel(), predicted.ravel()
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        *flat, labels=range(classes), zero_division=np.nan
    )
    found = scores(confusion_matrix(truth, predicted, classes))
    np.testing.assert_allclose(found.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(found.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(found.f1, f1, rtol=1e-12)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(*flat), rel=1e-12)
    assert found.means["mean_recall"] == pytest.approx(np.nanmean(recall), rel=1e-12)
    there = np.isin(range(classes), np.concatenate(flat))  # it knows no zero_division=nan
    jaccard = metrics.jaccard_score(*flat, labels=range(classes), average=None, zero_division=0)
    np.testing.assert_allclose(found.iou, np.where(there, jaccard, np.nan), rtol=1e-12)


def test_scores_of_nothing_are_not_a_number():
    found = scores(np.zeros((3, 3), np.int64))
    assert np.isnan(found.accuracy) and all(np.isnan(v) for v in found.means.values())


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_counts_by_name_are_the_matrix(pairs):
    sums = {}
    for asked, predicted in pairs:
        sums = add(sums, {str(asked): {str(predicted): 1}})
    expected = confusion_matrix(*np.array(pairs).T, 5)
    np.testing.assert_array_equal(confusion_of(sums, 5), expected)
    np.testing.assert_array_equal(confusion_of(sums, 3), expected[:3, :3])


def test_chance_is_what_shuffled_labels_reach():
    rng = np.random.default_rng(0)
    asked, predicted = rng.integers(0, 4, 4000), rng.choice(4, 4000, p=[0.7, 0.1, 0.1, 0.1])
    confusion = confusion_matrix(asked, predicted, 4)
    chance, deviation = chance_accuracy(confusion)
    assert scores(confusion).accuracy == pytest.approx(chance, abs=4 * deviation)
    assert deviation == pytest.approx(np.sqrt(0.25 * 0.75 / 4000), rel=0.05)
    true = confusion_matrix(asked, asked, 4)
    assert scores(true).accuracy > chance_accuracy(true)[0] + 50 * deviation
