"""How well boundaries are met: boundary IoU and boundary F-score, with their width.

Boundary IoU (Cheng et al., CVPR 2021): the intersection over union of the inner bands, `width_px`
wide, of the true and the predicted region of each class. The band of a region is the region less
its erosion by a 3x3 square, `width_px` times; beyond the picture nothing is of the region. For all
classes at once that is: pixels within `width_px`, diagonals counting 1, of another class or of the
edge of the picture.

Boundary F-score (Csurka et al., BMVC 2013; bfscore in MATLAB): contours are bands 1 px wide, less
the edge of the picture. Precision is the share of the predicted contour within `width_px`
(Euclidean) of the true one, recall the share of the true contour within it of the predicted one.

Pixels whose truth is no class do not count. All numbers add up over pictures; the quotients of the
sums are those of the data set.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from transforms.confusion import Ratio, ratio
from transforms.evaluation.counting import Codes

_CLOSE_PX = 3
_CLOSE = sorted(
    ((y, x) for y in range(-3, 4) for x in range(-3, 4) if y * y + x * x <= _CLOSE_PX**2),
    key=lambda step: step[0] ** 2 + step[1] ** 2,
)
# Names of what is counted by class.
BAND = ("band_hit", "band_predicted", "band_true")
CONTOUR = ("contour_near_true", "contour_predicted", "contour_near_predicted", "contour_true")


def width_px(size_hw: tuple[int, int], width: float) -> int:
    """Pixels of a width: below 1 a fraction of the diagonal, at least one pixel; else itself."""
    if width >= 1:
        return round(width)
    return max(1, round(width * math.sqrt(size_hw[0] ** 2 + size_hw[1] ** 2)))


def band(codes: Codes, reach_px: int, frame: bool = True) -> npt.NDArray[np.bool_]:
    """bool [H, W]: pixels with another code within `reach_px` rows and columns.

    Args:
        frame: pixels within `reach_px` of the edge of the picture count as well.
    """
    differs = np.zeros(codes.shape, bool)
    low = _extreme(_extreme(codes, reach_px, np.minimum, 0), reach_px, np.minimum, 1)
    high = _extreme(_extreme(codes, reach_px, np.maximum, 0), reach_px, np.maximum, 1)
    np.not_equal(low, high, out=differs)
    if frame:
        differs[:reach_px] = differs[-reach_px:] = True
        differs[:, :reach_px] = differs[:, -reach_px:] = True
    return differs


def _extreme(codes: Codes, reach_px: int, extreme: np.ufunc, axis: int) -> Codes:
    """The extreme of 2 reach_px + 1 neighbours along an axis, by doubling the window."""
    window = 2 * reach_px + 1
    pads = [(reach_px, reach_px) if axis == i else (0, 0) for i in range(2)]
    found = np.pad(codes, pads, mode="edge")
    found = found if axis == 0 else found.T
    done = 1
    while done < window:
        step = min(done, window - done)
        found = extreme(found[: len(found) - step], found[step:])
        done += step
    return found if axis == 0 else found.T


def boundary_counts(
    truth: Codes, predicted: Codes, classes: int, reach_px: int
) -> dict[str, npt.NDArray[np.int64]]:
    """int64 [C] by name (see BAND and CONTOUR).

    Args:
        truth, predicted: codes [H, W] (see joint_counts).
        reach_px: the width, in pixels.
    """
    counted = truth < classes
    in_true, in_predicted = (band(codes, reach_px) & counted for codes in (truth, predicted))
    both = in_true & in_predicted & (truth == predicted)

    def count(codes: Codes, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        return np.bincount(codes[where], minlength=classes)[:classes].astype(np.int64)

    found = dict(
        zip(
            BAND,
            (count(truth, both), count(predicted, in_predicted), count(truth, in_true)),
            strict=True,
        )
    )
    lines = [_contour(codes, counted, classes) for codes in (predicted, truth)]
    near = (
        np.bincount(ids, minlength=classes)
        for line, other in (lines, lines[::-1])
        for ids in (_near(line, other, reach_px), line.ids)
    )
    return found | dict(zip(CONTOUR, near, strict=True))


class _Contour(NamedTuple):
    """The contour of all classes.

    Attributes:
        codes: [H + 2 _CLOSE_PX, W + 2 _CLOSE_PX], its codes, and the number of classes elsewhere.
        points: int64 [N, 2], row and column.
        ids: int64 [N], class of each point.
    """

    codes: Codes
    points: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]


def _contour(codes: Codes, counted: npt.NDArray[np.bool_], classes: int) -> _Contour:
    where = band(codes, 1, frame=False) & counted & (codes < classes)
    lines = np.pad(np.where(where, codes, classes), _CLOSE_PX, constant_values=classes)
    points = np.stack(np.nonzero(where), axis=1)
    return _Contour(lines, points, codes[where].astype(np.int64))


def _near(line: _Contour, other: _Contour, reach_px: int) -> npt.NDArray[np.int64]:
    """Classes of the points of a contour that have one of the other, of their class, within reach.

    Most have one very near: those are found by looking there, the others by a search tree.
    """
    left, found = np.arange(len(line.ids)), []
    for step in _CLOSE:
        if step[0] ** 2 + step[1] ** 2 <= reach_px**2:
            rows, columns = (line.points[left] + step + _CLOSE_PX).T
            hit = other.codes[rows, columns] == line.ids[left]
            found.append(line.ids[left[hit]])
            left = left[~hit]
    if len(left) and len(other.ids):
        apart = 4 * reach_px + 4  # a third coordinate that keeps classes out of reach
        others, points = (
            np.column_stack([c.points[which], c.ids[which] * apart]).astype(np.float64)
            for c, which in ((other, slice(None)), (line, left))
        )
        tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
        gaps, _ = tree.query(points, distance_upper_bound=reach_px + 0.5)
        found.append(line.ids[left[gaps <= reach_px + 1e-9]])
    return np.concatenate([*found, np.zeros(0, np.int64)])


def boundary_iou(counts: dict[str, npt.NDArray[np.int64]]) -> Ratio:
    """float64 [C]; NaN where a class has no boundary on either side."""
    hit, predicted, true = (counts[name] for name in BAND)
    return ratio(hit, predicted + true - hit)


def boundary_f1(counts: dict[str, npt.NDArray[np.int64]]) -> Ratio:
    """float64 [C], 2 P R / (P + R); 0 where one side has no contour, NaN where neither has."""
    near_true, predicted, near_predicted, true = (counts[name] for name in CONTOUR)
    precision, recall = (
        np.nan_to_num(r) for r in (ratio(near_true, predicted), ratio(near_predicted, true))
    )
    found = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
    return np.where(predicted + true > 0, found, np.nan)
