"""Finding the partner of a record in another set: a label's prediction, or a picture's label.

Two records belong together when their names are equal: the key (relative path of a file, or what
the key feature of a tf.Example says) without the extension of a picture, and without a suffix
("city_1_gtFine_labelIds.png" and "city_1_leftImg8bit.png" by _gtFine_labelIds and _leftImg8bit).
With a suffix, only what ends with it belongs to the set.

    the other set is           found by
    files                      a table of their names, in every process
    shards of equal names      the shard of that name: what segment makes of shards
    other shards               an index, name to shard, made once; of each shard that has a wanted
                               record, the wanted ones are kept

No shard is shuffled, and a process holds the encoded masks of one shard. Other shards are read
again for each shard that has some of their records: cheap when both sets are in about the same
order, as many times the reading as there are shards when they are not.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from models.loading import import_tensorflow
from transforms import storage
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.inputs import Plan, Shard
from transforms.listing import IMAGE_EXTENSIONS, InputError
from transforms.records import Record
from transforms.sources import FileLoad, Load, Loaded, file_items, read_shard, told_of

tf = import_tensorflow()

CONFIDENCE_FEATURE = "image/segmentation/confidence/encoded"
_THREADS = 8


class Found(NamedTuple):
    """A mask, and the confidence beside it if there is one."""

    mask: Load | Failure
    confidence: Load | None = None


@dataclasses.dataclass(frozen=True)
class MaskSet:
    """A set of masks.

    Attributes:
        plan: path of the file that lists its shards.
        names: features of the mask and of the key, in tf.Examples.
        suffix: that names of its masks have.
        by_shard: partners are in the shard of the same name.
        index: path of the index (see write_index), for shards of other names.
        confidence_root: folder of confidence maps, as masks are in theirs; "" for none.
    """

    plan: str
    names: FeatureNames
    suffix: str = ""
    by_shard: bool = False
    index: str = ""
    confidence_root: str = ""


def pair_name(key: str, suffix: str = "") -> str | None:
    """What partners have in common; None for a name without the suffix."""
    stem, extension = os.path.splitext(key)
    name = stem if extension.lower() in IMAGE_EXTENSIONS else key
    if not suffix:
        return name
    return name[: -len(suffix)] if name.endswith(suffix) else None


class Partners:
    """Finds partners in a set of masks. Opened once per process; threads may share it."""

    def __init__(self, settings: MaskSet) -> None:
        """Raises OSError: the plan or the index cannot be read."""
        self._settings = settings
        plan = Plan.from_lines(storage.read_bytes(settings.plan).decode())
        self._shards = {shard.name: shard for shard in plan.shards}
        self._files: dict[str, Found] | None = None
        self._index: dict[str, str] = {}
        if plan.kind == "images":
            self._files = {
                name: mask
                for shard in plan.shards
                for record, load in file_items(shard)
                if (name := pair_name(record.key, settings.suffix)) is not None
                for mask in [self._with_confidence(shard, record, load)]
            }
        elif settings.index:
            self._index = read_index(settings.index)

    def _with_confidence(self, shard: Shard, record: Record, load: Load) -> Found:
        """A mask that is a file, with its confidence: of a table, or of the other folder."""
        _, files = told_of(shard.files[record.index])
        if CONFIDENCE_FEATURE in files:
            return Found(load, FileLoad(os.path.join(shard.root, files[CONFIDENCE_FEATURE])))
        return with_confidence(record, load, self._settings.confidence_root)

    def of(self, shard: Shard, wanted: Set[str]) -> Mapping[str, Found]:
        """Partners by name, of a shard whose records have the wanted names.

        Raises:
            OSError: a shard cannot be read.
        """
        if self._files is not None:
            return self._files
        if self._settings.by_shard:
            other = self._shards.get(shard.name)
            return {} if other is None else dict(self._read(other))
        found: dict[str, Found] = {}
        for name in sorted({self._index[name] for name in wanted if name in self._index}):
            found.update((n, mask) for n, mask in self._read(self._shards[name]) if n in wanted)
        return found

    def _read(self, shard: Shard) -> Iterator[tuple[str, Found]]:
        for record, load in read_shard(shard, self._settings.names):
            name = pair_name(record.key, self._settings.suffix)
            if name is not None:
                yield name, with_confidence(record, load, "")


def with_confidence(record: Record, load: Load | Failure, confidence_root: str) -> Found:
    """A mask that was read, with its confidence: in the same tf.Example, or the folder's file."""
    if record.features:
        features = tf.train.Example.FromString(record.features).features.feature
        if CONFIDENCE_FEATURE in features:
            values = features[CONFIDENCE_FEATURE].bytes_list.value
            return Found(load, Loaded(bytes(values[0])) if len(values) == 1 else None)
    elif confidence_root:
        return Found(load, FileLoad(os.path.join(confidence_root, record.source)))
    return Found(load)


def wanted_names(shard: Shard, names: FeatureNames, suffix: str) -> set[str]:
    """The names that partners of a shard's records have. Raises OSError."""
    records = file_items(shard) if shard.files else read_shard(shard, names)
    found = (pair_name(record.key, suffix) for record, _ in records)
    return {name for name in found if name is not None}


def _names_of(shards: Iterable[Shard], names: FeatureNames, suffix: str) -> Iterator[list[str]]:
    """Names of the records of each shard, read in parallel. Raises OSError."""

    def read(shard: Shard) -> list[str]:
        found = (
            pair_name(r.key, suffix) for r, load in read_shard(shard, names) if _is_there(load)
        )
        return [name for name in found if name is not None]

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(read, shards)


def _is_there(load: Load | Failure) -> bool:
    return not isinstance(load, Failure) or load.reason == "no_image"


def write_index(root: str, path: str, plan: Plan, names: FeatureNames, suffix: str) -> None:
    """Reads all shards of a set once, and writes which names are in which: a JSON line a shard.

    Raises:
        OSError: a shard cannot be read, or the index not be written.
        InputError: two records have one name.
    """
    owner: dict[str, str] = {}
    lines = []
    for shard, found in zip(plan.shards, _names_of(plan.shards, names, suffix), strict=True):
        for name in found:
            if name in owner:
                raise InputError(
                    f"{name} is in {owner[name]} and in {shard.name}; names must tell records "
                    "apart, or shards of both sets have the same names (--pair_by=shard)"
                )
            owner[name] = shard.name
        lines.append(json.dumps([shard.name, found]))
    storage.write(root, os.path.relpath(path, root), ("\n".join(lines) + "\n").encode())


def read_index(path: str) -> dict[str, str]:
    """Shard by name of a record. Raises OSError."""
    index: dict[str, str] = {}
    for line in storage.read_bytes(path).decode().splitlines():
        shard, names = json.loads(line)
        for name in names:
            index[name] = shard
    return index
