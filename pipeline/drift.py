"""Drift of a run against a reference run: how far their distributions are apart, and what moved."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plots import rebin
from pipeline.run_files import METRICS, read_metrics, read_run
from transforms import storage
from transforms.evaluation.drift import aligned, jensen_shannon, moved_shares

# Sums that are distributions, in the order in which they are shown. Those of levels from 0 to 255
# are made coarser first, so that equal kinds of pictures have equal bins.
_DISTRIBUTIONS = (
    *("class_pixels", "class_images", "confidence", "entropy", "margin", "components"),
    *("brightness", "widths", "heights"),
)
_LEVELS = {"confidence", "entropy", "margin", "brightness"}
_BINS = 32


def with_sums_of_run(sums: Mapping[str, Any], predictions_run: str) -> dict[str, Any]:
    """The sums, with what only the run of the predictions knows of pictures. Raises UserError."""
    if not predictions_run or not storage.is_file(os.path.join(predictions_run, METRICS)):
        return dict(sums)
    return {**read_metrics(predictions_run)["sums"], **sums}


def drift_of(
    sums: Mapping[str, Any], reference: str, classes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Jensen-Shannon divergences (base 2, 0 to 1) by name, and how shares of classes moved.

    Args:
        sums: of the run (see with_sums_of_run).
        reference: OUT of an earlier run.
        classes: id and name of each.

    Raises:
        UserError: it is no run.
    """
    metrics = read_metrics(reference)
    named = metrics["metrics"]
    other = with_sums_of_run(metrics["sums"], _source_of(reference))
    found: dict[str, Any] = {
        "reference": reference,
        "reference_images": metrics["records"]["written"],
        "reference_classes": len(named.get("classes", [])),
    }
    for name in _DISTRIBUTIONS:
        if (a := sums.get(name)) and (b := other.get(name)):
            if name in _LEVELS:
                a, b = rebin(a, _BINS), rebin(b, _BINS)
            found[name] = jensen_shannon(*aligned(a, b))
    if "class_pixels" in found:
        moved = moved_shares(sums["class_pixels"], other["class_pixels"]).tolist()
        names = {row["id"]: row["name"] for row in (*named.get("classes", []), *classes)}
        rows = [
            {"id": i, "name": names.get(i, f"class {i}"), "share_change": change}
            for i, change in enumerate(moved)
        ]
        found["classes"] = sorted(rows, key=lambda row: (-abs(row["share_change"]), row["id"]))
    return found


def _source_of(reference: str) -> str:
    """The run of the predictions that the reference itself evaluated; "" for none."""
    run = read_run(reference)
    return str(run.notes.get("predictions_run") or "") if run is not None else ""
