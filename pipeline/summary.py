"""The table that a run ends with."""

import os
from typing import Any

from pipeline.run_files import REPORT, read_metrics
from transforms.failures import REASONS

_SHOWN_CLASSES = 12
_EVALUATED = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "miou": "mean IoU",
    "mdice": "mean Dice",
    "fwiou": "weighted IoU",
    "boundary_iou": "boundary IoU",
    "boundary_f1": "boundary F1",
    "pq": "panoptic quality",
    "calibration_error": "calibration",
}


def summary(out: str, took_s: float) -> str:
    """What was done, what failed and why, which classes were found, and where the report is.

    Raises RunError when metrics.json cannot be read.
    """
    metrics = read_metrics(out)
    records, shards = metrics["records"], metrics["shards"]
    lines = [
        "",
        f"  shards   {shards['committed']:,} of {shards['planned']:,} committed",
        f"  images   {records['read']:,} read = {records['written']:,} written"
        f" + {records['failed']:,} failed",
        f"  size     {metrics['bytes']['in'] / 1e6:,.1f} MB in, "
        f"{metrics['bytes']['out'] / 1e6:,.1f} MB out",
        f"  time     {took_s:,.1f} s",
    ]
    for reason, count in records["failed_by_reason"].items():
        lines.append(f"  failed   {count:,} {reason}: {REASONS[reason]}")
    if repeated := metrics["sums"].get("repeated_names"):
        lines.append(
            f"  names    {repeated:,} come twice in a shard; their keys end in ~2, ~3, ..."
        )
    lines += _class_lines(metrics["metrics"])
    lines += _evaluation_lines(metrics["metrics"])
    if ignored := metrics["sums"].get("ignored_pixels"):
        share = ignored / metrics["sums"]["pixels"]
        lines.append(f"  ignored      {'(the ignore id)':<20} {share:8.2%} of pixels")
    lines += _label_lines(metrics["metrics"].get("labels", []))
    lines += _scorecard_lines(metrics.get("scorecard"))
    if clipped := metrics["sums"].get("clipped_images"):
        lines.append(
            f"  RANGE    {clipped:,} images have over 1 % of their numbers outside --output_range"
        )
    for name, error in list(shards["errors"].items())[:5]:
        lines.append(f"  ERROR    shard {name}: {error}")
    if shards["over_budget"]:
        names = ", ".join(shards["over_budget_names"][:3])
        lines.append(
            "  OVER BUDGET  shards that are cut, have no good image, or more failures than "
            f"--max_failed_fraction: {shards['over_budget']:,}, such as {names}; see records/"
        )
    elif records["over_budget"]:
        lines.append(
            f"  OVER BUDGET  {records['failed']:,} failures are more than --max_failed_fraction "
            "allows for the run, though not for any shard alone; see records/"
        )
    if not metrics["complete"]:
        lines.append("  NOT COMPLETE  give the same command again to go on")
    return "\n".join([*lines, "", f"report: {os.path.join(out, REPORT)}"])


def _scorecard_lines(card: dict[str, Any] | None) -> list[str]:
    """How well labels were met, what is not good, and which classes fell short."""
    if card is None:
        return []
    lines = [
        f"  {finding['level'].upper():<9}{finding['name']} {finding['value']}: {finding['text']}"
        for finding in card["findings"]
        if finding["level"] != "good" or finding["name"] == "Labels"
    ]
    short = [row for row in card["classes"] if row["written"] < row["asked"]]
    lines += [
        f"  SHORT    {row['asked'] - row['written']:,} of {row['asked']:,} pictures of "
        f"{row['name']} are missing"
        for row in short[:_SHOWN_CLASSES]
    ]
    if len(short) > _SHOWN_CLASSES:
        lines.append(f"  SHORT    ... {len(short) - _SHOWN_CLASSES} more in metrics.json")
    return lines


def _evaluation_lines(named: dict[str, Any]) -> list[str]:
    """The metrics of an evaluation, how they were meant, and what numbers do not say."""
    lines = []
    if "classes_evaluated" in named:
        lines.append(
            f"  compared     {named['evaluated_pixels']:,} of {named['pixels']:,} pixels, "
            f"{named['classes_evaluated']} of {named['classes_total']} classes, "
            f"absent={named['absent']}"
        )
        for name, text in _EVALUATED.items():
            if named.get(name) is not None:
                interval = named["intervals"].get(name)
                between = f" ({interval['low']:.4f} to {interval['high']:.4f})" if interval else ""
                mean = named.get(f"{name}_per_image")
                each = f", mean over images {mean:.4f}" if mean is not None else ""
                lines.append(f"  {text:<16} {named[name]:.4f}{between}{each}")
    for name, value in named.get("drift", {}).items():
        if isinstance(value, float):
            lines.append(f"  drift        {name:<16} {value:.4f}")
    return [*lines, *(f"  NOTE     {said}" for said in named.get("warnings", []))]


def _class_lines(named: dict[str, list[dict[str, object]]]) -> list[str]:
    found = [row for row in named.get("classes", []) if row["pixels"]]
    found.sort(key=lambda row: -int(str(row["pixels"])))
    lines = [
        f"  class    {row['id']:>3} {row['name']!s:<20} {row['pixel_share']:8.2%} of pixels,"
        f" in {row['images']:,} images"
        for row in found[:_SHOWN_CLASSES]
    ]
    if len(found) > _SHOWN_CLASSES:
        lines.append(f"  class    ... {len(found) - _SHOWN_CLASSES} more in metrics.json")
    return lines


def _label_lines(rows: list[dict[str, object]]) -> list[str]:
    lines = [
        f"  label    {row['id']:>3} {row['name']!s:<20} {row['images']:,} images"
        for row in rows[:_SHOWN_CLASSES]
    ]
    if len(rows) > _SHOWN_CLASSES:
        lines.append(f"  label    ... {len(rows) - _SHOWN_CLASSES} more in metrics.json")
    return lines
