"""Comparing masks or labels: the confusion matrix, and metrics that are quotients of its sums."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Ratio = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def confusion_matrix(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.int64]:
    """Counts pixels by true and predicted class.

    Args:
        truth, predicted: class ids within [0, num_classes), of one shape.

    Returns:
        int64 [num_classes, num_classes]; rows are the truth. Matrices of images add up.

    Raises:
        ValueError: shapes differ, or an id is out of range.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth is {truth.shape}, the prediction is {predicted.shape}")
    for name, ids in (("truth", truth), ("prediction", predicted)):
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"{name} has ids {ids.min()} to {ids.max()}, expected 0 to {num_classes - 1}"
            )
    cells = truth.astype(np.int64).ravel() * num_classes + predicted.astype(np.int64).ravel()
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def confusion_of(sums: Mapping[str, Mapping[str, int]], classes: int) -> npt.NDArray[np.int64]:
    """int64 [C, C] of {asked: {predicted: count}}. Labels beyond are left out."""
    matrix = np.zeros((classes, classes), np.int64)
    for asked, row in sums.items():
        for predicted, count in row.items():
            if int(asked) < classes and int(predicted) < classes:
                matrix[int(asked), int(predicted)] += count
    return matrix


@dataclasses.dataclass(frozen=True)
class Scores:
    """Metrics of a confusion matrix, with TP, FP and FN of each class against all others.

    All are in [0, 1]; NaN where nothing was counted, as scikit-learn's zero_division=nan has it.
    Means are over the classes for which the metric is a number ("macro" average).

    Attributes:
        accuracy: sum of TP / all.
        precision: float64 [C], TP / (TP + FP).
        recall: float64 [C], TP / (TP + FN); its mean is also called mean accuracy.
        f1: float64 [C], 2 TP / (2 TP + FP + FN), which is Dice's coefficient.
        iou: float64 [C], TP / (TP + FP + FN) (Everingham et al., "The Pascal VOC Challenge", IJCV
            2010, section 4.1.3), pixels of the whole dataset added up first.
    """

    accuracy: float
    precision: Ratio
    recall: Ratio
    f1: Ratio
    iou: Ratio

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the classes for which it is a number, by name."""
        return {f"mean_{name}": mean_of_numbers(values) for name, values in self.by_class.items()}

    @property
    def by_class(self) -> dict[str, Ratio]:
        """The metrics that have a number for each class."""
        return {name: getattr(self, name) for name in ("precision", "recall", "f1", "iou")}


def mean_of_numbers(values: Ratio) -> float:
    """Mean of those that are a number; NaN when none is."""
    numbers = values[np.isfinite(values)]
    return float(numbers.mean()) if len(numbers) else np.nan


def scores(confusion: npt.NDArray[np.int64]) -> Scores:
    """Metrics of int64 [C, C + k]; rows are the truth.

    The k columns beyond the classes are of predictions that are no class: they are misses of the
    true class, and false hits of none.
    """
    hit = np.diag(confusion)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)[: len(confusion)]
    accuracy = float(ratio(hit.sum(), confusion.sum()))
    return Scores(accuracy, **class_ratios(hit, predicted, true))


def class_ratios(hit: Counts, predicted: Counts, true: Counts) -> dict[str, Ratio]:
    """Metrics by class (see Scores) of TP, TP + FP and TP + FN, of any shape [..., C]."""
    both = true + predicted
    return {
        "precision": ratio(hit, predicted),
        "recall": ratio(hit, true),
        "f1": ratio(2 * hit, both),
        "iou": ratio(hit, both - hit),
    }


def iou_per_class(confusion: npt.NDArray[np.int64]) -> Ratio:
    """Intersection over union by class, float64 [C] in [0, 1]; NaN where a class is in neither."""
    return scores(confusion).iou


def chance_accuracy(confusion: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The accuracy that pictures would have by chance if their content did not depend on the asked
    label, with the same predictions, and its standard deviation."""
    total = max(1, int(confusion.sum()))
    shares = confusion.sum(axis=0) * confusion.sum(axis=1) / total**2
    chance = float(shares.sum())
    return chance, float(np.sqrt(max(chance * (1 - chance), 1e-12) / total))


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Ratio:
    """float64 part / whole; NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    found = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.asarray(np.divide(part, whole, out=found, where=whole > 0))
