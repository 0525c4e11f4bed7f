"""A run's one page, report.html: what was done, how it looks, what went wrong, and how it compares.

`pixelmill report` makes it of any run, or of one compared with another; every run ends with one.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from models.errors import UserError
from pipeline import plots, report_parts
from pipeline.gallery import Gallery
from pipeline.legends import LEGEND, default_color
from pipeline.pages import created_text, page
from pipeline.report_compared import Compared, compare
from pipeline.report_evaluated import EvaluatedGallery, evaluated_scores, evaluated_sheets
from pipeline.report_generated import generated_pictures
from pipeline.report_scores import trained_scores
from pipeline.run_files import (
    COMPARISON,
    METRICS,
    REPORT,
    RUN,
    metrics_of,
    read_metrics,
    read_plan,
    read_run,
)
from pipeline.thumbnails import within_budget
from transforms import storage
from transforms.augmentation.filters import REASONS as LEFT_OUT_REASONS
from transforms.commits import committed_names, committed_totals
from transforms.decode import DecodePolicy
from transforms.failures import REASONS
from transforms.feature_names import FeatureNames
from transforms.inputs import Plan

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_PICTURE_BYTES = 8_000_000  # of the page's 10 MB
_TITLES = {
    "segment": "Segmentation",
    "pack": "Packing",
    "generate": "Generation",
    "describe": "Reference",
    "evaluate": "Evaluation",
    "augment": "Augmentation",
}
_ALTS = {
    "image": "Image",
    "mask": "Mask of",
    "overlay": "Mask laid over",
    "label": "Label of",
    "other": "Mask of the other run of",
    "difference": "Where both differ in",
}
_CAPTIONS = {
    "image": "image",
    "mask": "mask",
    "overlay": "overlay",
    "label": "label",
    "other": "mask of B",
    "difference": "difference",
}


class Section(NamedTuple):
    """A section of the page; its template is named by its id."""

    id: str
    title: str


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run as its files tell of it.

    Attributes:
        out: its folder.
        run: content of run.json.
        metrics: content of metrics.json; of a run that is under way, of its commit records.
        plan: None for a training.
        colors: of the classes, by id.
        gallery: its pictures; None for a training.
    """

    out: str
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Plan | None
    colors: Mapping[int, str]
    gallery: Gallery | None

    @property
    def name(self) -> str:
        return os.path.basename(self.out.rstrip("/")) or self.out


def write_report(out: str) -> None:
    """Writes OUT/report.html from the files of OUT and pictures of the input.

    A page that cannot be made is replaced by one that says why: no report is worth a run.

    Raises:
        OSError: OUT cannot be written.
    """
    try:
        html = render(load(out))
    except Exception as error:  # files that are not there, or not as this version writes them
        logging.getLogger(__name__).exception("the report of %s could not be made", out)
        html = _apology(error)
    storage.write(out, REPORT, html.encode("utf-8", "replace"))


def run_report(out: str, other: str | None, output: str | None) -> str:
    """`pixelmill report`. Returns where the page is.

    Args:
        out, other: folders of runs; the second is what the first is compared with.
        output: the file; default OUT/report.html, or OUT/comparison.html of two runs.

    Raises:
        UserError: one is no run, or the two cannot be compared.
        OSError: the page cannot be written.
    """
    try:
        html = render(load(out), None if other is None else load(other))
    except UserError:
        raise
    except (KeyError, ValueError, TypeError, jinja2.TemplateError) as error:
        raise UserError(
            f"the report of {out} cannot be made, its files are not as this version writes them: "
            f"{type(error).__name__}: {error}"
        ) from error
    folder, name = os.path.split(output or os.path.join(out, COMPARISON if other else REPORT))
    if not name or storage.is_folder(os.path.join(folder, name)):
        raise UserError(f"--output={output} is a folder; name a file, such as report.html")
    storage.write(folder, name, html.encode("utf-8", "replace"))
    if folder not in (out, other) and not storage.is_remote(folder):  # a folder of the user's
        with contextlib.suppress(OSError):  # not empty: others are at work
            os.rmdir(os.path.join(folder, storage.TEMPORARY))
    return os.path.join(folder, name)


def load(out: str) -> Loaded:
    """Reads a run. Raises RunError, UserError, OSError."""
    stored = read_run(out)
    if stored is None:
        raise UserError(f"{out} holds no run of pixelmill: there is no {RUN}")
    run = _read_json(out, RUN)
    colors = _colors(out)
    if stored.job.startswith("train"):
        if not storage.is_file(os.path.join(out, METRICS)):
            raise UserError(f"the training in {out} has not ended; `pixelmill status {out}`")
        return Loaded(out, run, read_metrics(out), None, colors, None)
    plan = read_plan(out)
    identity = run["identity"]
    gallery = Gallery(
        out=out,
        job=run["job"],
        shards={shard.name: shard for shard in plan.shards},
        names=FeatureNames(**identity.get("features", {})),
        policy=DecodePolicy(**identity.get("decode", {})),
        colors=colors,
    )
    if storage.is_file(os.path.join(out, METRICS)):
        return Loaded(out, run, read_metrics(out), plan, colors, gallery)
    planned = {shard.name for shard in plan.shards}
    totals = committed_totals(out, committed_names(out) & planned, 1.0, stored.digest)
    legend = _read_json(out, LEGEND) if storage.is_file(os.path.join(out, LEGEND)) else None
    return Loaded(out, run, metrics_of(totals, len(planned), legend), plan, colors, gallery)


def render(this: Loaded, other: Loaded | None = None) -> str:
    """The page of a run, compared with another one if given.

    Raises:
        UserError: the two cannot be compared.
        KeyError, ValueError, OSError: files are not as this version writes them.
    """
    compared = None if other is None else _compare(this, other)
    common = {
        "run": this.run,
        "created": created_text(this.run),
        "title": _TITLES.get(this.run["job"], this.run["job"].capitalize()),
        "model": os.path.basename(str(this.run["notes"].get("model") or "").rstrip("/")),
        "settings": report_parts.flat(this.run["identity"]),
        "metrics": this.metrics,
        "compared": compared,
        "alts": _ALTS,
        "captions": _CAPTIONS,
        "card": None,
    }
    view = _trained(this) if this.plan is None else _made(this, compared, other)
    return page("page.html.j2", **common | view)


def _trained(this: Loaded) -> dict[str, Any]:
    scores = trained_scores(this.out, this.run["job"], this.metrics, this.colors)
    left_out = len(this.metrics["left_out"])
    examples = sum(this.metrics["examples"].values())
    return {
        "verdict": report_parts.Verdict(
            "warn" if left_out else "good",
            f"Trained for {this.metrics['epochs']:,} epochs",
            f"{examples:,} examples; epoch {this.metrics['best_epoch']:,} is the one that was kept."
            + (f" {left_out:,} examples were left out, see metrics.json." if left_out else ""),
        ),
        "scores": scores,
        "sections": [Section("scores", "Scores"), Section("run", "Run")],
    }


def _made(this: Loaded, compared: Compared | None, other: Loaded | None) -> dict[str, Any]:
    """What the page shows of a run over shards."""
    assert this.plan is not None and this.gallery is not None
    metrics, run = this.metrics, this.run
    sums, named, records = metrics["sums"], metrics["metrics"], metrics["records"]
    card, names, shown = metrics.get("scorecard"), [], None
    if card is not None:
        names = list(run["identity"]["model"]["classes"])
        names = names or list(run["identity"]["checks"].get("verifier", {}).get("classes", ()))
        shown = generated_pictures(this.out, this.plan, card, this.gallery, names)
    scores = None
    gallery: Gallery | EvaluatedGallery = this.gallery
    if run["job"] == "evaluate":
        scores = evaluated_scores(metrics, this.colors)
        sheets = evaluated_sheets(metrics)
        gallery = EvaluatedGallery(this.out, run["identity"], run["notes"], this.gallery)
    else:
        sheets = report_parts.contact_sheets(metrics["highlights"])
    pictures = gallery.cells({entry.place for sheet in sheets for entry in sheet.entries})
    examples = metrics["highlights"].get("failures", {})
    failed = this.gallery.failures({(r[0], r[1]) for rows in examples.values() for r in rows})
    classes = [
        {**row, "color": this.colors.get(row["id"], default_color(row["id"]))}
        for row in sorted(named.get("classes", []), key=lambda row: -row["pixels"])
    ]
    busy_s = report_parts.busy_seconds(this.out, this.plan)
    found = [row for row in classes if row["pixels"]]
    labels = named.get("labels", []) if records["written"] else []
    drawings = plots.drawings(sums, None if other is None else other.metrics["sums"])
    quantiles = report_parts.quantile_rows(named)
    verdict = report_parts.verdict(metrics)
    if compared is not None:
        moved = [row.title for row in compared.drifts if row.level != "good"]
        verdict = report_parts.with_drift(verdict, moved, compared.name)
    return {
        "verdict": verdict,
        "records": records,
        "shards": metrics["shards"],
        "packing": run["job"] == "pack",
        "making": run["job"] == "generate",
        "scoring": run["job"] == "evaluate",
        "recipe": run["job"] == "augment",
        "left_out_reasons": LEFT_OUT_REASONS,
        "drift": named.get("drift"),
        "card": card,
        "scores": scores,
        "names": names,
        "shown": shown,
        "busy_s": busy_s,
        "images_per_s": records["read"] / busy_s if busy_s else None,
        "sheets": [
            (sheet, max(len(pictures[entry.place]) for entry in sheet.entries)) for sheet in sheets
        ],
        "pictures": within_budget(pictures, _PICTURE_BYTES),
        "pictures_text": report_parts.pictures_text(run, metrics),
        "failed_pictures": failed,
        "found": found,
        "strip": plots.strip([(r["name"], r["color"], r["pixel_share"]) for r in found[:40]]),
        "absent": [row for row in classes if not row["pixels"]],
        "labels": labels,
        "plots": drawings,
        "stages": report_parts.stages(metrics["clock"]["microseconds"]),
        "quantiles": quantiles,
        "kinds": {
            name: report_parts.ranked(sums.get(name, {}))
            for name in ("formats", "modes", "orientations")
        },
        "reasons": REASONS,
        "sections": [
            Section(name, title)
            for name, title, there in (
                ("comparison", "Comparison", compared),
                ("scores", "Scores", scores),
                ("drift", "Drift", named.get("drift")),
                ("scorecard", "Scorecard", card),
                ("totals", "Totals", True),
                ("recipe", "Recipe", run["job"] == "augment"),
                ("pictures", "Pictures", sheets),
                ("classes", "Classes", found),
                ("labels", "Labels", labels),
                ("distributions", "Distributions", drawings),
                ("failures", "Failures", True),
                ("time", "Time", True),
                ("input", "Input", quantiles),
                ("shards", "Shards", True),
                ("run", "Run", True),
            )
            if there
        ],
    }


def _compare(this: Loaded, other: Loaded) -> Compared:
    if this.run["job"] != other.run["job"]:
        raise UserError(
            f"{this.out} is of job {this.run['job']!r}, {other.out} of {other.run['job']!r}; "
            "only runs of one job can be compared"
        )
    if this.plan is None or this.gallery is None or other.gallery is None:
        raise UserError("trainings cannot be compared yet; evaluate their models and compare those")
    runs = (this.run, other.run)
    return compare(
        (this.name, other.name) if this.name != other.name else (this.out, other.out),
        (this.metrics, other.metrics),
        (this.gallery, other.gallery),
        [report_parts.flat(run["identity"] | {"versions": run["versions"]}) for run in runs],
    )


def _apology(error: Exception) -> str:
    return Markup(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>No report</title></head>'
        "<body><h1>No report</h1><p>The run's numbers are in metrics.json. The report could not be "
        "made of them: {}: {}</p></body></html>\n"
    ).format(type(error).__name__, error)


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
