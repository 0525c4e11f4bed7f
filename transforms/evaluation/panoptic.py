"""Panoptic quality (Kirillov et al., CVPR 2019), counted as panopticapi does.

A true and a predicted segment of one class match when their IoU is above 0.5, where predicted
pixels whose truth is ignored do not count. A predicted segment that did not match and lies by more
than half on ignored pixels is no false positive. There are no crowd regions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from transforms.confusion import Ratio, ratio
from transforms.evaluation.counting import Codes, runs_of, weighted_counts

COUNTS = ("iou", "true_positive", "false_positive", "false_negative")
# IoUs add up as whole numbers of this unit, or the order of additions would show in the sum.
UNIT = 1 << 40
_EIGHT = np.ones((3, 3), np.int8)
_BITS = 32


class Segments(NamedTuple):
    """The segments of a mask.

    Attributes:
        ids: uint32 or narrower [H, W], a number for each segment; two classes never share one.
        codes: of their classes [H, W] (see joint_counts).
    """

    ids: npt.NDArray[np.unsignedinteger]
    codes: Codes


def components(codes: Codes, skip: Sequence[int] = ()) -> Segments:
    """The connected regions of each class as segments; pixels that touch at a corner connect.

    Args:
        skip: codes that stay one segment each, such as the background.
    """
    ids = np.zeros(codes.shape, np.uint32)
    count = 0
    for code in np.unique(codes).tolist():
        where = codes == code
        if code in skip:
            labels, found = where.astype(np.uint32), 1
        else:
            labels, found = ndimage.label(where, _EIGHT)
        ids[where] = labels[where] + count
        count += found
    return Segments(ids, codes)


def panoptic_counts(
    truth: Segments, predicted: Segments, classes: int, background: int | None = None
) -> npt.NDArray[np.int64]:
    """int64 [4, C], rows as in COUNTS.

    Args:
        truth, predicted: of one shape; codes at or above `classes` are void.
        background: a class whose pixels are no segment, but no void either; None for none.
    """
    runs = runs_of(truth.ids, predicted.ids)
    t, p = (s.ids.ravel()[runs.starts].astype(np.uint64) for s in (truth, predicted))
    pair = (t << np.uint64(_BITS)) | p
    found, first, where = np.unique(pair, return_index=True, return_inverse=True)
    inter = weighted_counts(where, runs.lengths, len(found))
    at = runs.starts[first]
    t_class, p_class = (s.codes.ravel()[at].astype(np.int64) for s in (truth, predicted))
    true_ids, t_at = np.unique(found >> np.uint64(_BITS), return_inverse=True)
    predicted_ids, p_at = np.unique(found & np.uint64((1 << _BITS) - 1), return_inverse=True)
    true_area = weighted_counts(t_at, inter, len(true_ids))
    predicted_area = weighted_counts(p_at, inter, len(predicted_ids))
    void = weighted_counts(p_at, np.where(t_class >= classes, inter, 0), len(predicted_ids))

    def is_segment(code: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return np.asarray((code < classes) & (code != (-1 if background is None else background)))

    union = predicted_area[p_at] + true_area[t_at] - inter - void[p_at]
    match = (t_class == p_class) & is_segment(t_class) & (2 * inter > union)
    counts = np.zeros((4, classes), np.int64)
    units = np.rint(inter[match] / union[match] * UNIT).astype(np.int64)
    np.add.at(counts[0], t_class[match], units)
    counts[1] = np.bincount(t_class[match], minlength=classes)
    for row, at_segment, code, taken, excused in (
        (3, t_at, t_class, t_at[match], np.zeros(len(true_ids), bool)),
        (2, p_at, p_class, p_at[match], 2 * void > predicted_area),
    ):
        of_segment = np.zeros(len(excused), np.int64)
        of_segment[at_segment] = code
        missed = is_segment(of_segment) & ~excused
        missed[taken] = False
        counts[row] = np.bincount(of_segment[missed], minlength=classes)
    return counts


def panoptic_quality(counts: npt.NDArray[np.int64]) -> dict[str, Ratio]:
    """PQ, SQ and RQ, float64 [C] each; NaN where a class has no segment on either side."""
    iou = counts[0] / UNIT
    tp, fp, fn = counts[1:]
    weight = tp + 0.5 * fp + 0.5 * fn
    return {
        "pq": ratio(iou, weight),
        "sq": np.where(weight > 0, np.nan_to_num(ratio(iou, tp)), np.nan),
        "rq": ratio(tp, weight),
    }
