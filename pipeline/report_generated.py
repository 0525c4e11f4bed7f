"""What the report shows of generated pictures: samples by class, rejected ones, neighbours."""

import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from models.loading import import_tensorflow
from pipeline.gallery import Gallery, Place
from pipeline.run_files import read_plan
from pipeline.thumbnails import Cell, thumbnail
from transforms import storage
from transforms.formats.base import BadRecord
from transforms.formats.tfrecord import read_records
from transforms.guard import REFERENCE
from transforms.inputs import Plan
from transforms.observed import rejected_path
from transforms.sink import records_path

tf = import_tensorflow()

_CLASSES, _A_CLASS = 20, 10  # rows and pictures of the grid
_SHARDS = 20  # that are looked into for pictures to show
_REJECTED = 24
_COLUMNS = ["index", "key", "status", "label", "predicted", "confidence", "agrees"]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A small picture with a word below it; `mark` is "bad" for one that is not as it should be."""

    cell: Cell
    caption: str = ""
    title: str = ""
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """Pictures of one class."""

    name: str
    pictures: Sequence[Shown]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generated picture, its nearest training image, and how far it is."""

    made: Cell
    real: Cell
    distance: float
    title: str


@dataclasses.dataclass(frozen=True)
class Pictures:
    """All that is shown.

    Attributes:
        rows: samples by class.
        rejected: pictures that were not taken.
        closest, others: pairs with the nearest training image.
        unit: of their distances.
    """

    rows: Sequence[Row]
    rejected: Sequence[Shown]
    closest: Sequence[Pair]
    others: Sequence[Pair]
    unit: str


def generated_pictures(
    out: str, plan: Plan, card: Mapping[str, Any], gallery: Gallery, names: Sequence[str]
) -> Pictures:
    """Chooses and fetches what is shown of a run. Raises OSError when records cannot be read."""
    neighbours = card.get("neighbours") or {"closest": [], "random": [], "unit": ""}
    closest, others = (_pairs(out, neighbours[name], gallery) for name in ("closest", "random"))
    return Pictures(
        rows=_grid(out, plan, card, gallery, names),
        rejected=_rejected(out, plan, names),
        closest=closest,
        others=others,
        unit=neighbours["unit"],
    )


def _grid(
    out: str, plan: Plan, card: Mapping[str, Any], gallery: Gallery, names: Sequence[str]
) -> list[Row]:
    """The first pictures of each class; of many classes, those that agree least."""
    classes = card["classes"]
    chosen = sorted(classes, key=lambda row: row.get("recall") or 0.0)[:_CLASSES]
    wanted = {row["id"] for row in (classes if len(classes) <= _CLASSES else chosen)}
    found: dict[int, list[tuple[Place, dict[str, Any]]]] = {label: [] for label in sorted(wanted)}
    if not wanted:
        found[-1] = []
    for shard in plan.shards[:_SHARDS]:
        for row in _records(out, shard.name):
            label = -1 if row["label"] is None else row["label"]
            if row["status"] == "ok" and len(found.get(label, [0] * _A_CLASS)) < _A_CLASS:
                found[label].append(((shard.name, row["index"]), row))
        if all(len(rows) == _A_CLASS for rows in found.values()):
            break
    cells = gallery.thumbnails({place for rows in found.values() for place, _ in rows})
    return [
        Row(
            names[label] if 0 <= label < len(names) else "Pictures",
            [_shown(cells[place], row, names) for place, row in rows],
        )
        for label, rows in found.items()
        if rows
    ]


def _records(out: str, shard_name: str) -> list[dict[str, Any]]:
    path = os.path.join(out, records_path(shard_name))
    if not storage.is_file(path):
        return []
    rows: list[dict[str, Any]] = pq.read_table(
        io.BytesIO(storage.read_bytes(path)), columns=_COLUMNS
    ).to_pylist()
    return rows


def _shown(cell: Cell, row: Mapping[str, Any], names: Sequence[str]) -> Shown:
    if row["predicted"] is None:
        return Shown(cell, title=row["key"])
    opinion = f"{_name(names, row['predicted'])} {row['confidence']:.0%}"
    if row["agrees"] is False:
        return Shown(cell, opinion, f"{row['key']}: the verifier sees {opinion}", "bad")
    return Shown(cell, "", f"{row['key']}: {opinion}")


def _rejected(out: str, plan: Plan, names: Sequence[str]) -> list[Shown]:
    """Rejected pictures of the first shards that have any, one for each class and reason."""
    found: dict[tuple[int, bytes], Shown] = {}
    for shard in plan.shards[:_SHARDS]:
        path = os.path.join(out, rejected_path(shard.name))
        if not storage.is_file(path):
            continue
        with storage.open_read(path) as file:
            for data in read_records(file):
                if isinstance(data, BadRecord):
                    break
                features = tf.train.Example.FromString(data).features.feature
                label = features["image/generated/label_asked"].int64_list.value[0]
                reason = features["image/rejected/reason"].bytes_list.value[0]
                if (label, reason) in found or len(found) == _REJECTED:
                    continue
                message = features["image/rejected/message"].bytes_list.value[0].decode()
                cell = thumbnail(features["image/encoded"].bytes_list.value[0])
                caption = reason.decode()
                if caption == "disagrees":
                    predicted = features["image/generated/label_predicted"].int64_list.value[0]
                    confidence = features["image/generated/confidence"].float_list.value[0]
                    caption = f"is {_name(names, predicted)} {confidence:.0%}"
                if label >= 0:
                    caption = f"{_name(names, label)}: {caption}"
                found[label, reason] = Shown(cell, caption, message)
    return [found[key] for key in sorted(found)]


def _pairs(out: str, rows: Sequence[Sequence[Any]], gallery: Gallery) -> list[Pair]:
    root = os.path.join(out, REFERENCE)
    if not rows:
        return []
    shards = {shard.name: shard for shard in read_plan(root).shards}
    training = dataclasses.replace(gallery, out=root, job="describe", shards=shards)
    made = gallery.thumbnails({(shard, index) for shard, index, *_ in rows})
    real = training.thumbnails({(shard, index) for _, _, shard, index, _ in rows})
    return [
        Pair(
            made[shard, index],
            real[of_shard, of_index],
            distance,
            f"{shard}#{index} and {of_shard}#{of_index}",
        )
        for shard, index, of_shard, of_index, distance in rows
    ]


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else str(label)
