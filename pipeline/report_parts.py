"""What a run's report says of its totals: the verdict, the contact sheets, times and sizes."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import plots
from pipeline.gallery import Place
from transforms.commits import read_commits
from transforms.inputs import Plan

_PICTURES = 8  # of each kind
_STAGES = {
    "read": "reading files and records",
    "decode": "decoding images",
    "wait": "waiting for decoded images",
    "model": "running the model",
    "check": "fingerprints of what was made",
    "change": "changing copies by the recipe",
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
    """One record on a contact sheet; `note` stands beside its name."""

    place: Place
    key: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A contact sheet: why these records were chosen, and which."""

    title: str
    text: str
    entries: Sequence[Entry]


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


def with_drift(verdict: Verdict, drifted: Sequence[str], other: str) -> Verdict:
    """The verdict of a run that is compared with another; `drifted` names what moved."""
    if not drifted or verdict.level != "good":
        return verdict
    names = ", ".join(name.lower() for name in drifted)
    return Verdict("warn", f"{verdict.headline}, but drifted from {other}: {names}", verdict.advice)


def findings_of(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    """Findings of the scorecard; none for a run without one."""
    found: Sequence[Mapping[str, str]] = (metrics.get("scorecard") or {}).get("findings", ())
    return found


def contact_sheets(
    highlights: Mapping[str, Any], ranked_by: str = "mean confidence"
) -> list[Sheet]:
    """Chooses what to show from the highlights of metrics.json.

    Args:
        ranked_by: what the number of each highlight is.
    """
    sample, unsure = highlights.get("sample", ()), highlights.get("unsure", ())
    if len(sample) <= _PICTURES:
        text = "The run is small enough to show every one."
        return [Sheet("All images", text, _entries(sample))] if sample else []
    drawn = Sheet("Random", "Drawn by chance, whatever the result.", _entries(sample[:_PICTURES]))
    ranks = [row[-1] for row in sample if row[-1] is not None]
    if not ranks:
        return [drawn]
    median = statistics.median(ranks)
    middle = plots.percent_text(median)
    others = sample[_PICTURES:] if len(sample) >= 2 * _PICTURES else sample
    typical = sorted(others, key=lambda row: abs((row[-1] or 0.0) - median))
    return [
        Sheet(
            "Typical",
            f"{ranked_by[0].upper()}{ranked_by[1:]} nearest to {middle}, the median of a random "
            "sample.",
            _entries(typical[:_PICTURES]),
        ),
        Sheet(
            "Least confident",
            f"The lowest {ranked_by} of the run.",
            _entries(unsure[:_PICTURES]),
        ),
        drawn,
    ]


def _entries(rows: Sequence[Sequence[Any]]) -> list[Entry]:
    return [
        Entry((shard, index), key, "" if confidence is None else plots.percent_text(confidence))
        for _, shard, index, key, confidence in rows
    ]


def pictures_text(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What the contact sheets show."""
    if run["job"] == "pack":
        masks = ", with its mask and the mask laid over it" if metrics["sums"].get("masks") else ""
        return f"Each image as it was packed{masks}."
    if run["job"] == "evaluate":
        return (
            "Each image with its prediction and its label, as far as they are at hand, and where "
            "both differ in red; the percentage is the score of the image."
        )
    if run["job"] == "augment":
        return (
            "Each example as it was made, with its mask and the mask laid over it where it has one."
        )
    if run["job"] != "generate":
        return (
            "Each image with its mask and the mask laid over it; the percentage is the mean "
            "confidence."
        )
    judged = "confusion" in (metrics.get("scorecard") or {})
    text = "Each picture as it was made" + (", with the confidence of the verifier" * judged)
    if run["identity"]["input"]["kind"] == "items":
        return f"{text}."
    if run["identity"]["model"]["channels"] in ("ids", "one_hot"):
        return f"{text}, with the mask that it was made of, and the mask laid over it."
    return f"{text}, beside the one it was made from."


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


def stages(microseconds: Mapping[str, int]) -> list[tuple[str, str, float, float]]:
    """(stage, what it does, seconds, share of the longest) in the order of the work."""
    longest = max([1, *microseconds.values()])
    return [
        (name, _STAGES.get(name, ""), us / 1e6, us / longest)
        for name, us in microseconds.items()
        if us
    ]


def quantile_rows(named: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    rows = []
    for name, title in _QUANTILES:
        if values := named.get(f"{name}_quantiles"):
            scale, digits = (1000, 1) if name == "image_bytes" else (1, 0)
            rows.append((title, [f"{value / scale:,.{digits}f}" for value in values.values()]))
    return rows


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def flat(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) of nested settings; the classes have a table of their own."""
    rows: list[tuple[str, str]] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        elif name not in ("classes", "colors"):
            shown = value if isinstance(value, str) else json.dumps(value)
            rows.append((f"{prefix}{name}", shown))
    return rows
