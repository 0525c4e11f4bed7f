"""What the report shows of an evaluation: scores, intervals, calibration, the worst images."""

import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import Any

from pipeline import charts
from pipeline.gallery import Gallery, Place, loaded, read_file, read_some
from pipeline.plots import percent_text
from pipeline.report_parts import Entry, Sheet, contact_sheets
from pipeline.report_scores import Chart, Scores, class_rows, confusion_of_rows, title_of
from pipeline.run_files import PARTNERS, PARTNERS_INDEX, read_plan
from pipeline.thumbnails import Cell, Found, picture_and_mask, picture_and_two_masks, two_masks
from transforms import storage
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.inputs import Shard
from transforms.partners import MaskSet, Partners, pair_name

_MEANS = ("miou", "mdice", "pixel_accuracy", "mean_accuracy", "fwiou", "boundary_iou", "pq")
_COLUMNS = ("iou", "dice", "precision", "recall", "boundary_iou", "boundary_f1", "pq")
_SHEETS = (
    ("miou", "mean IoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("mean_confidence", "confidence"),
)
_PICTURES = 8
_MASK = "image/segmentation/class/encoded"


def evaluated_scores(metrics: Mapping[str, Any], colors: Mapping[int, str]) -> Scores | None:
    """Scores against labels; None of an evaluation without labels."""
    named = metrics["metrics"]
    if "miou" not in named:
        return None
    intervals = named.get("intervals", {})
    means = []
    for name in _MEANS:
        if named.get(name) is not None:
            between = intervals.get(name)
            note = (
                f"95% between {percent_text(between['low'])} and {percent_text(between['high'])}"
                if between and between["low"] is not None
                else ""
            )
            if (each := named.get(f"{name}_per_image")) is not None:
                note += f"{'; ' if note else ''}mean over images {percent_text(each)}"
            means.append((title_of(name), percent_text(named[name]), note))
    text = (
        f"{named['evaluated_pixels']:,} of {named['pixels']:,} pixels were compared; "
        f"{named['classes_evaluated']:,} of {named['classes_total']:,} classes occur (--absent "
        f"{named['absent']}). Sums over all pixels come first, then the quotients."
    )
    rows = named["classes"]
    columns, table = class_rows(rows, [c for c in _COLUMNS if c in (rows or [{}])[0]], colors)
    return Scores(
        title="Scores",
        text=" ".join([text, *named.get("warnings", ())]),
        means=means,
        columns=columns,
        rows=table,
        confusion=confusion_of_rows(
            [row["name"] for row in rows],
            [row[: len(rows)] for row in named.get("confusion", ())[: len(rows)]],
        ),
        charts=_calibration(named),
    )


def _calibration(named: Mapping[str, Any]) -> list[Chart]:
    if not named.get("calibration"):
        return []
    bins = [(row["confidence"], row["accuracy"], row["pixels"]) for row in named["calibration"]]
    error = named.get("calibration_error")
    told = "" if error is None else f" Expected calibration error {error:.4f}."
    svg = charts.calibration(bins, f"Calibration: accuracy by confidence.{told}")
    text = (
        "how often pixels of a confidence (across) are right (up). On the line, confidence means "
        f"what it says; below it, too much was promised.{told}"
    )
    return [Chart("Calibration", text, svg)]


def evaluated_sheets(metrics: Mapping[str, Any]) -> list[Sheet]:
    """Contact sheets: the worst images by their metrics, then those that any run has."""
    worst = metrics["metrics"].get("worst", {})
    labelled = "miou" in worst
    found = []
    for name, title in _SHEETS[:2] if labelled else _SHEETS[2:]:
        entries = [
            Entry((row["shard"], row["index"]), row["key"], percent_text(row["value"]))
            for row in worst.get(name, ())[:_PICTURES]
        ]
        if entries:
            found.append(Sheet(f"Worst by {title}", f"The lowest {title} of all images.", entries))
    others = contact_sheets(metrics["highlights"], "mean IoU" if labelled else "mean confidence")
    return [*found, *(sheet for sheet in others if sheet.title != "Least confident")]


class EvaluatedGallery:
    """Pictures of an evaluation: image, prediction and label, as far as they can be had."""

    def __init__(
        self, out: str, identity: Mapping[str, Any], notes: Mapping[str, Any], gallery: Gallery
    ) -> None:
        self._gallery = gallery
        self._identity = identity
        self._by_model = "model" in identity
        self._labelled = self._by_model or "predictions" in identity
        self._partners: Partners | None = None
        partners = os.path.join(out, PARTNERS)
        if storage.is_file(partners):
            index = os.path.join(out, PARTNERS_INDEX)
            names = FeatureNames(_MASK, gallery.names.key)
            suffix = "" if self._by_model else identity["suffixes"][1]
            self._partners = Partners(
                MaskSet(
                    partners,
                    names,
                    suffix,
                    by_shard=identity.get("pair_by") == "shard",
                    index=index if storage.is_file(index) else "",
                )
            )
        self._source = _source(notes.get("predictions_run"), gallery)
        ignored = identity["scoring"]["labels"]["ignore_ids"] if self._labelled else []
        self._ignore_id = ignored[0] if ignored else None

    def cells(self, places: Collection[Place]) -> dict[Place, tuple[Cell, ...]]:
        """Cells of records. Never raises for a picture: a cell that cannot be made says why."""
        found: dict[Place, tuple[Cell, ...]] = {}
        for name in sorted({name for name, _ in places}):
            indices = frozenset(index for shard, index in places if shard == name)
            try:
                found |= self._shard(self._gallery.shards[name], indices)
            except Exception as error:  # inputs and OUT may have changed in any way since
                why = f"shard {name} cannot be shown: {type(error).__name__}: {error}"
                found |= {(name, index): (Cell("mask", problem=why),) for index in indices}
        return found

    def _shard(self, shard: Shard, indices: Collection[int]) -> dict[Place, tuple[Cell, ...]]:
        gallery = self._gallery
        first = read_some(shard, gallery.names, indices)
        suffix = "" if self._by_model else self._identity["suffixes"][0]
        wanted = {n for key, _ in first.values() if (n := pair_name(key, suffix)) is not None}
        partners = self._partners.of(shard, wanted) if self._partners else {}
        labels, images = {}, {}
        if self._by_model:
            images = {index: data for index, (_, data) in first.items()}
            if self._partners is None:
                labels = self._labels_beside(shard, indices)
        elif shard.is_examples:
            beside = read_some(shard, FeatureNames("image/encoded", gallery.names.key), indices)
            images = {i: data for i, (_, data) in beside.items() if isinstance(data, bytes)}
        if self._source is not None and not images:
            images = self._source_images(shard, first, suffix)
        cells = {}
        for index, (key, data) in first.items():
            partner = partners.get(pair_name(key, suffix) or "")
            other: Found | None = loaded(partner.mask) if partner is not None else None
            image = images.get(index)
            prediction = None if self._by_model else other if self._labelled else data
            label = (other or labels.get(index)) if self._by_model else data
            cells[shard.name, index] = self._record(
                image, prediction, label if self._labelled else None
            )
        return cells

    def _record(
        self, image: Found | None, prediction: Found | None, label: Found | None
    ) -> tuple[Cell, ...]:
        gallery = self._gallery
        if prediction is not None and label is not None:
            both, kinds = (prediction, label), ("mask", "label")
            if image is None:
                return two_masks(both, kinds, gallery.colors, ignore_id=self._ignore_id)
            policy = gallery.policy
            return picture_and_two_masks(
                image, both, kinds, policy, gallery.colors, ignore_id=self._ignore_id
            )
        mask = prediction if prediction is not None else label
        if image is None:
            missing = Failure("read", "unreadable", "no picture is known to belong to this mask")
            image = missing
        return picture_and_mask(
            image, mask, gallery.policy, gallery.colors, "mask" if label is None else "label"
        )

    def _labels_beside(self, shard: Shard, indices: Collection[int]) -> dict[int, Found]:
        if shard.is_examples:
            names = FeatureNames(self._identity["mask_feature"], self._gallery.names.key)
            return {index: data for index, (_, data) in read_some(shard, names, indices).items()}
        masks = {index: shard.files[index].mask for index in indices}
        return {index: read_file(shard.root, mask) for index, mask in masks.items() if mask}

    def _source_images(
        self, shard: Shard, first: Mapping[int, tuple[str, Found]], suffix: str
    ) -> dict[int, Found]:
        """Pictures that the run of the predictions read: of a shard of this name, or of files."""
        assert self._source is not None
        if (twin := self._source.shards.get(shard.name)) is not None and twin.is_examples:
            return self._source.images(twin, first)
        names = {pair_name(key, suffix): index for index, (key, _) in first.items()}
        found: dict[int, Found] = {}
        for other in self._source.shards.values():
            for place, file in enumerate(other.files):
                if (index := names.get(pair_name(file.path))) is not None:
                    found[index] = self._source.images(other, [place])[place]
        return found


def _source(run: str | None, gallery: Gallery) -> Gallery | None:
    """The gallery of the run that made the predictions, for its pictures."""
    if not run or not storage.is_file(os.path.join(run, "plan.jsonl")):
        return None
    shards = {shard.name: shard for shard in read_plan(run).shards}
    return dataclasses.replace(gallery, out=run, job="segment", shards=shards, names=FeatureNames())
