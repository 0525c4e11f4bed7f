"""What `pixelmill pack` reads: the plan, and where masks and labels come from, by its flags."""

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from pipeline import jobs
from pipeline.pack_labels import find_labels
from transforms import storage
from transforms.beside import Told, told
from transforms.feature_names import USUAL, FeatureNames
from transforms.inputs import IMAGES, Plan, Shard, cut, cut_images
from transforms.label_sources import coco
from transforms.label_sources.targets import LabelSource
from transforms.listing import Listing, list_input
from transforms.record_filter import keys_where, parse_conditions
from transforms.regroup import order_hash
from transforms.selection import TRAIN, VALIDATION, hashes_of
from transforms.splits import is_validation

_FILES_PER_SHARD = 1024


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to pack.

    Attributes:
        plan: of what is read. Files are filtered, split, shuffled and cut already.
        names: of the features of shards.
        masks: pictures that have a mask beside them.
        labels: see PackOperator.
        keys: hashes of the names of wanted records of shards; None for all.
        identity, notes: for run.json.
        annotations: path of COCO's, and the ids of its categories.
    """

    plan: Plan
    names: FeatureNames = USUAL
    masks: int = 0
    labels: LabelSource | None = None
    keys: npt.NDArray[np.uint64] | None = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    annotations: tuple[str, tuple[int, ...]] | None = None

    def stage(self, out: str) -> None:
        """Puts annotations where workers read them. Raises OSError, InputError."""
        if self.annotations is not None:
            coco.stage(self.annotations[0], out, self.plan.shards, self.annotations[1])


def read(flags: argparse.Namespace, out: str) -> Found:
    """Lists the input, and finds masks and labels. Raises UserError."""
    _check_flags(flags)
    listing = list_input(flags.input, out, flags.input_format)
    plan = cut(listing)
    if plan.is_examples:
        return _of_shards(flags, plan)
    return _of_files(flags, listing, out)


def _of_shards(flags: argparse.Namespace, plan: Plan) -> Found:
    if flags.labels not in ("beside", "none"):
        raise UserError(
            f"--labels {flags.labels} is about files, and {flags.input} holds shards, which bring "
            "their masks and labels; leave it out"
        )
    names = FeatureNames(
        flags.image_feature, flags.key_feature, flags.label_feature, flags.mask_feature
    )
    jobs.check_first_record(plan, names)
    identity: dict[str, Any] = {} if names == USUAL else {"features": names._asdict()}
    keys = None
    if (wanted := _wanted_keys(flags)) is not None:
        keys = hashes_of(wanted)
        identity["records"] = storage.crc32c(keys.tobytes())
    if flags.validation_fraction:
        identity["split"] = _split_identity(flags)
    return Found(plan, names, keys=keys, identity=identity)


def _of_files(flags: argparse.Namespace, listing: Listing, out: str) -> Found:
    tables = told(listing)
    labelled = find_labels(flags, listing, tables, out)
    files, left_out = labelled.paired.images, labelled.paired.left_out
    keys = {path: _key(path, tables) for path, _ in files}
    if (wanted := _wanted_keys(flags)) is not None:
        chosen = set(wanted)
        left_out += tuple(path for path, _ in files if keys[path] not in chosen)
        files = [file for file in files if keys[file[0]] in chosen]
        if not files:
            raise UserError(f"none of the names in {flags.records} is that of a file of the input")
    shards: list[Shard] = []
    for prefix, part in _parts(flags, files, keys):
        if flags.shuffle is not None:
            part.sort(key=lambda file: order_hash(flags.shuffle, keys[file[0]]))
        most = flags.images_per_shard or (None if flags.shard_mb else _FILES_PER_SHARD)
        cuts = cut_images(
            *(listing.root, part, most, labelled.paired.masks, tables.features),
            most_bytes=flags.shard_mb and flags.shard_mb * 10**6,
            prefix=prefix,
        )
        shards += cuts
    plan = Plan(tuple(shards), IMAGES, listing.ignored + left_out)
    identity = dict(labelled.identity)
    if flags.validation_fraction:
        identity["split"] = _split_identity(flags)
    return Found(
        plan,
        masks=len(labelled.paired.masks),
        labels=labelled.source,
        identity=identity,
        notes=labelled.notes,
        annotations=labelled.annotations,
    )


def _parts(
    flags: argparse.Namespace, files: Sequence[tuple[str, int]], keys: Mapping[str, str]
) -> list[tuple[str, list[tuple[str, int]]]]:
    """The files of each part, with the beginning of its names."""
    if not flags.validation_fraction:
        return [("", list(files))]
    validates = validator(flags)
    parts: dict[bool, list[tuple[str, int]]] = {False: [], True: []}
    for file in files:
        parts[validates(keys[file[0]])].append(file)
    return [(f"{TRAIN}/", parts[False]), (f"{VALIDATION}/", parts[True])]


def _key(path: str, tables: Told) -> str:
    """The name of a file's record: what a table says, or its path."""
    name = tables.features.get(path, {}).get(USUAL.key)
    return name if isinstance(name, str) and name else storage.as_text(path)


def validator(flags: argparse.Namespace) -> Callable[[str], bool]:
    """Whether a record of a name validates."""
    group = re.compile(flags.split_by) if flags.split_by else None
    return lambda key: is_validation(key, flags.validation_fraction, group)


def _wanted_keys(flags: argparse.Namespace) -> Any:
    """Names of the records that --records and --where ask for; None for all."""
    if not flags.records:
        return None
    try:
        conditions = parse_conditions(flags.where) if flags.where else None
    except ValueError as error:
        raise UserError(f"--where: {error}") from error
    return keys_where(flags.records, conditions)


def _split_identity(flags: argparse.Namespace) -> list[Any]:
    return [flags.validation_fraction, flags.split_by or ""]


def _check_flags(flags: argparse.Namespace) -> None:
    """Refuses flags that would have no effect. Raises UserError."""
    for problem, found in (
        (
            f"--labels {flags.labels} needs --annotations",
            flags.labels in ("coco", "coco_instances") and not flags.annotations,
        ),
        (
            "--annotations is of --labels coco; give both",
            bool(flags.annotations) and not flags.labels.startswith("coco"),
        ),
        (
            "--image_set is of --labels voc and voc_boxes",
            bool(flags.image_set) and not flags.labels.startswith("voc"),
        ),
        (
            "--classes is of --labels folders and voc_boxes",
            bool(flags.classes) and flags.labels not in ("folders", "voc_boxes"),
        ),
        ("--where is a condition on --records; give both", bool(flags.where) and not flags.records),
        (
            "--split_by keeps records together in --validation_fraction; give both",
            bool(flags.split_by) and not flags.validation_fraction,
        ),
        (
            "--image_format writes pictures anew, without metadata; leave --metadata keep out",
            bool(flags.image_format) and flags.metadata == "keep",
        ),
        (
            "--quality is of --image_format jpeg, webp and avif; give both",
            flags.quality is not None and not flags.image_format,
        ),
    ):
        if found:
            raise UserError(problem)
    try:
        re.compile(flags.split_by or "")
    except re.error as error:
        raise UserError(
            f"--split_by={flags.split_by!r} is no regular expression: {error}"
        ) from error
