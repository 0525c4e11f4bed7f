"""The run's one page, OUT/report.html: what was done, how it looks, and what went wrong."""

import dataclasses
import json
import logging
import math
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline import plots
from pipeline.gallery import Gallery, Place
from pipeline.pages import created_text, page, settings_rows
from pipeline.report_generated import generated_pictures
from pipeline.run_files import LEGEND, REPORT, RUN, default_color, read_metrics, read_plan
from transforms import storage
from transforms.commits import read_commits
from transforms.decode import DecodePolicy
from transforms.failures import REASONS
from transforms.inputs import Plan
from transforms.sources import FeatureNames

_PICTURES = 8  # of each kind
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_STAGES = {
    "read": "reading files and records",
    "decode": "decoding images",
    "wait": "waiting for decoded images",
    "model": "running the model",
    "check": "fingerprints of what was made",
    "encode": "encoding the results",
    "write": "writing files",
    "commit": "committing shards",
}
_QUANTILES = (("widths", "Width, px"), ("heights", "Height, px"), ("image_bytes", "File size, kB"))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How the run ended: level "good", "warn" or "bad", a headline, and what to do."""

    level: str
    headline: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """One record on a contact sheet; `confidence` is None when the model gives none."""

    place: Place
    key: str
    confidence: float | None


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A contact sheet: why these records were chosen, and which."""

    title: str
    text: str
    entries: Sequence[Entry]


def write_report(out: str) -> None:
    """Writes OUT/report.html from the files of OUT and pictures of the input.

    A page that cannot be made is replaced by one that says why: no report is worth a run.

    Raises:
        OSError: OUT cannot be written.
    """
    try:
        html = _render(out)
    except Exception as error:  # files that are not there, or not as this version writes them
        logging.getLogger(__name__).exception("the report of %s could not be made", out)
        html = _apology(error)
    storage.write(out, REPORT, html.encode("utf-8", "replace"))


def _apology(error: Exception) -> str:
    return Markup(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>No report</title></head>'
        "<body><h1>No report</h1><p>The run's numbers are in metrics.json. The report could not be "
        "made of them: {}: {}</p></body></html>\n"
    ).format(type(error).__name__, error)


def _render(out: str) -> str:
    metrics, plan = read_metrics(out), read_plan(out)
    run = _read_json(out, RUN)
    sums, named = metrics["sums"], metrics["metrics"]
    colors = _colors(out)
    sheets = contact_sheets(metrics["highlights"])
    gallery = _gallery(out, run, plan, colors)
    pictures = gallery.cells({entry.place for sheet in sheets for entry in sheet.entries})
    classes = [
        {**row, "color": colors[row["id"]]}
        for row in sorted(named.get("classes", []), key=lambda row: -row["pixels"])
    ]
    busy_s = busy_seconds(out, plan)
    card, names, shown = metrics.get("scorecard"), [], None
    if card is not None:
        names = list(run["identity"]["model"]["classes"])
        names = names or list(run["identity"]["checks"].get("verifier", {}).get("classes", ()))
        shown = generated_pictures(out, plan, card, gallery, names)
    return page(
        "report.html.j2",
        run=run,
        created=created_text(run),
        model=os.path.basename(str(run["notes"].get("model", "")).rstrip("/")),
        settings=settings_rows(run["identity"]),
        metrics=metrics,
        verdict=verdict(metrics),
        card=card,
        names=names,
        shown=shown,
        busy_s=busy_s,
        images_per_s=metrics["records"]["read"] / busy_s if busy_s else None,
        sheets=sheets,
        pictures=pictures,
        found=[row for row in classes if row["pixels"]],
        absent=[row for row in classes if not row["pixels"]],
        labels=named.get("labels", []) if metrics["records"]["written"] else [],
        plots=plots.drawings(sums),
        stages=_stages(metrics["clock"]["microseconds"]),
        quantiles=_quantile_rows(named),
        kinds={name: _ranked(sums.get(name, {})) for name in ("formats", "modes", "orientations")},
        reasons=REASONS,
    )


def verdict(metrics: Mapping[str, Any]) -> Verdict:
    """Judges a run by the content of metrics.json."""
    shards, records = metrics["shards"], metrics["records"]
    if shards["committed"] < shards["planned"]:
        return Verdict(
            "bad",
            f"Not complete: {shards['committed']:,} of {shards['planned']:,} shards are done",
            "Give the same command again: it goes on with the missing shards and keeps the others. "
            "Errors of shards stand under Shards.",
        )
    if not metrics["complete"]:
        return Verdict(
            "bad",
            "Not complete: the counts do not add up",
            f"{records['read']:,} images were read, but {records['written']:,} written and "
            f"{records['failed']:,} failed. pixelmill verify names the shard to do again.",
        )
    if shards["over_budget"]:
        return Verdict(
            "warn",
            f"Complete, over budget: {records['failed']:,} of {records['read']:,} images failed",
            f"Shards with more failures than --max_failed_fraction allows: "
            f"{shards['over_budget']:,} of {shards['planned']:,}. What did not fail is done. The "
            "reasons stand under Failures; if they are acceptable, give the same command with a "
            "higher --max_failed_fraction: nothing is computed again.",
        )
    if records.get("over_budget"):
        return Verdict(
            "warn",
            f"Complete, over budget: {records['failed']:,} of {records['read']:,} images failed",
            "That is more than --max_failed_fraction allows for the run, though not for any shard "
            "alone: in small shards one may fail. The reasons stand under Failures.",
        )
    if not records["read"]:
        return Verdict("warn", "Complete, but the input held no images", "Check --input.")
    if records["failed"]:
        return Verdict(
            "good",
            "Complete",
            f"{records['failed']:,} of {records['read']:,} images failed, within the budget.",
        )
    bad = [f["name"].lower() for f in findings_of(metrics) if f["level"] == "bad"]
    if bad:
        return Verdict(
            "warn",
            f"Complete, but the scorecard warns of {', '.join(bad)}",
            f"All {records['read']:,} pictures were made; what they are worth, the scorecard says.",
        )
    return Verdict("good", "Complete", f"All {records['read']:,} images were processed.")


def findings_of(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """Findings of the scorecard; none for a run without one."""
    found: Sequence[Mapping[str, str]] = (metrics.get("scorecard") or {}).get("findings", ())
    return found


def contact_sheets(highlights: Mapping[str, Any]) -> list[Sheet]:
    """Chooses what to show from the highlights of metrics.json."""
    sample = [_entry(row) for row in highlights.get("sample", ())]
    unsure = [_entry(row) for row in highlights.get("unsure", ())]
    if len(sample) <= _PICTURES:
        return [Sheet("All images", "The run is small enough to show every one.", sample)]
    drawn = Sheet("Random", "Drawn by chance, whatever the result.", sample[:_PICTURES])
    ranks = [entry.confidence for entry in sample if entry.confidence is not None]
    if not ranks:
        return [drawn]
    median = statistics.median(ranks)
    middle = plots.percent_text(median)
    others = sample[_PICTURES:] if len(sample) >= 2 * _PICTURES else sample
    typical = sorted(others, key=lambda entry: abs((entry.confidence or 0.0) - median))
    return [
        Sheet(
            "Typical",
            f"Mean confidence nearest to {middle}, the median of a random sample.",
            typical[:_PICTURES],
        ),
        Sheet("Least confident", "The lowest mean confidence of the run.", unsure[:_PICTURES]),
        drawn,
    ]


def _entry(row: Sequence[Any]) -> Entry:
    _, shard, index, key, confidence = row
    return Entry((shard, index), key, confidence)


def busy_seconds(out: str, plan: Plan) -> float:
    """Time during which shards were under way, pauses between runs left out; 0 when unknown."""
    names = [shard.name for shard in plan.shards]
    clocks = [report.clock for report in read_commits(out, names, skip_bad=True)]
    spans = [(c["started"], c["committed"]) for c in clocks if "started" in c and "committed" in c]
    busy, until = 0.0, -math.inf
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


def _gallery(out: str, run: Mapping[str, Any], plan: Plan, colors: Mapping[int, str]) -> Gallery:
    identity = run["identity"]
    return Gallery(
        out=out,
        job=run["job"],
        shards={shard.name: shard for shard in plan.shards},
        names=FeatureNames(**identity.get("features", {})),
        policy=DecodePolicy(**identity.get("decode", {})),
        colors=colors,
    )


def _colors(out: str) -> dict[int, str]:
    """Colours of the classes; a built-in palette for a run without a legend."""
    if not storage.exists(os.path.join(out, LEGEND)):
        return {i: default_color(i) for i in range(255)}
    return {
        row["id"]: row["color"] if _COLOR.fullmatch(row["color"]) else default_color(row["id"])
        for row in _read_json(out, LEGEND)["classes"]
    }


def _read_json(out: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(storage.read_bytes(os.path.join(out, name)))
    return found


def _stages(microseconds: Mapping[str, int]) -> list[tuple[str, str, float, float]]:
    """(stage, what it does, seconds, share of the longest) in the order of the work."""
    longest = max([1, *microseconds.values()])
    return [
        (name, _STAGES.get(name, ""), us / 1e6, us / longest)
        for name, us in microseconds.items()
        if us
    ]


def _quantile_rows(named: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    rows = []
    for name, title in _QUANTILES:
        if values := named.get(f"{name}_quantiles"):
            scale, digits = (1000, 1) if name == "image_bytes" else (1, 0)
            rows.append((title, [f"{value / scale:,.{digits}f}" for value in values.values()]))
    return rows


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
