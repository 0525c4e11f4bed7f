"""Scores against labels, for the report: of an evaluation, or of a training's validation part."""

import csv
import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline import charts
from pipeline.plots import percent_text
from transforms import storage

_TABLE_CLASSES, _MAP_CLASSES = 24, 150
_WORST = 8
_TITLES = {
    "iou": "IoU",
    "f1": "F1",
    "miou": "Mean IoU",
    "mdice": "Mean Dice",
    "fwiou": "Weighted IoU",
    "boundary_iou": "Boundary IoU",
    "boundary_f1": "Boundary F1",
    "pq": "Panoptic quality",
}
_UNITS = {"spread"}  # of scores that are no shares


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing with its words."""

    title: str
    text: str
    svg: Markup


@dataclasses.dataclass(frozen=True)
class Confusion:
    """A confusion matrix: names of the classes, rows of counts by label, a map when there are many
    classes, and the pairs (label, predicted, share of the label) that are mixed up most."""

    names: Sequence[str]
    matrix: Sequence[Sequence[int]]
    svg: Markup | None
    worst: Sequence[tuple[str, str, float]]
    counts: bool = False


@dataclasses.dataclass(frozen=True)
class ScoreRow:
    """Scores of one class as they are to be read; `first` is the first of them, 0 to 1."""

    name: str
    color: str
    texts: Sequence[str]
    first: float | None


@dataclasses.dataclass(frozen=True)
class Scores:
    """All that is shown of scores; `means` are (title, value, note)."""

    title: str
    text: str
    means: Sequence[tuple[str, str, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[ScoreRow] = ()
    confusion: Confusion | None = None
    charts: Sequence[Chart] = ()


def trained_scores(
    out: str, job: str, metrics: Mapping[str, Any], colors: Mapping[int, str]
) -> Scores:
    """Scores of a training, with its curves."""
    kind = job.removeprefix("train ")
    known = {"id", "name", "count"}
    names = [name for name in (metrics["classes"] or [{}])[0] if name not in known]
    names.sort(key=lambda name: name != "iou")
    given = {
        "format",
        "job",
        "epochs",
        "best_epoch",
        "examples",
        "classes",
        "confusion",
        "left_out",
    }
    means = [(title_of(n), number_text(n, v), "") for n, v in metrics.items() if n not in given]
    unit = "Pixels" if kind == "segmenter" else "Pictures"
    columns, rows = class_rows(metrics["classes"], names, colors if kind == "segmenter" else {})
    return Scores(
        title="Scores",
        text="Of generated pictures of each class, compared with real ones."
        if kind == "generator"
        else "Of the validation part, on which the best epoch was chosen too.",
        means=means,
        columns=[*columns, unit],
        rows=[
            dataclasses.replace(row, texts=[*row.texts, f"{of['count']:,}"])
            for row, of in zip(rows, metrics["classes"], strict=True)
        ],
        confusion=confusion_of_rows(
            [row["name"] for row in metrics["classes"]], metrics["confusion"]
        ),
        charts=_curves(out),
    )


def class_rows(
    classes: Sequence[Mapping[str, Any]], names: Sequence[str], colors: Mapping[int, str]
) -> tuple[list[str], list[ScoreRow]]:
    """Titles of the scores with these names, and a row for each class; the first has a bar."""
    rows = [
        ScoreRow(
            row["name"],
            colors.get(row["id"], ""),
            [number_text(name, row.get(name)) for name in names],
            row.get(names[0]) if names and names[0] not in _UNITS else None,
        )
        for row in classes
    ]
    return [title_of(name) for name in names], rows


def confusion_of_rows(
    names: Sequence[str], matrix: Sequence[Sequence[int]] | None
) -> Confusion | None:
    """A confusion matrix ready to be shown; None when there is none, or nothing in it."""
    if not matrix or not any(any(row) for row in matrix):
        return None
    mixed = [
        (n / total, names[label], names[predicted])
        for label, row in enumerate(matrix)
        if (total := sum(row))
        for predicted, n in enumerate(row)
        if n and predicted != label and n / total >= 0.005
    ]
    worst = sorted(mixed, key=lambda item: -item[0])[:_WORST]
    svg = None
    if _TABLE_CLASSES < len(names) <= _MAP_CLASSES:
        svg = charts.heat_map(matrix, names, f"Confusion of {len(names)} classes")
    return Confusion(names, matrix, svg, [(label, was, share) for share, label, was in worst])


def title_of(name: str) -> str:
    """A metric's name for reading: mean_iou becomes "Mean IoU"."""
    if name.startswith("mean_"):
        return f"Mean {title_of(name.removeprefix('mean_')).lower()}".replace("iou", "IoU").replace(
            "f1", "F1"
        )
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def number_text(name: str, value: float | None) -> str:
    """A score for reading; a dash where it is no number."""
    if value is None or math.isnan(value):
        return "-"
    if name.removeprefix("mean_") in _UNITS or not 0 <= value <= 1:
        return f"{value:.3f}"
    return percent_text(value)


def _curves(out: str) -> list[Chart]:
    """Losses and validation by epoch, from curves.csv."""
    path = os.path.join(out, "curves.csv")
    if not storage.is_file(path):
        return []
    rows = list(csv.DictReader(io.StringIO(storage.read_bytes(path).decode())))
    found = []
    lines = {
        name: [(float(row["epoch"]), float(row[name])) for row in rows if row[name]]
        for name in (rows[0] if rows else {})
        if name != "epoch"
    }
    losses = {name: points for name, points in lines.items() if name.endswith("loss")}
    others = {name: points for name, points in lines.items() if name not in losses}
    for title, group in (("Losses", losses), ("Validation", others)):
        if any(len(points) > 1 for points in group.values()):
            told = ", ".join(
                f"{name.replace('_', ' ')} {p[-1][1]:.3f}" for name, p in group.items() if p
            )
            svg = charts.curves(group, f"{title} by epoch. At the end: {told}")
            found.append(Chart(title, f"by epoch; at the end {told}.", svg))
    return found
