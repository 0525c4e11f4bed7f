"""Comparing masks: the confusion matrix, and the metrics that are quotients of its sums."""

import numpy as np
import numpy.typing as npt


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


def iou_per_class(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Intersection over union by class, float64 [C] in [0, 1]; NaN where a class is in neither.

    The definition of Everingham et al., "The Pascal VOC Challenge", IJCV 2010, section 4.1.3:
    TP / (TP + FP + FN), pixels of the whole dataset added up first.
    """
    hit = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, hit / union, np.nan)
