"""Metrics are torchmetrics' where it is right, to its float32; where it differs stands here too."""

import json
from pathlib import Path

import numpy as np
import pytest
from torchmetrics_reference import (
    CLASSES,
    IGNORE,
    MANY,
    MANY_CONFIDENCE,
    confidences,
    degenerate,
    masks,
)

from transforms.evaluation.calibration import confidence_counts, expected_calibration_error
from transforms.evaluation.counting import joint_counts
from transforms.evaluation.encodings import Coding
from transforms.evaluation.overlap import areas, by_class, summary

REFERENCE = json.loads((Path(__file__).parents[2] / "torchmetrics_reference.json").read_bytes())
CASES = REFERENCE["cases"]
TOLERANCE = 1e-6
NAMES = ("iou", "f1", "precision", "recall")
ALL = Coding(CLASSES)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["seed"])


def joint(truth, predicted, label=ALL, prediction=ALL):
    return joint_counts(truth, predicted, CLASSES, label, prediction)


def close(expected):
    return pytest.approx(expected, abs=TOLERANCE)


def ignoring(value):
    return Coding(CLASSES, ignore_ids=(value,))


@each_case
def test_by_class_and_means(case):
    found = joint(*masks(case["seed"]), ignoring(IGNORE))
    theirs, ours = case["outside"], summary(found)
    zeros = by_class(areas(found), "zero")  # what it says of absent classes by class
    for name in NAMES:
        assert zeros[name].tolist() == close(theirs[f"{name}_none"]), name
    assert zeros["dice"].tolist() == close(theirs["f1_none"])
    for name in ("iou", "f1"):
        assert ours[f"m{name}"] == close(theirs[f"{name}_macro"])
        assert ours[f"fw{name}"] == close(theirs[f"{name}_weighted"])
    assert ours["fwprecision"] == close(theirs["precision_weighted"])
    assert ours["pixel_accuracy"] == close(theirs["accuracy_micro"])
    assert ours["pixel_accuracy"] == close(theirs["recall_weighted"])


@each_case
def test_macro_precision_and_recall_count_what_is_undefined_as_zero(case):
    """Its macro precision of a class never predicted is 0, and its recall of one never true; yet a
    class in neither is left out: "skip" and "zero" at once."""
    found = joint(*masks(case["seed"]), ignoring(IGNORE))
    area, ours = areas(found), summary(found)
    appears = area.true + area.predicted > 0
    assert appears.sum() == CLASSES - 1
    for name in ("precision", "recall"):
        theirs = case["outside"][f"{name}_macro"]
        assert by_class(area, "zero")[name][appears].mean() == close(theirs)
        assert ours[f"m{name}"] > theirs + 0.05
        assert summary(found, "zero")[f"m{name}"] < theirs - 0.05


@each_case
def test_ignoring_a_class(case):
    truth, predicted = masks(case["seed"], ignored=False)
    theirs, label = case["class_0"], ignoring(0)
    both = joint(truth, predicted, label, label)
    for name in ("iou", "f1", "recall"):
        table = by_class(areas(both), "zero")
        assert table[name].tolist() == close(theirs[f"{name}_none"]), name
    assert summary(both)["pixel_accuracy"] == close(theirs["accuracy_micro"])
    assert summary(both)["miou"] == close(theirs["iou_macro"])
    # its macro F1 counts the ignored class as 0 where it is predicted, its macro IoU does not
    assert summary(both)["mf1"] > theirs["f1_macro"] + 0.05
    assert summary(joint(truth, predicted, label))["mf1"] == close(theirs["f1_macro"])


@each_case
def test_per_image(case):
    theirs, every = case["per_image"], []
    for number, sides in enumerate(zip(*masks(case["seed"], ignored=False), strict=True)):
        found = joint(*sides)
        table = by_class(areas(found))["iou"]
        assert np.nan_to_num(table, nan=-1).tolist() == close(theirs["iou"][number])
        assert summary(found)["miou"] == close(theirs["miou"][number])
        assert summary(found)["mdice"] == close(theirs["mdice"][number])
        every.append(table)
    # its module weighs pictures by their number of classes
    assert np.nanmean(every) == close(theirs["module_miou"])
    assert abs(np.mean(theirs["miou"]) - theirs["module_miou"]) > TOLERANCE


@pytest.mark.parametrize("name", degenerate())
def test_degenerate(name):
    theirs = REFERENCE["degenerate"][name]
    found = joint(*degenerate()[name], ignoring(IGNORE))
    ours = summary(found)
    for metric in NAMES:
        table = by_class(areas(found), "zero")[metric]
        assert table.tolist() == close(theirs[f"{metric}_none"]), metric
    if name == "all_ignored":  # nothing is no 0; its macro IoU agrees, its macro F1 does not
        assert theirs["iou_macro"] is None and theirs["f1_macro"] == 0
        assert np.isnan([ours["miou"], ours["mf1"]]).all()
        return
    for metric in ("iou", "f1"):
        assert ours[f"m{metric}"] == close(theirs[f"{metric}_macro"])


def calibration_error(seed, edges):
    truth, predicted = masks(seed)
    counts = confidence_counts(confidences(seed, edges), truth, predicted, CLASSES)
    return expected_calibration_error(counts)


@each_case
def test_calibration_error(case):
    seed = case["seed"]
    found = calibration_error(seed, edges=False)
    assert found == pytest.approx(case["calibration_float64"], rel=1e-9)
    assert found == pytest.approx(case["calibration"], abs=1e-5)  # as it adds up, in float32
    # its bins hold their lower edge, ours, as in the paper, their upper; and 1 has a bin to itself
    difference = abs(calibration_error(seed, edges=True) - case["calibration_edges"])
    assert TOLERANCE < difference < 0.02


def test_calibration_error_of_many_pixels():
    """It adds up in float32, which stops at 2**24 pixels of a bin and rounds long before."""
    true = 1 - MANY_CONFIDENCE / 255
    for pixels in (1000, MANY):
        counts = np.zeros((2, 256), np.int64)
        counts[1, MANY_CONFIDENCE] = pixels
        assert expected_calibration_error(counts) == pytest.approx(true, rel=1e-9)
    assert REFERENCE["calibration_few"] == pytest.approx(true, abs=1e-4)
    assert abs(REFERENCE["calibration_many"] - true) > 0.09
