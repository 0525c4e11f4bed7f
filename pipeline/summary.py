"""The table that a run ends with."""

import os
from typing import Any

from pipeline.run_files import REPORT, read_metrics
from transforms.augmentation.filters import REASONS as LEFT_OUT_REASONS
from transforms.failures import REASONS

_SHOWN_CLASSES = 12


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
    lines += _recipe_lines(metrics["sums"])
    lines += _class_lines(metrics["metrics"])
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


def _recipe_lines(sums: dict[str, Any]) -> list[str]:
    """Of an augmentation: what the source was, what was left out, and which classes fell short."""
    if "sources" not in sums:
        return []
    lines = [f"  source   {sums['sources_used']:,} of {sums['sources']:,} pictures can be used"]
    if generated := sums.get("generated"):
        lines.append(f"  made     {sums.get('copies', 0):,} copies, {generated:,} by the generator")
    lines += [
        f"  left out {count:,} {reason}: {LEFT_OUT_REASONS[reason]}"
        for reason, count in sums["left_out"].items()
    ]
    short = list(sums["short"].items())[:_SHOWN_CLASSES]
    lines += [f"  SHORT    {n:,} of class {c} are missing" for c, n in short]
    return lines


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
