"""Scoring one picture: its row, its share of the sums, from a prediction and, if there, a label.

All sums are whole numbers. Means over pictures add up in units of 2**-40.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.confusion import mean_of_numbers
from transforms.evaluation import boundary, panoptic
from transforms.evaluation.calibration import confidence_counts, expected_calibration_error
from transforms.evaluation.counting import Values, code_counts, joint_counts, value_counts
from transforms.evaluation.encodings import Coding, resize_nearest
from transforms.evaluation.overlap import (
    MEANS,
    Absent,
    areas,
    by_class,
    filled,
    pixels_beyond,
    summary,
)
from transforms.failures import Failure
from transforms.sums import Sums

UNIT = panoptic.UNIT
MOST_CLASSES = 1024
# Metrics of one picture, in the order of columns.
SCORES = (
    *("pixel_accuracy", *MEANS.values(), "fwiou"),
    *("boundary_iou", "boundary_f1", "pq", "calibration_error"),
)
_LISTS = ("class_pixels", "hit_pixels", "predicted_pixels", "true_pixels")
COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("resized", pa.bool_()),
        pa.field("evaluated_pixels", pa.int64()),
        pa.field("ignored_pixels", pa.int64()),
        pa.field("out_of_range_pixels", pa.int64()),
        *(pa.field(name, pa.float64()) for name in SCORES),
        pa.field("classes_evaluated", pa.int32()),
        pa.field("mean_confidence", pa.float64()),
        pa.field("components", pa.int32()),
        pa.field("largest_component_share", pa.float64()),
        pa.field("classes", pa.list_(pa.int32())),
        *(pa.field(name, pa.list_(pa.int64())) for name in _LISTS),
    ]
)


@dataclasses.dataclass(frozen=True)
class Scoring:
    """What is measured, and how.

    Attributes:
        predictions, labels: what values mean; of labels None when there are none.
        absent: what a class counts that is in neither (see transforms/evaluation/overlap.py).
        resize: bring predictions of another size to the label's, nearest; else they are failures.
        boundary_width: of boundary metrics, a fraction of the diagonal or pixels; 0 for none.
        panoptic: also match instances, where labels are of instances.
        components: count connected components of predictions.
    """

    predictions: Coding
    labels: Coding | None = None
    absent: Absent = "skip"
    resize: bool = False
    boundary_width: float = 0.0
    panoptic: bool = False
    components: bool = False

    @property
    def classes(self) -> int:
        return self.predictions.classes


class Masks(NamedTuple):
    """What is known of one picture.

    Attributes:
        predicted, truth: values of the masks [H, W]; truth is None without labels.
        confidence: uint8 [H, W], of the prediction, probability times 255; None without.
    """

    predicted: Values
    truth: Values | None = None
    confidence: npt.NDArray[np.uint8] | None = None


def score(masks: Masks, scoring: Scoring, name: str) -> tuple[dict[str, Any], Sums]:
    """The row and the sums of one picture, whose name is for messages.

    Raises:
        Failure: sizes differ.
    """
    masks, resized = _of_one_size(masks, scoring.resize, name)
    predicted, truth, confidence = masks
    height, width = predicted.shape
    row: dict[str, Any] = {"width": width, "height": height, "resized": resized}
    sums: Sums = {"widths": {str(width): 1}, "heights": {str(height): 1}}
    sums["resized_images"] = int(resized)
    if truth is None or scoring.labels is None:
        counts = code_counts(predicted, scoring.classes, scoring.predictions)
        row["out_of_range_pixels"] = int(counts[-1])
    else:
        joint = joint_counts(truth, predicted, scoring.classes, scoring.labels, scoring.predictions)
        counts = joint.sum(axis=0)
        _add_overlap(row, sums, joint, scoring.absent)
        _note_strange(sums, "label_values", truth, scoring.labels, joint.sum(axis=1)[-1])
    _note_strange(sums, "prediction_values", predicted, scoring.predictions, counts[-1])
    _add_shares(row, sums, counts)
    if confidence is not None:
        levels = np.bincount(confidence.ravel(), minlength=256).astype(np.int64)
        sums["confidence"] = levels
        row["mean_confidence"] = float((levels * np.arange(256)).sum() / 255 / max(1, levels.sum()))
    _add_full(row, sums, masks, scoring)
    _add_means(row, sums)
    return row, sums


def _of_one_size(masks: Masks, resize: bool, name: str) -> tuple[Masks, bool]:
    """Masks of the label's size, and whether that was made so. Raises a Failure."""
    predicted, truth, confidence = masks
    if confidence is not None and confidence.shape != predicted.shape:
        raise Failure(
            "check",
            "mask_size",
            f"the confidence of {name} is {_size(confidence)}, its mask {_size(predicted)}; they "
            "are of different runs",
        )
    if truth is None or predicted.shape == truth.shape:
        return masks, False
    if not resize:
        raise Failure(
            "check",
            "mask_size",
            f"the prediction of {name} is {_size(predicted)}, its label {_size(truth)}; make them "
            "equal, or give --resize=nearest",
        )
    size_hw = (truth.shape[0], truth.shape[1])
    if confidence is not None:
        confidence = resize_nearest(confidence, size_hw).astype(np.uint8)
    return Masks(resize_nearest(predicted, size_hw), truth, confidence), True


def _size(mask: npt.NDArray[Any]) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"


def _add_overlap(
    row: dict[str, Any], sums: Sums, joint: npt.NDArray[np.int64], absent: Absent
) -> None:
    beyond = pixels_beyond(joint)
    row["evaluated_pixels"], row["ignored_pixels"] = (
        beyond["evaluated_pixels"],
        beyond["ignored_pixels"],
    )
    row["out_of_range_pixels"] = (
        beyond["prediction_out_of_range_pixels"] + beyond["label_out_of_range_pixels"]
    )
    area = areas(joint)
    row.update(zip(_LISTS[1:], area, strict=True))
    sums["joint"] = joint.ravel()
    if not beyond["evaluated_pixels"]:
        return
    found = summary(joint, absent)
    row.update({name: found[name] for name in SCORES if name in found})
    row["classes_evaluated"] = found["classes_evaluated"]
    iou = by_class(joint, absent)["iou"]
    there = ~np.isnan(iou)
    sums["image_iou"] = np.rint(np.where(there, iou, 0) * UNIT).astype(np.int64)
    sums["image_iou_count"] = there.astype(np.int64)


def _note_strange(
    sums: Sums, name: str, values: Values, coding: Coding | None, pixels: int
) -> None:
    """Notes which values are out of range, for the message that helps; most masks have none."""
    if pixels and coding is not None and values.dtype != np.uint32:
        codes = coding(values)
        found = value_counts(values[codes == coding.classes + 1][np.newaxis])
        sums[name] = {str(value): found[value] for value in sorted(found)[:20]}


def _add_shares(row: dict[str, Any], sums: Sums, counts: npt.NDArray[np.int64]) -> None:
    """What the prediction shows. Lists of the row are cut to the classes that are there."""
    shown = counts[:-2]
    there = shown > 0
    for name in _LISTS[1:]:
        there = there | (row.get(name, shown) > 0)
    classes = np.flatnonzero(there)
    row["class_pixels"] = shown
    row["classes"] = classes.tolist()
    for name in _LISTS:
        row[name] = row[name][classes].tolist() if name in row else None
    sums["pixels"] = int(counts.sum())
    sums["ignored_pixels"] = int(counts[-2])
    sums["out_of_range_pixels"] = int(counts[-1])
    sums["class_pixels"] = shown
    sums["class_images"] = (shown > 0).astype(np.int64)
    sums["one_class_images"] = int(np.count_nonzero(shown) == 1)
    sums["empty_images"] = int(not shown[1:].any())


def _add_full(row: dict[str, Any], sums: Sums, masks: Masks, scoring: Scoring) -> None:
    """What needs the codes of every pixel."""
    predicted, truth, confidence = masks
    classes = scoring.classes
    if scoring.components:
        _add_components(row, sums, scoring.predictions(predicted), classes)
    wanted = scoring.boundary_width or scoring.panoptic or confidence is not None
    if truth is None or scoring.labels is None or not wanted:
        return
    codes, true_codes = scoring.predictions(predicted), scoring.labels(truth)
    if confidence is not None:
        calibration = confidence_counts(confidence, true_codes, codes, classes)
        sums["calibration"] = calibration.ravel()
        row["calibration_error"] = expected_calibration_error(calibration)
    if scoring.boundary_width:
        reach_px = boundary.width_px((truth.shape[0], truth.shape[1]), scoring.boundary_width)
        counts = boundary.boundary_counts(true_codes, codes, classes, reach_px)
        sums.update(counts)
        sums["boundary_widths"] = {str(reach_px): 1}
        for name, values in (
            ("boundary_iou", boundary.boundary_iou(counts)),
            ("boundary_f1", boundary.boundary_f1(counts)),
        ):
            row[name] = mean_of_numbers(filled(values, scoring.absent))
    if scoring.panoptic:
        quality = panoptic_of(truth, true_codes, predicted, codes, scoring)
        sums["panoptic"] = quality.ravel()
        row["pq"] = mean_of_numbers(panoptic.panoptic_quality(quality)["pq"])


def panoptic_of(
    truth: Values, true_codes: Any, predicted: Values, codes: Any, scoring: Scoring
) -> npt.NDArray[np.int64]:
    """Counts of panoptic quality, int64 [4, C]: of instances where masks have them, else of
    connected components. Without a divisor, 0 is the background."""
    labels = scoring.labels
    background = 0 if labels is not None and not labels.divisor else None
    if scoring.predictions.encoding == "instances":
        other = panoptic.Segments(predicted, codes)
    else:
        skip = (background,) if background is not None else ()
        other = panoptic.components(codes, skip)
    return panoptic.panoptic_counts(
        panoptic.Segments(truth, true_codes), other, scoring.classes, background
    )


def _add_components(row: dict[str, Any], sums: Sums, codes: Any, classes: int) -> None:
    """Connected components of all classes but 0, which is taken for the background."""
    found = panoptic.components(codes, skip=(0, classes, classes + 1))
    ids = found.ids[(codes > 0) & (codes < classes)]
    sizes = np.bincount(ids)
    sizes = sizes[sizes > 0]
    row["components"] = len(sizes)
    row["largest_component_share"] = float(sizes.max() / sizes.sum()) if len(sizes) else None
    sums["components"] = {str(min(len(sizes), 1000)): 1}


def _add_means(row: dict[str, Any], sums: Sums) -> None:
    means: dict[str, Mapping[str, int]] = {}
    for name in SCORES:
        value = row.get(name)
        if value is None or math.isnan(value):
            row[name] = None
        else:
            means[name] = {"sum": round(value * UNIT), "count": 1}
    sums["image_metrics"] = means
