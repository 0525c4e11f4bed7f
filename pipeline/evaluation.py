"""What is said of an evaluation at its end: metrics by name and by class, intervals, drift, tables.

All comes from the merged sums and the records of OUT, so that a second look says the same.
"""

import heapq
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from pipeline import tables
from pipeline.drift import drift_of, with_sums_of_run
from pipeline.run_files import PARTNERS, PARTNERS_INDEX, Run
from transforms import storage
from transforms.confusion import Ratio, mean_of_numbers, ratio
from transforms.evaluation import boundary, panoptic
from transforms.evaluation.bootstrap import intervals
from transforms.evaluation.calibration import bins_of, expected_calibration_error
from transforms.evaluation.overlap import Absent, areas, by_class, filled, pixels_beyond, summary
from transforms.evaluation.scoring import SCORES, UNIT
from transforms.inputs import Plan
from transforms.partners import pair_name, read_index

_SHOWN_CLASSES = 256  # with a matrix in metrics.json
_WORST_LAST = ("calibration_error",)  # larger is worse


def measure(
    out: str, plan: Plan, of: Run, metrics: Mapping[str, Any], legend: Mapping[str, Any]
) -> dict[str, Any]:
    """What metrics.json says besides, by name; writes the tables.

    Args:
        metrics: what is known so far: `sums`, and `metrics` with `classes`.
        legend: of OUT.

    Raises:
        OSError: a file cannot be read or written.
        UserError: a run that is compared with cannot be read.
    """
    run, sums = of.identity, metrics["sums"]
    absent: Absent = run["scoring"]["absent"]
    found: dict[str, Any] = {"classes": [dict(row) for row in legend["classes"]]}
    _add_shares(found, sums)
    if "joint" in sums:
        _add_overlap(found, sums, absent)
        _add_boundary(found, sums, absent)
        _add_panoptic(found, sums, run)
        _add_per_image(found, sums)
        found["intervals"] = _intervals(out, plan, len(found["classes"]), run)
    if "confidence" in sums:
        levels = np.asarray(sums["confidence"], np.float64)
        found["mean_confidence"] = float(ratio((levels * np.arange(256)).sum(), 255 * levels.sum()))
    found["worst"] = _worst(out, plan, run["worst"])
    if "pair_by" in run:
        partners = None if run["pair_by"] == "shard" else _partner_names(out, run)
        suffix = run["suffixes"][0]
        found["unpaired_predictions"] = tables.write_unpaired(out, plan, partners, suffix)
        failed = metrics["records"]["failed_by_reason"]
        found["unpaired_labels"] = failed.get("prediction_missing", 0)
    if run["reference"]:
        both = with_sums_of_run(sums, of.notes.get("predictions_run") or "")
        found["drift"] = drift_of(both, run["reference"], found["classes"])
    found["warnings"] = _warnings(found, sums, run)
    tables.write_images(out, plan)
    tables.write_classes(out, found["classes"])
    plain: dict[str, Any] = _strict(found)
    return plain


def _strict(value: Any) -> Any:
    """The same as JSON knows it: null for what is no number."""
    if isinstance(value, Mapping):
        return {name: _strict(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _add_shares(found: dict[str, Any], sums: Mapping[str, Any]) -> None:
    total = max(1, sums.get("pixels", 0))
    for row in found["classes"]:
        row["pixels"] = _at(sums.get("class_pixels"), row["id"])
        row["pixel_share"] = row["pixels"] / total
        row["images"] = _at(sums.get("class_images"), row["id"])
    found["empty_images"] = sums.get("empty_images", 0)
    found["one_class_images"] = sums.get("one_class_images", 0)
    found["resized_images"] = sums.get("resized_images", 0)
    if "components" in sums:
        counts = {int(name): count for name, count in sums["components"].items()}
        images = sum(counts.values())
        found["mean_components"] = sum(n * c for n, c in counts.items()) / max(1, images)


def _at(values: Sequence[int] | None, index: int) -> int:
    return values[index] if values and index < len(values) else 0


def _add_overlap(found: dict[str, Any], sums: Mapping[str, Any], absent: Absent) -> None:
    joint = joint_of(sums)
    found["absent"] = absent
    found |= summary(joint, absent) | pixels_beyond(joint)
    area = areas(joint)
    _add_columns(found, by_class(area, absent))
    for row, hit, predicted, true in zip(found["classes"], *area, strict=True):
        row |= {
            "hit_pixels": int(hit),
            "predicted_pixels": int(predicted),
            "true_pixels": int(true),
            "evaluated": bool(predicted + true),
        }
    if len(found["classes"]) <= _SHOWN_CLASSES:
        found["confusion"] = joint.tolist()


def joint_of(sums: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """The joint matrix in merged sums (see transforms/evaluation/counting.py)."""
    flat = np.asarray(sums["joint"], np.int64)
    width = round(len(flat) ** 0.5)
    return flat.reshape(width, width)


def _add_columns(found: dict[str, Any], columns: Mapping[str, Ratio]) -> None:
    for name, values in columns.items():
        for row, value in zip(found["classes"], values.tolist(), strict=True):
            row[name] = value


def _add_boundary(found: dict[str, Any], sums: Mapping[str, Any], absent: Absent) -> None:
    if "boundary_widths" not in sums:
        return
    counts = {name: np.asarray(sums[name]) for name in (*boundary.BAND, *boundary.CONTOUR)}
    columns = {
        "boundary_iou": filled(boundary.boundary_iou(counts), absent),
        "boundary_f1": filled(boundary.boundary_f1(counts), absent),
    }
    _add_columns(found, columns)
    found |= {name: mean_of_numbers(values) for name, values in columns.items()}
    found["boundary_widths_px"] = sums["boundary_widths"]


def _add_panoptic(found: dict[str, Any], sums: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    if "panoptic" not in sums:
        return
    counts = np.asarray(sums["panoptic"], np.int64).reshape(4, -1)
    columns = panoptic.panoptic_quality(counts)
    _add_columns(found, columns)
    found |= {name: mean_of_numbers(values) for name, values in columns.items()}
    for row, numbers in zip(found["classes"], counts[1:].T.tolist(), strict=True):
        row |= dict(zip(panoptic.COUNTS[1:], numbers, strict=True))
    instances = run["scoring"]["predictions"]["encoding"] == "instances"
    found["predicted_segments"] = "instances" if instances else "connected components"


def _add_per_image(found: dict[str, Any], sums: Mapping[str, Any]) -> None:
    """Means over images; each image's own mean over classes comes first."""
    known = sums.get("image_metrics", {})
    found["images_evaluated"] = known.get("pixel_accuracy", {}).get("count", 0)
    for name in SCORES:
        if name in known:
            found[f"{name}_per_image"] = known[name]["sum"] / UNIT / known[name]["count"]
    if "image_iou" in sums:
        iou = np.array([value / UNIT for value in sums["image_iou"]])
        _add_columns(found, {"iou_per_image": ratio(iou, sums["image_iou_count"])})
    if "calibration" in sums:
        counts = np.asarray(sums["calibration"], np.int64).reshape(2, -1)
        found["calibration_error"] = expected_calibration_error(counts)
        found["calibration"] = bins_of(counts)


def _intervals(
    out: str, plan: Plan, classes: int, run: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """95 % intervals over images, whatever shards they are in: images are sorted by name."""
    if not run["bootstrap"]:
        return {}
    keys: list[str] = []
    ends, columns, values = [np.zeros(1, np.int64)], [], []
    for _, records in tables.read_records(out, plan):
        good = records.filter(records["status"].to_numpy(zero_copy_only=False) == "ok")
        keys += good["key"].to_pylist()
        ids = [_flat(good["classes"]) + classes * k for k in range(3)]
        lengths = good["classes"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        row = np.repeat(np.arange(len(good)), lengths)
        order = np.argsort(np.concatenate([row] * 3), kind="stable")
        columns.append(np.concatenate(ids)[order])
        parts = [_flat(good[n]) for n in ("hit_pixels", "predicted_pixels", "true_pixels")]
        values.append(np.concatenate(parts)[order])
        ends.append(ends[-1][-1] + np.cumsum(3 * lengths))
    shape = (len(keys), 3 * classes)
    matrix = sparse.csr_matrix(
        tuple(np.concatenate(parts) for parts in (values, columns, ends)), shape=shape
    )[sorted(range(len(keys)), key=lambda number: keys[number])]
    found = intervals(matrix, classes, run["scoring"]["absent"], run["bootstrap"])
    return {name: interval._asdict() for name, interval in found.items()}


def _flat(lists: Any) -> npt.NDArray[np.int64]:
    """The numbers of a column of lists, one list after the other."""
    flat: npt.NDArray[np.int64] = lists.combine_chunks().flatten().to_numpy().astype(np.int64)
    return flat


def _worst(out: str, plan: Plan, count: int) -> dict[str, list[dict[str, Any]]]:
    """The worst images by each metric, the worst first; equal ones by name."""
    kept: dict[str, list[tuple[float, str, str, int]]] = {}
    for shard, records in tables.read_records(out, plan):
        keys, indices = records["key"].to_pylist(), records["index"].to_pylist()
        for name in (*SCORES, "mean_confidence"):
            sign = -1 if name in _WORST_LAST else 1
            found = [
                (sign * value, key, shard, index)
                for value, key, index in zip(records[name].to_pylist(), keys, indices, strict=True)
                if value is not None
            ]
            if found:
                kept[name] = heapq.nsmallest(count, [*kept.get(name, ()), *found])
    return {
        name: [
            {"key": key, "shard": shard, "index": index, "value": abs(value)}
            for value, key, shard, index in rows
        ]
        for name, rows in kept.items()
    }


def _partner_names(out: str, run: Mapping[str, Any]) -> set[str]:
    """Names of all records of the other set."""
    index = os.path.join(out, PARTNERS_INDEX)
    if storage.is_file(index):
        return set(read_index(index))
    plan = Plan.from_lines(storage.read_bytes(os.path.join(out, PARTNERS)).decode())
    names = (
        pair_name(storage.as_text(file.path), run["suffixes"][1])
        for shard in plan.shards
        for file in shard.files
    )
    return {name for name in names if name is not None}


def _warnings(
    found: Mapping[str, Any], sums: Mapping[str, Any], run: Mapping[str, Any]
) -> list[str]:
    """What numbers do not say by themselves, in words."""
    said = []
    for side, name, what in (
        ("label", "label_out_of_range_pixels", "label_values"),
        ("prediction", "prediction_out_of_range_pixels", "prediction_values"),
    ):
        pixels = found.get(name, sums.get("out_of_range_pixels", 0) if side == "prediction" else 0)
        if pixels:
            values = ", ".join(list(sums.get(what, {}))[:8]) or "colours"
            flag = "--class_map" if side == "label" else "--prediction_class_map"
            said.append(
                f"{pixels:,} pixels of {side}s are no class ({values}); name classes by "
                f"--classes, map them by {flag}, or choose --{side}_encoding"
            )
    true = [row.get("true_pixels", 0) for row in found["classes"]]
    if len(true) > 1 and not any(true[1:]) and found.get("ignored_pixels"):
        said.append(
            "labels show class 0 and ignored pixels only; if 255 is the foreground, give "
            "--label_encoding=binary"
        )
    classes = found.get("drift", {}).get("reference_classes", 0)
    if classes and classes != len(found["classes"]):
        said.append(
            f"the reference has {classes} classes, this run {len(found['classes'])}; their ids may "
            "not mean the same"
        )
    if found.get("resized_images"):
        said.append(
            f"{found['resized_images']:,} predictions were brought to their label's size (nearest)"
        )
    if found.get("unpaired_predictions"):
        said.append(f"{found['unpaired_predictions']:,} predictions have no label: unpaired.csv")
    if found.get("unpaired_labels"):
        said.append(f"{found['unpaired_labels']:,} labels have no prediction: unpaired.csv")
    return said
