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

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from transforms.confusion import Ratio, ratio
from transforms.evaluation.counting import Codes

FRACTION = 0.02  # of the diagonal, as Cheng et al. have it
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
    lines = [band(codes, 1, frame=False) & counted for codes in (predicted, truth)]
    near = np.zeros((4, classes), np.int64)
    for class_id in np.unique(np.concatenate([predicted[lines[0]], truth[lines[1]]])):
        if class_id < classes:
            points = [
                np.argwhere(line & (codes == class_id))
                for line, codes in zip(lines, (predicted, truth), strict=True)
            ]
            near[:, class_id] = (
                _near(points[0], points[1], reach_px),
                len(points[0]),
                _near(points[1], points[0], reach_px),
                len(points[1]),
            )
    return found | dict(zip(CONTOUR, near, strict=True))


def _near(points: npt.NDArray[np.int64], others: npt.NDArray[np.int64], reach_px: int) -> int:
    """How many points have one of the others within reach_px."""
    if not len(points) or not len(others):
        return 0
    gaps, _ = cKDTree(others).query(points, distance_upper_bound=reach_px + 1e-6)
    return int(np.count_nonzero(gaps <= reach_px + 1e-9))


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
