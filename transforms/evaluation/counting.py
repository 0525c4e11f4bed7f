"""Counting pixels by what two masks say of them, in time that depends on edges, not on pixels."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Codes = npt.NDArray[np.integer]
Coder = Callable[[Values], Codes]

IGNORED, OUT_OF_RANGE = 0, 1  # codes C + IGNORED and C + OUT_OF_RANGE, behind the classes
EXTRA = 2


class Runs(NamedTuple):
    """Neighbours of a row that are equal in all masks, row by row.

    Attributes:
        starts: int64 [R], where each run begins in the raveled masks.
        lengths: int64 [R], in pixels.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def runs_of(*masks: Values) -> Runs:
    """The runs of masks of one shape. Raises ValueError when shapes differ."""
    shapes = {mask.shape for mask in masks}
    if len(shapes) != 1:
        raise ValueError(f"masks are of the shapes {sorted(shapes)}, expected one")
    size = masks[0].size
    if not size:
        return Runs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    first, *others = (mask.ravel() for mask in masks)
    changes = first[1:] != first[:-1]
    for flat in others:
        changes |= flat[1:] != flat[:-1]
    ends = np.append(np.flatnonzero(changes), size - 1) + 1
    starts = np.append(0, ends[:-1])
    return Runs(starts, ends - starts)


def joint_counts(
    truth: Values, predicted: Values, classes: int, code_truth: Coder, code_predicted: Coder
) -> npt.NDArray[np.int64]:
    """Counts pixels by true and predicted class.

    Args:
        truth, predicted: what files hold, of one shape.
        classes: C.
        code_truth, code_predicted: make codes of values: a class id below C, C + IGNORED or
            C + OUT_OF_RANGE.

    Returns:
        int64 [C + 2, C + 2]; rows are the truth, and the last two rows and columns are "ignored"
        and "out of range". Matrices of images add up.
    """
    runs = runs_of(truth, predicted)
    width = classes + EXTRA
    true, other = (mask.ravel()[runs.starts] for mask in (truth, predicted))
    if true.dtype == other.dtype == np.uint8:
        cells = _cells(code_truth, code_predicted, width)[true, other]
    else:
        cells = code_truth(true).astype(np.int64) * width
        cells += code_predicted(other)
    return weighted_counts(cells, runs.lengths, width * width).reshape(width, width)


@functools.lru_cache(8)
def _cells(code_truth: Coder, code_predicted: Coder, width: int) -> npt.NDArray[np.int64]:
    """int64 [256, 256]: cell of each pair of true and predicted values."""
    values = np.arange(256, dtype=np.uint8)
    return np.add.outer(
        code_truth(values).astype(np.int64) * width, code_predicted(values).astype(np.int64)
    )


def code_counts(values: Values, classes: int, code: Coder) -> npt.NDArray[np.int64]:
    """int64 [C + 2]: pixels of one mask by code."""
    runs = runs_of(values)
    return weighted_counts(code(values.ravel()[runs.starts]), runs.lengths, classes + EXTRA)


def value_counts(values: Values) -> dict[int, int]:
    """Pixels by the value that stands in the file."""
    runs = runs_of(values)
    found, where = np.unique(values.ravel()[runs.starts], return_inverse=True)
    counts = weighted_counts(where, runs.lengths, len(found))
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def weighted_counts(
    cells: npt.NDArray[np.integer], lengths: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """int64 [size]: sums of lengths by cell. Exact: float64 holds whole numbers to 2**53."""
    return np.bincount(cells, weights=lengths, minlength=size).astype(np.int64)
