"""Two runs of one job beside each other: totals, drift, class shares, and masks that differ."""

import dataclasses
import heapq
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline import plots
from pipeline.gallery import Gallery
from pipeline.report_parts import Entry
from pipeline.thumbnails import Cell, picture_and_two_masks
from transforms import storage
from transforms.evaluation.drift import aligned, jensen_shannon
from transforms.sink import records_path

_PICTURES = 8
_BINS = 16  # of what is counted by image: finer bins would differ by chance alone
_SCORES = ("miou", "mdice", "pixel_accuracy", "fwiou")
_DRIFT, _STRONG_DRIFT = 0.005, 0.05  # bits
_COLUMNS = ["index", "key", "status", "classes", "class_pixels"]


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of both runs as it is to be read; `change` is A less B, None where it says nothing.

    `good` tells whether more is better; None where neither is.
    """

    title: str
    this: str
    other: str
    change: float | None = None
    unit: str = ""
    digits: int = 1
    good: bool | None = None


@dataclasses.dataclass(frozen=True)
class Drift:
    """How far two distributions are apart, in bits from 0 to 1, and what that means."""

    title: str
    bits: float
    level: str
    text: str


@dataclasses.dataclass(frozen=True)
class ClassMove:
    """Shares of a class in both runs; `scaled` is the change by the largest one, -1 to 1."""

    name: str
    color: str
    this: float
    other: float
    scaled: float

    @property
    def change(self) -> float:
        return self.this - self.other


@dataclasses.dataclass(frozen=True)
class Compared:
    """What the page shows of two runs; `sheet` has the images whose masks differ most."""

    this: str
    name: str
    totals: Sequence[Measure]
    drifts: Sequence[Drift]
    classes: Sequence[ClassMove]
    settings: Sequence[tuple[str, str, str]]
    sheet: Sequence[tuple[Entry, tuple[Cell, ...]]]
    paired: int


def compare(
    names: tuple[str, str],
    metrics: tuple[Mapping[str, Any], Mapping[str, Any]],
    galleries: tuple[Gallery, Gallery],
    settings: Sequence[Sequence[tuple[str, str]]],
) -> Compared:
    """Compares a run (first) with another (second)."""
    moved = class_moves(*metrics, galleries[0].colors)
    paired, sheet = (
        _differing(*galleries) if galleries[0].job == galleries[1].job == "segment" else (0, [])
    )
    old, new = dict(settings[1]), dict(settings[0])
    return Compared(
        this=names[0],
        name=names[1],
        totals=totals(*metrics),
        drifts=drifts(*metrics, moved),
        classes=moved,
        settings=[
            (name, new.get(name, "not set"), old.get(name, "not set"))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ],
        sheet=sheet,
        paired=paired,
    )


def totals(this: Mapping[str, Any], other: Mapping[str, Any]) -> list[Measure]:
    """Counts and means of both runs."""
    rows = []
    for title, name in (("Images read", "read"), ("Written", "written"), ("Failed", "failed")):
        a, b = this["records"][name], other["records"][name]
        texts = (plots.count_text(a), plots.count_text(b))
        better = False if name == "failed" else None
        rows.append(Measure(title, *texts, change=a - b, digits=0, good=better))
    for reason in sorted(
        {*this["records"]["failed_by_reason"], *other["records"]["failed_by_reason"]}
    ):
        a, b = (m["records"]["failed_by_reason"].get(reason, 0) for m in (this, other))
        texts = (plots.count_text(a), plots.count_text(b))
        rows.append(Measure(f"Failed: {reason}", *texts, change=a - b, digits=0, good=False))
    for title, name in (
        ("Mean IoU", "miou"),
        ("Mean Dice", "mdice"),
        ("Pixel accuracy", "pixel_accuracy"),
        ("Weighted IoU", "fwiou"),
        ("Mean confidence", "mean_confidence"),
        ("Mean entropy", "mean_entropy"),
        ("Mean margin", "mean_margin"),
    ):
        a, b = (m["metrics"].get(name) for m in (this, other))
        if _is_number(a) and _is_number(b):
            texts = (plots.percent_text(a), plots.percent_text(b))
            score = True if name in _SCORES else None
            change = 100 * (a - b)
            rows.append(Measure(title, *texts, change=change, unit=" points", digits=2, good=score))
    return rows


def class_moves(
    this: Mapping[str, Any], other: Mapping[str, Any], colors: Mapping[int, str]
) -> list[ClassMove]:
    """Classes of both runs by name, the one that moved most first."""
    tables = [{row["name"]: row for row in m["metrics"].get("classes", ())} for m in (this, other)]
    shares = {
        name: [table[name]["pixel_share"] if name in table else 0.0 for table in tables]
        for name in {**tables[0], **tables[1]}
    }
    largest = max([abs(a - b) for a, b in shares.values()] or [0.0]) or 1.0
    moves = [
        ClassMove(
            name,
            colors.get(tables[0].get(name, {}).get("id", -1), "#9a9a9a"),
            a,
            b,
            (a - b) / largest,
        )
        for name, (a, b) in shares.items()
        if a or b
    ]
    return sorted(moves, key=lambda move: (-abs(move.change), move.name))


def drifts(
    this: Mapping[str, Any], other: Mapping[str, Any], moved: Sequence[ClassMove]
) -> list[Drift]:
    """How far the distributions of both runs are apart, as far as both have them."""
    n, m = this["records"]["written"], other["records"]["written"]
    if not n or not m:
        return []
    found = []
    if moved:
        bits = jensen_shannon([move.this for move in moved], [move.other for move in moved])
        most = ", ".join(
            f"{move.name[:40]} {100 * move.change:+.1f}"
            for move in moved[:3]
            if abs(move.change) >= 0.0005
        )
        told = f"moved most, in points: {most}" if most else "no class moved by a tenth of a point"
        found.append(_drift("Class shares", bits, 0.0, told))
    for name, title, by_image in (
        ("confidence", "Confidence", False),
        ("brightness", "Brightness", True),
        ("saturation", "Saturation", True),
        ("widths", "Widths", True),
        ("heights", "Heights", True),
        ("image_bytes", "File sizes", True),
    ):
        a, b = this["sums"].get(name), other["sums"].get(name)
        if a and b:
            p, q = _aligned(a, b)
            expected = chance(int(((p > 0) | (q > 0)).sum()), n, m) if by_image else 0.0
            told = (
                f"of {n:,} and {m:,} images; by chance about {expected:.4f}"
                if by_image
                else "pixel by pixel"
            )
            found.append(_drift(title, jensen_shannon(p, q), expected, told))
    return found


def chance(bins: int, n: int, m: int) -> float:
    """About the divergence, in bits, of two samples of n and m images from one source.

    From the chi-squared limit of the likelihood ratio: (bins - 1) / (8 ln 2) * (1/n + 1/m).
    """
    return min(1.0, max(0, bins - 1) / (8 * math.log(2)) * (1 / n + 1 / m))


def _drift(title: str, bits: float, by_chance: float, text: str) -> Drift:
    level = "good"
    if bits >= max(_DRIFT, 2 * by_chance):
        level = "bad" if bits >= max(_STRONG_DRIFT, 4 * by_chance) else "warn"
    said = {"good": "No drift", "warn": "Drift", "bad": "Strong drift"}[level]
    return Drift(title, bits, level, f"{said}: {text}.")


def _aligned(a: Any, b: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Counts of both in the same few bins: of lists, or of {value: count}."""
    if isinstance(a, Mapping):
        names = sorted({*a, *b}, key=lambda name: float(name) if name != "zero" else -math.inf)
        a, b = ([x.get(name, 0) for name in names] for x in (a, b))
    p, q = (np.asarray(plots.rebin(counts, _BINS), np.int64) for counts in aligned(a, b))
    return p, q


def _differing(this: Gallery, other: Gallery) -> tuple[int, list[tuple[Entry, tuple[Cell, ...]]]]:
    """Images that both runs have, by shard and key: how many, and those that moved most."""
    paired, best = 0, list[tuple[float, str, int, int, str]]()
    for name in sorted({*this.shards} & {*other.shards}):
        old = {row["key"]: row for row in _rows(other, name)}
        for row in _rows(this, name):
            if (twin := old.get(row["key"])) is not None:
                paired += 1
                moved = _moved(row, twin)
                item = (moved, name, row["index"], twin["index"], row["key"])
                if moved > 0 and (len(best) < _PICTURES or moved > best[0][0]):
                    (heapq.heappush if len(best) < _PICTURES else heapq.heappushpop)(best, item)
    sheet = []
    for moved, name, index, twin_index, key in sorted(best, key=lambda item: (-item[0], item[1:])):
        try:
            shard = this.shards[name]
            cells = picture_and_two_masks(
                this.images(shard, [index])[index],
                (
                    this.masks(shard, [index])[index],
                    other.masks(other.shards[name], [twin_index])[twin_index],
                ),
                ("mask", "other"),
                this.policy,
                this.colors,
            )
        except Exception as error:  # inputs and OUT may have changed in any way since
            cells = (Cell("image", problem=f"{type(error).__name__}: {error}"),)
        sheet.append((Entry((name, index), key, plots.percent_text(moved)), cells))
    return paired, sheet


def _rows(gallery: Gallery, shard_name: str) -> Iterator[dict[str, Any]]:
    path = os.path.join(gallery.out, records_path(shard_name))
    if storage.is_file(path):
        table = pq.read_table(io.BytesIO(storage.read_bytes(path)), columns=_COLUMNS)
        yield from (row for row in table.to_pylist() if row["status"] == "ok")


def _moved(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Part of the pixels that changed class at least, 0 to 1: half of all that shares moved."""
    p, q = (dict(zip(row["classes"], row["class_pixels"], strict=True)) for row in (a, b))
    n, m = max(1, sum(p.values())), max(1, sum(q.values()))
    return float(sum(abs(p.get(c, 0) / n - q.get(c, 0) / m) for c in {*p, *q}) / 2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
