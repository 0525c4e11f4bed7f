"""Metrics of overlap from a joint matrix of pixels, and what a class that is absent counts.

A metric of a class is a quotient; where nothing was counted it is 0/0. `absent` says what it is
then: "skip" leaves the class out of means, "zero" and "one" count it as such. scikit-learn calls
this zero_division.

Where this differs from mmsegmentation (IoUMetric): its mFscore makes F of precision and recall, so
that a class that is never predicted has no F and is left out of the mean. Here F1 is
2 TP / (2 TP + FP + FN), Dice's coefficient, which is 0 for such a class. All other numbers are
equal wherever all true ids are classes or ignored.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.confusion import Counts, Ratio, class_ratios, ratio
from transforms.evaluation.counting import IGNORED, OUT_OF_RANGE

Absent = Literal["skip", "zero", "one"]
_FILL = {"skip": math.nan, "zero": 0.0, "one": 1.0}
# Names by class, and of their means.
MEANS = {
    "iou": "miou",
    "dice": "mdice",
    "accuracy": "mean_accuracy",
    "precision": "mprecision",
    "recall": "mrecall",
    "f1": "mf1",
}
WEIGHTED = ("iou", "dice", "precision", "f1")


class Areas(NamedTuple):
    """Pixels by class, [..., C] each; all that the metrics of a class need.

    Attributes:
        hit: TP, the intersection.
        predicted: TP + FP, where the truth is a class.
        true: TP + FN.
    """

    hit: Counts
    predicted: Counts
    true: Counts


def class_rows(joint: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 [..., C, C + 2]: rows of joint matrices [..., C + 2, C + 2] whose truth is a class."""
    return joint[..., :-2, :]


def areas(joint: npt.NDArray[np.int64]) -> Areas:
    """Pixels by class of joint matrices."""
    rows = class_rows(joint)
    return Areas(
        np.diagonal(rows, axis1=-2, axis2=-1), rows.sum(axis=-2)[..., :-2], rows.sum(axis=-1)
    )


def by_class(area: Areas, absent: Absent = "skip") -> dict[str, Ratio]:
    """float64 [..., C] in [0, 1] by name (see MEANS); NaN for "skip"."""
    found = class_ratios(*area)
    found = {name: filled(values, absent) for name, values in found.items()}
    return {
        "iou": found["iou"],
        "dice": found["f1"],
        "accuracy": found["recall"],
        "precision": found["precision"],
        "recall": found["recall"],
        "f1": found["f1"],
    }


def filled(values: Ratio, absent: Absent) -> Ratio:
    """The same with what `absent` says for 0/0."""
    return values if absent == "skip" else np.where(np.isnan(values), _FILL[absent], values)


def means(table: Mapping[str, Ratio], area: Areas) -> dict[str, Ratio]:
    """Metrics over classes, float64 [...] by name; NaN where there is nothing.

    `pixel_accuracy` is of all pixels whose truth is a class. `fwiou`, `fwdice` and so on weigh each
    class by its share of the true pixels.

    Args:
        table: metrics by class (see by_class).
        area: pixels by class.
    """
    found = {"pixel_accuracy": ratio(area.hit.sum(axis=-1), area.true.sum(axis=-1))}
    known: dict[int, Ratio] = {}  # some names stand for the same values
    for name, mean in MEANS.items():
        values = table[name]
        if id(values) not in known:
            known[id(values)] = mean_over_classes(values)
        found[mean] = known[id(values)]
    for name in WEIGHTED:
        found[f"fw{name}"] = frequency_weighted(table[name], area.true)
    return found


def summary(joint: npt.NDArray[np.int64], absent: Absent = "skip") -> dict[str, Any]:
    """Metrics of the pixels of a joint matrix (see means).

    `classes_evaluated` is how many classes have pixels in the truth or the prediction, and so an
    IoU.
    """
    area = areas(joint)
    found: dict[str, Any] = {
        name: float(value) for name, value in means(by_class(area, absent), area).items()
    }
    found["classes_evaluated"] = int(np.count_nonzero(area.true + area.predicted))
    found["classes_total"] = len(area.true)
    return found


def mean_over_classes(values: Ratio) -> Ratio:
    """float64 [...]: means of [..., C] over what is a number; NaN where nothing is."""
    there = np.isfinite(values)
    return ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1))


def frequency_weighted(values: Ratio, true: Counts) -> Ratio:
    """Mean over classes weighed by true pixels (Long et al., "Fully convolutional networks", CVPR
    2015, section 5). A class that is undefined though it is true counts 0: it was missed."""
    return ratio((np.nan_to_num(values) * true).sum(axis=-1), true.sum(axis=-1))


def pixels_beyond(joint: npt.NDArray[np.int64]) -> dict[str, int]:
    """Pixels that are not compared, or no class, by name."""
    classes = len(joint) - 2
    rows = class_rows(joint)
    return {
        "pixels": int(joint.sum()),
        "evaluated_pixels": int(rows.sum()),
        "ignored_pixels": int(joint[classes + IGNORED].sum()),
        "label_out_of_range_pixels": int(joint[classes + OUT_OF_RANGE].sum()),
        "prediction_ignored_pixels": int(rows[:, classes + IGNORED].sum()),
        "prediction_out_of_range_pixels": int(rows[:, classes + OUT_OF_RANGE].sum()),
    }
