"""Pictures of a run for its report: fetched again from the input and from OUT, and made small."""

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from models.loading import import_tensorflow
from pipeline.thumbnails import Cell, Found, failed_thumbnail, picture_and_mask, thumbnail
from transforms import storage
from transforms.commits import mask_paths
from transforms.decode import DecodePolicy
from transforms.examples import FEATURES
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.formats.base import BadRecord
from transforms.inputs import Shard
from transforms.sink import is_written, read_written, records_path
from transforms.sources import Load, read_shard

tf = import_tensorflow()

# A record: name of its shard and its index therein.
Place = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Where the pictures of a run are.

    Attributes:
        out: OUT.
        job: "segment": images are in the input, masks in OUT; "pack" and "augment": both are in
            OUT; "generate": what was made is in OUT, what it was made from in the input, if
            anything; "describe": images are in the input, and nothing else is.
        shards: the plan's, by name.
        names: of the features in the input's tf.Examples.
        policy: how the run decoded.
        colors: "#rrggbb" by class id.
    """

    out: str
    job: str
    shards: Mapping[str, Shard]
    names: FeatureNames
    policy: DecodePolicy
    colors: Mapping[int, str]

    def cells(self, places: Collection[Place]) -> dict[Place, tuple[Cell, ...]]:
        """Image, mask and overlay of records. Each shard is read once, up to the last one wanted.

        Never raises for a picture: a cell that cannot be made says why.
        """
        found: dict[Place, tuple[Cell, ...]] = {}
        for name in sorted({name for name, _ in places}):
            indices = frozenset(index for shard, index in places if shard == name)
            try:
                for index, cells in self._shard_cells(self.shards[name], indices):
                    found[name, index] = cells
            except Exception as error:  # inputs and OUT may have changed in any way since
                why = f"shard {name} cannot be shown: {type(error).__name__}: {error}"
                for index in indices:
                    found.setdefault((name, index), (Cell("image", problem=why),))
        return found

    def failures(self, places: Collection[Place]) -> dict[Place, Cell]:
        """What can be seen of records that failed; of those that have a picture in the input."""
        found: dict[Place, Cell] = {}
        for name in sorted({name for name, _ in places}):
            shard = self.shards.get(name)
            if shard is None or shard.items is not None:
                continue
            indices = frozenset(index for of, index in places if of == name)
            try:
                images = self.images(shard, indices)
            except Exception as error:  # as in `cells`
                images = dict.fromkeys(indices, _unreadable(f"{type(error).__name__}: {error}"))
            found |= {(name, index): failed_thumbnail(image) for index, image in images.items()}
        return found

    def thumbnails(self, places: Collection[Place]) -> dict[Place, Cell]:
        """Each picture of a generate or describe run alone, at its own size or made smaller."""
        found: dict[Place, Cell] = {}
        for name in sorted({name for name, _ in places}):
            indices = frozenset(index for shard, index in places if shard == name)
            fetch = self._made if self.job == "generate" else self.images
            try:
                images = fetch(self.shards[name], indices)
            except Exception as error:  # as in `cells`
                why = f"shard {name} cannot be shown: {type(error).__name__}: {error}"
                images = dict.fromkeys(indices, _unreadable(why))
            found |= {(name, index): thumbnail(image) for index, image in images.items()}
        return found

    def _shard_cells(
        self, shard: Shard, indices: Collection[int]
    ) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        if self.job in ("pack", "augment"):
            packed = self._written(shard, indices, "images")
            for index in indices:
                yield index, self._cells(*_packed_pair(packed[index]))
            return
        if self.job == "generate":
            made = self._made(shard, indices)
            sources = {} if shard.items is not None else self.images(shard, indices)
            for index in indices:
                if self.policy.ids:  # made of masks
                    yield index, self._cells(made[index], sources[index])
                    continue
                source = self._cells(sources[index], None) if index in sources else ()
                yield index, (*source, *self._cells(made[index], None))
            return
        if self.job == "describe":
            for index, image in self.images(shard, indices).items():
                yield index, self._cells(image, None)
            return
        images = self.images(shard, indices)
        masks = self.masks(shard, indices)
        for index in indices:
            yield index, self._cells(images[index], masks[index])

    def images(self, shard: Shard, indices: Collection[int]) -> dict[int, Found]:
        """Encoded pictures of the input. Raises what reading them may raise."""
        try:
            found = read_some(shard, self.names, indices)
        except OSError as error:
            return dict.fromkeys(indices, _unreadable(str(error)))
        gone = _unreadable(f"{shard.root} has no such record any more")
        return {index: found[index][1] if index in found else gone for index in indices}

    def _made(self, shard: Shard, indices: Collection[int]) -> dict[int, Found]:
        """Pictures that the run made, from a tree of files or a shard."""
        if is_written(self.out, "images", shard.name):
            written = self._written(shard, indices, "images")
            return {index: _packed_pair(features)[0] for index, features in written.items()}
        rows = self._rows(shard, ["output_name", "format"]).to_pylist()
        names = {i: f"images/{rows[i]['output_name']}.{rows[i]['format']}" for i in indices}
        return {i: read_file(self.out, name) for i, name in names.items()}

    def masks(self, shard: Shard, indices: Collection[int]) -> dict[int, Found]:
        """Encoded masks of OUT. Raises what reading them may raise."""
        if not shard.is_examples and not is_written(self.out, "masks", shard.name):
            names = {i: shard.files[i].output_name for i in indices}
            paths = mask_paths(self.out, shard.name, names.values())
            return {i: read_file(self.out, paths[name]) for i, name in names.items()}
        feature = f"{FEATURES['masks']}/encoded"
        gone = _unreadable(f"masks/{shard.name} has no mask for it")
        return {
            index: features if isinstance(features, Failure) else features.get(feature, gone)
            for index, features in self._written(shard, indices, "masks").items()
        }

    def _written(
        self, shard: Shard, indices: Collection[int], kind: str
    ) -> dict[int, dict[str, bytes] | Failure]:
        """Bytes features of records in the shard in OUT/<kind>, which has no failed ones."""
        found: dict[int, dict[str, bytes] | Failure] = {}
        try:
            at = self._positions(shard, indices)
            for position, data in enumerate(read_written(self.out, kind, shard.name)):
                if position in at:
                    found[at[position]] = _bytes_features(data)
                if len(found) == len(indices):
                    break
        except OSError as error:
            return dict.fromkeys(indices, _unreadable(str(error)))
        gone = _unreadable(f"{kind}/{shard.name} has no such record")
        return {index: found.get(index, gone) for index in indices}

    def _positions(self, shard: Shard, indices: Collection[int]) -> dict[int, int]:
        """{position among the written records: index among all}. Raises OSError."""
        status = self._rows(shard, ["status"])["status"].to_pylist()
        return {status[:index].count("ok"): index for index in indices}

    def _rows(self, shard: Shard, columns: list[str]) -> pa.Table:
        """Columns of a shard's records file. Raises OSError."""
        data = storage.read_bytes(os.path.join(self.out, records_path(shard.name)))
        return pq.read_table(pa.BufferReader(data), columns=columns)

    def _cells(self, image: Found, mask: Found | None) -> tuple[Cell, ...]:
        return picture_and_mask(image, mask, self.policy, self.colors)


def _packed_pair(features: dict[str, bytes] | Failure) -> tuple[Found, Found | None]:
    if isinstance(features, Failure):
        return features, None
    gone = _unreadable("the example holds no image")
    image = features.get(f"{FEATURES['images']}/encoded", gone)
    return image, features.get(f"{FEATURES['masks']}/encoded")


def _bytes_features(data: bytes | BadRecord) -> dict[str, bytes] | Failure:
    if isinstance(data, BadRecord):
        return Failure("read", "bad_record", data.message)
    features = tf.train.Example.FromString(data).features.feature
    return {name: f.bytes_list.value[0] for name, f in features.items() if f.bytes_list.value}


def read_some(
    shard: Shard, names: FeatureNames, indices: Collection[int]
) -> dict[int, tuple[str, Found]]:
    """Key and bytes of some records of a shard, which is read up to the last. Raises OSError."""
    found: dict[int, tuple[str, Found]] = {}
    for record, load in read_shard(shard, names):
        if record.index in indices:
            found[record.index] = (record.key, loaded(load))
        if len(found) == len(indices):
            break
    return found


def loaded(load: Load | Failure) -> Found:
    """What a load gives, or why it fails."""
    try:
        return load if isinstance(load, Failure) else load()
    except Failure as failure:
        return failure


def read_file(out: str, path: str) -> Found:
    """The bytes of a file, or why there are none."""
    try:
        return storage.read_bytes(os.path.join(out, path))
    except OSError as error:
        return _unreadable(f"{path}: {error.strerror}")


def _unreadable(message: str) -> Failure:
    return Failure("read", "unreadable", message)
