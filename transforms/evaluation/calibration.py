"""Whether confidence means what it says: expected calibration error, from counts by confidence."""

import numpy as np
import numpy.typing as npt

from transforms.evaluation.counting import Codes

LEVELS = 256  # of a confidence map
BINS = 15


def confidence_counts(
    confidence: npt.NDArray[np.uint8], truth: Codes, predicted: Codes, classes: int
) -> npt.NDArray[np.int64]:
    """int64 [2, 256]: pixels by confidence, wrong and right ones; those without a true class, or
    without a predicted one, do not count.

    Args:
        confidence: uint8 [H, W], probability of the predicted class times 255.
        truth, predicted: codes [H, W] (see joint_counts).
    """
    right = (truth == predicted).astype(np.uint16)
    cells = (right * np.uint16(LEVELS) + confidence)[(truth < classes) & (predicted < classes)]
    return np.bincount(cells, minlength=2 * LEVELS).reshape(2, LEVELS).astype(np.int64)


def bins_of(counts: npt.NDArray[np.int64], bins: int = BINS) -> list[dict[str, float]]:
    """A reliability table: pixels, mean confidence and accuracy in bins of equal width.

    A confidence v/255 lies in bin i of n when i/n < v/255 <= (i+1)/n, 0 in the first, as in Guo et
    al., "On calibration of modern neural networks", ICML 2017, section 2. Empty bins are left out.
    """
    levels = np.arange(LEVELS)
    bin_of = np.maximum(0, (levels * bins + LEVELS - 2) // (LEVELS - 1) - 1)
    rows = []
    for index in range(bins):
        inside = counts[:, bin_of == index]
        pixels = int(inside.sum())
        if pixels:
            total = int((inside.sum(axis=0) * levels[bin_of == index]).sum())
            rows.append(
                {
                    "low": index / bins,
                    "high": (index + 1) / bins,
                    "pixels": pixels,
                    "confidence": total / (LEVELS - 1) / pixels,
                    "accuracy": int(inside[1].sum()) / pixels,
                }
            )
    return rows


def expected_calibration_error(counts: npt.NDArray[np.int64], bins: int = BINS) -> float:
    """Mean gap of confidence and accuracy over bins, weighed by pixels; NaN without any.

    Exact for the confidence as the map has it, in steps of 1/255.
    """
    rows = bins_of(counts, bins)
    total = sum(row["pixels"] for row in rows)
    if not total:
        return float("nan")
    gaps = (row["pixels"] * abs(row["confidence"] - row["accuracy"]) for row in rows)
    return float(sum(gaps) / total)
