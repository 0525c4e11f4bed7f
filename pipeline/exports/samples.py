"""What is exported: the images of a run with their masks, one at a time, and its classes."""

import dataclasses
import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image, ImageColor

from models.errors import UserError
from models.loading import import_tensorflow
from pipeline.legends import LEGEND, legend, stored_legend
from pipeline.run_files import METRICS, RUN, Run, read_metrics, read_plan, read_run
from transforms import storage
from transforms.commits import mask_paths
from transforms.decode import DecodePolicy, decode
from transforms.examples import FEATURES
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.formats.base import BadRecord
from transforms.inputs import Shard
from transforms.sink import is_written, read_written, records_path
from transforms.sources import read_shard

tf = import_tensorflow()

_KEPT = {"JPEG": "jpg", "PNG": "png"}  # formats that every consumer reads
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_LENGTH = 80


@dataclasses.dataclass(frozen=True)
class Class:
    """A class: id in masks, name, and colour as (red, green, blue)."""

    id: int
    name: str
    rgb: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image with its mask.

    Attributes:
        name: path without extension, unique in the run, never leading out of a folder.
        key: the record's name in the run.
        image: encoded upright, JPEG or PNG.
        extension: of the image, "jpg" or "png".
        mask: class ids, uint8 or uint16 [H, W], of the image's size.
    """

    name: str
    key: str
    image: bytes
    extension: str
    mask: npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """A run that can be exported."""

    out: str
    job: str
    identity: Mapping[str, Any]
    classes: tuple[Class, ...]
    ignore_id: int

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(row.id for row in self.classes)


def open_source(out: str) -> Source:
    """Looks at a run. Raises UserError when it has no images with masks."""
    run = read_run(out)
    if run is None:
        raise UserError(f"{out} holds no run of pixelmill: there is no {RUN}")
    if run.job not in ("segment", "pack") or (run.job == "pack" and not _has_masks(out, run)):
        raise UserError(
            f"{out} is of job {run.job!r}{' without masks' if run.job == 'pack' else ''}; only "
            "runs of segment, and of pack with masks, have images and masks to export"
        )
    found = _legend(out)
    rows = tuple(
        Class(row["id"], row["name"], ImageColor.getrgb(row["color"])[:3])
        for row in found["classes"]
    )
    return Source(out, run.job, run.identity, rows, found["ignore_id"])


def _has_masks(out: str, run: Run) -> bool:
    """Whether a run of pack has some: from files, or, known at its end, from shards or labels."""
    if run.identity["masks"]:
        return True
    is_done = storage.is_file(os.path.join(out, METRICS))
    return is_done and bool(read_metrics(out)["sums"].get("masks"))


def samples(source: Source) -> Iterator[Sample]:
    """Every image that has a mask, in the order of the run; one shard is open at a time.

    Raises:
        UserError: an image or mask is gone, or their sizes differ.
        OSError: the storage failed.
    """
    for shard in read_plan(source.out).shards:
        pairs = _packed(source, shard) if source.job == "pack" else _segmented(source, shard)
        for pair in pairs:
            yield _sample(source, f"{shard.name}#{pair[0]}", pair)


def _sample(source: Source, place: str, pair: "_Pair") -> Sample:
    _, key, name, image, mask = pair
    try:
        picture = decode(image, DecodePolicy(**source.identity.get("decode", {})))
        with Image.open(io.BytesIO(mask)) as opened:
            ids = np.asarray(opened)
    except (Failure, OSError, ValueError) as error:
        said = error.message if isinstance(error, Failure) else str(error)
        raise UserError(f"{place} ({key}) cannot be exported: {said}") from error
    facts = picture.facts
    if ids.shape != facts.size_hw:
        raise UserError(
            f"{place} ({key}): the mask is {ids.shape[1]}x{ids.shape[0]}, the image "
            f"{facts.size_hw[1]}x{facts.size_hw[0]}; other tools want equal sizes: segment with "
            "--mask_size=image"
        )
    strange = sorted(set(np.unique(ids).tolist()) - source.ids - {source.ignore_id})
    if strange:
        raise UserError(
            f"{place} ({key}): the mask has the id {strange[0]}, which is no class of {LEGEND}"
        )
    if facts.format in _KEPT and facts.orientation == 1:
        return Sample(name, key, image, _KEPT[facts.format], ids)
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "PNG")
    return Sample(name, key, buffer.getvalue(), "png", ids)


_Pair = tuple[int, str, str, bytes, bytes]


def _segmented(source: Source, shard: Shard) -> Iterator[_Pair]:
    names = FeatureNames(**source.identity.get("features", {}))
    good = _good(source.out, shard)
    written = is_written(source.out, "masks", shard.name)
    masks = _examples(source.out, "masks", shard) if written else None
    paths = mask_paths(source.out, shard.name, [file.output_name for file in shard.files])
    for record, load in read_shard(shard, names):
        if record.index not in good:
            continue
        if masks is None:
            path = paths[record.output_name]
            mask = storage.read_bytes(os.path.join(source.out, path))
        else:
            mask = next(masks, {}).get(f"{FEATURES['masks']}/encoded", b"")
        try:
            if isinstance(load, Failure):
                raise load
            yield record.index, record.key, _name(shard, record.index, record.key), load(), mask
        except Failure as failure:
            raise UserError(
                f"{shard.name}#{record.index} ({record.key}) was read by the run, but not now: "
                f"{failure.message}"
            ) from failure


def _packed(source: Source, shard: Shard) -> Iterator[_Pair]:
    rows = sorted(_good(source.out, shard).items())
    for (index, key), features in zip(rows, _examples(source.out, "images", shard), strict=True):
        mask = features.get(f"{FEATURES['masks']}/encoded")
        if mask is not None:
            image = features[f"{FEATURES['images']}/encoded"]
            yield index, key, _name(shard, index, key), image, mask


def _good(out: str, shard: Shard) -> dict[int, str]:
    """Index and key of the records that did not fail."""
    path = os.path.join(out, records_path(shard.name))
    data = storage.read_bytes(path)
    try:
        table = pq.read_table(io.BytesIO(data), columns=["index", "key", "status"])
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}; `pixelmill verify {out}`") from error
    return {row["index"]: row["key"] for row in table.to_pylist() if row["status"] == "ok"}


def _examples(out: str, kind: str, shard: Shard) -> Iterator[dict[str, bytes]]:
    for data in read_written(out, kind, shard.name):
        if isinstance(data, BadRecord):
            raise UserError(f"{kind}/{shard.name}: {data.message}; `pixelmill verify {out}`")
        features = tf.train.Example.FromString(data).features.feature
        yield {n: f.bytes_list.value[0] for n, f in features.items() if f.bytes_list.value}


def _name(shard: Shard, index: int, key: str) -> str:
    if shard.files:  # checked when the plan was made: unique, and below the folder
        return shard.files[index].output_name
    stem = _UNSAFE.sub("_", os.path.splitext(os.path.basename(key))[0])[:_NAME_LENGTH]
    return f"{shard.name}/{index:06d}-{stem.strip('.') or 'image'}"


def _legend(out: str) -> dict[str, Any]:
    try:
        found = stored_legend(out)
    except ValueError as error:
        path = os.path.join(out, LEGEND)
        raise UserError(f"{path} cannot be read: {error}; `pixelmill verify {out}`") from error
    # of packed masks ids are all there is
    return found or legend([f"class_{i}" for i in range(255)])
