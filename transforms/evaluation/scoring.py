"""Scoring one picture: what is counted of a prediction and, if there is one, its label."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.confusion import mean_of_numbers
from transforms.evaluation import boundary, panoptic
from transforms.evaluation.calibration import confidence_counts, expected_calibration_error
from transforms.evaluation.counting import Values, code_counts, joint_counts, value_counts
from transforms.evaluation.encodings import Coding, resize_nearest
from transforms.evaluation.overlap import MEANS, Absent, filled
from transforms.failures import Failure
from transforms.sums import Sums

UNIT = panoptic.UNIT
MOST_CLASSES = 1024
# Metrics of one picture, in the order of columns.
SCORES = (
    *("pixel_accuracy", *MEANS.values(), "fwiou"),
    *("boundary_iou", "boundary_f1", "pq", "calibration_error"),
)
LISTS = ("class_pixels", "hit_pixels", "predicted_pixels", "true_pixels")
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
        *(pa.field(name, pa.list_(pa.int64())) for name in LISTS),
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


class Scored(NamedTuple):
    """What was counted of one picture.

    Attributes:
        row: what is known of it so far; a Tally adds the metrics.
        counts: int64 [C + 2], pixels of the prediction by code.
        joint: int64 [C + 2, C + 2] (see joint_counts); None without labels.
        sums: all else that adds up.
    """

    row: dict[str, Any]
    counts: npt.NDArray[np.int64]
    joint: npt.NDArray[np.int64] | None
    sums: Sums


def score(masks: Masks, scoring: Scoring, name: str) -> Scored:
    """Counts of one picture, whose name is for messages.

    Raises:
        Failure: sizes differ.
    """
    masks, resized = _of_one_size(masks, scoring.resize, name)
    predicted, truth, confidence = masks
    height, width = predicted.shape
    row: dict[str, Any] = {"width": width, "height": height, "resized": resized}
    sums: Sums = {}
    joint = None
    if truth is None or scoring.labels is None:
        counts = code_counts(predicted, scoring.classes, scoring.predictions)
    else:
        joint = joint_counts(truth, predicted, scoring.classes, scoring.labels, scoring.predictions)
        counts = joint.sum(axis=0)
        _note_strange(sums, "label_values", truth, scoring.labels, joint[-1].sum())
    _note_strange(sums, "prediction_values", predicted, scoring.predictions, counts[-1])
    if confidence is not None:
        levels = np.bincount(confidence.ravel(), minlength=256).astype(np.int64)
        sums["confidence"] = levels
        row["mean_confidence"] = float((levels * np.arange(256)).sum() / 255 / max(1, levels.sum()))
    _add_full(row, sums, masks, scoring)
    return Scored(row, counts, joint, sums)


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


def _note_strange(
    sums: Sums, name: str, values: Values, coding: Coding | None, pixels: int
) -> None:
    """Notes which values are out of range, for the message that helps; most masks have none."""
    if pixels and coding is not None and values.dtype != np.uint32:
        codes = coding(values)
        found = value_counts(values[codes == coding.classes + 1][np.newaxis])
        sums[name] = {str(value): found[value] for value in sorted(found)[:20]}


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
    if len(sizes):
        row["largest_component_share"] = float(sizes.max() / sizes.sum())
    sums["components"] = {str(min(len(sizes), 1000)): 1}
