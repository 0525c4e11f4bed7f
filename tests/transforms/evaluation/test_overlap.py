"""Counts and metrics of overlap: equal to scikit-learn and to mmsegmentation's own formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from transforms.evaluation.counting import code_counts, joint_counts, value_counts
from transforms.evaluation.encodings import Coding
from transforms.evaluation.overlap import areas, by_class, pixels_beyond, summary

CLASSES, IGNORE = 6, 255
LABELS = Coding(CLASSES, ignore_ids=(IGNORE,))
PREDICTIONS = Coding(CLASSES, ignore_ids=(IGNORE,))


def joint(truth, predicted):
    return joint_counts(truth, predicted, CLASSES, LABELS, PREDICTIONS)


def random_masks(seed, shape=(41, 53)):
    """Blobs and noise; class 1 only true, 2 only predicted, 3 in neither; some pixels ignored."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, CLASSES, (6, 6)), np.ones((7, 9), int))[: shape[0], : shape[1]]
    predicted = np.where(rng.random(shape) < 0.7, truth, rng.integers(0, CLASSES, shape))
    truth[truth == 2], predicted[predicted == 1] = 0, 0
    truth[truth == 3], predicted[predicted == 3] = 4, 4
    truth[rng.random(shape) < 0.1] = IGNORE
    return truth.astype(np.uint8), predicted.astype(np.uint8)


def mmseg(truth, predicted):
    """IoUMetric of mmsegmentation 1.2: intersect_and_union and total_area_to_metrics, in numpy."""
    mask = truth != IGNORE
    truth, predicted = truth[mask], predicted[mask]

    def histc(values):
        return np.histogram(values, CLASSES, (0, CLASSES - 1))[0]

    intersect, area_pred, area_label = (
        histc(predicted[predicted == truth]),
        histc(predicted[predicted < CLASSES]),
        histc(truth),
    )
    union = area_pred + area_label - intersect
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = intersect / area_pred, intersect / area_label
        return {
            "aAcc": intersect.sum() / area_label.sum(),
            "IoU": intersect / union,
            "Acc": intersect / area_label,
            "Dice": 2 * intersect / (area_pred + area_label),
            "Precision": precision,
            "Recall": recall,
            "Fscore": 2 * precision * recall / (precision + recall),
        }


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns(seed):
    truth, predicted = random_masks(seed)
    kept = truth != IGNORE
    flat, labels = (truth[kept], predicted[kept]), range(CLASSES)
    found, table = summary(joint(truth, predicted)), by_class(areas(joint(truth, predicted)))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        *flat, labels=labels, zero_division=np.nan
    )
    there = np.isin(labels, np.concatenate(flat))
    iou = sk.jaccard_score(*flat, labels=labels, average=None, zero_division=0)
    iou = np.where(there, iou, np.nan)
    for name, expected in (
        *(("precision", precision), ("recall", recall), ("accuracy", recall)),
        *(("f1", f1), ("dice", f1), ("iou", iou)),
    ):
        np.testing.assert_allclose(table[name], expected, rtol=1e-9, err_msg=name)
    assert found["pixel_accuracy"] == pytest.approx(sk.accuracy_score(*flat), rel=1e-9)
    assert found["miou"] == pytest.approx(np.nanmean(iou), rel=1e-9)
    assert found["mean_accuracy"] == pytest.approx(np.nanmean(recall), rel=1e-9)
    weighted = sk.jaccard_score(*flat, labels=labels, average="weighted", zero_division=0)
    assert found["fwiou"] == pytest.approx(weighted, rel=1e-9)
    weighted = sk.f1_score(*flat, labels=labels, average="weighted", zero_division=0)
    assert found["fwf1"] == pytest.approx(weighted, rel=1e-9)
    assert support.sum() == pixels_beyond(joint(truth, predicted))["evaluated_pixels"]
    assert (found["classes_evaluated"], found["classes_total"]) == (5, 6)


@pytest.mark.parametrize("fill", [0, 1])
def test_absent_is_scikit_learns_zero_division(fill):
    truth, predicted = random_masks(9)
    flat = truth[truth != IGNORE], predicted[truth != IGNORE]
    absent = ("zero", "one")[fill]
    table = by_class(areas(joint(truth, predicted)), absent)
    wanted = sk.precision_recall_fscore_support(*flat, labels=range(CLASSES), zero_division=fill)
    for name, expected in zip(("precision", "recall", "f1"), wanted, strict=False):
        np.testing.assert_allclose(table[name], expected, rtol=1e-9, err_msg=name)
    assert table["iou"][3] == fill
    jaccard = by_class(areas(joint(truth, predicted)), "skip")["iou"]
    expected = np.where(np.isnan(jaccard), fill, jaccard).mean()
    assert summary(joint(truth, predicted), absent)["miou"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_mmsegmentations(seed):
    truth, predicted = random_masks(seed)
    predicted[:2] = 77  # no class: in no column of theirs, and a miss of the true class
    expected, found = mmseg(truth, predicted), by_class(areas(joint(truth, predicted)))
    for name, theirs in (
        *(("iou", "IoU"), ("accuracy", "Acc"), ("dice", "Dice"), ("precision", "Precision")),
        ("recall", "Recall"),
    ):
        np.testing.assert_allclose(found[name], expected[theirs], rtol=1e-9, err_msg=name)
    total = summary(joint(truth, predicted))
    assert total["pixel_accuracy"] == pytest.approx(expected["aAcc"], rel=1e-9)
    for ours, theirs in (("miou", "IoU"), ("mean_accuracy", "Acc"), ("mdice", "Dice")):
        assert total[ours] == pytest.approx(np.nanmean(expected[theirs]), rel=1e-9)
    # where it differs: a class that was never predicted has an F of 0 here, and none there
    assert found["f1"][1] == 0 and np.isnan(expected["Fscore"][1])
    same = ~np.isnan(expected["Fscore"])
    np.testing.assert_allclose(found["f1"][same], expected["Fscore"][same], rtol=1e-9)


def test_what_is_not_compared_has_columns_of_its_own():
    truth = np.array([[0, 1, 255, 33], [0, 1, 2, 255]], np.uint8)
    predicted = np.array([[0, 255, 1, 0], [99, 1, 2, 2]], np.uint8)
    found = joint(truth, predicted)
    assert found.dtype == np.int64 and found.sum() == 8
    assert pixels_beyond(found) == {
        "pixels": 8,
        "evaluated_pixels": 5,
        "ignored_pixels": 2,
        "label_out_of_range_pixels": 1,
        "prediction_ignored_pixels": 1,
        "prediction_out_of_range_pixels": 1,
    }
    area = areas(found)
    assert area.true.tolist() == [2, 2, 1, 0, 0, 0]  # missed where the prediction is no class
    assert area.predicted.tolist() == [1, 1, 1, 0, 0, 0]  # none where the truth is none


@pytest.mark.parametrize("shape", [(1, 1), (0, 5), (3, 1)])
def test_degenerate_masks(shape):
    truth = np.full(shape, IGNORE, np.uint8)
    found = summary(joint(truth, np.zeros(shape, np.uint8)))
    assert np.isnan(found["miou"]) and np.isnan(found["pixel_accuracy"])
    assert np.isnan(found["fwiou"]) and found["classes_evaluated"] == 0
    truth[:] = 4
    if truth.size:
        assert summary(joint(truth, truth))["miou"] == 1.0
        assert summary(joint(truth, truth), "zero")["miou"] == 1 / CLASSES


MASKS = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 3, 7, 255]),
)


@settings(max_examples=60)
@given(MASKS, st.data())
def test_counts_are_those_of_a_plain_loop_and_any_cut_adds_up(truth, data):
    predicted = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 8)))
    expected = np.zeros((CLASSES + 2, CLASSES + 2), np.int64)
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        rows = [v if v < CLASSES else CLASSES + (v != IGNORE) for v in (t, p)]
        expected[rows[0], rows[1]] += 1
    np.testing.assert_array_equal(joint(truth, predicted), expected)
    cut = data.draw(st.integers(0, len(truth)))
    parts = [joint(truth[s], predicted[s]) for s in (slice(cut, None), slice(0, cut))]
    np.testing.assert_array_equal(sum(parts), expected)
    np.testing.assert_array_equal(code_counts(truth, CLASSES, LABELS), expected.sum(axis=1))
    assert sum(value_counts(truth).values()) == truth.size


def test_no_count_is_lost_above_the_whole_numbers_of_float32():
    truth = np.zeros((4097, 4097), np.uint8)
    assert joint(truth, truth)[0, 0] == 4097 * 4097


def test_shapes_must_be_equal():
    with pytest.raises(ValueError, match="expected one"):
        joint(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
