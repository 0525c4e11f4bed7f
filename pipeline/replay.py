"""`pixelmill replay`: one example of a run, made again by its provenance and compared."""

import dataclasses
import difflib
import io
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from models.errors import UserError
from models.loading import import_tensorflow
from pipeline import run_files
from pipeline.augment_run import JOB, make_operator
from transforms import storage
from transforms.augment import AugmentOperator
from transforms.augmentation.apply import repeat_copy
from transforms.augmentation.copies import encode_outputs
from transforms.augmentation.drawing import Operation
from transforms.augmentation.looking import read_scene
from transforms.augmentation.making import Maker
from transforms.augmentation.provenance import PREFIX, operations_json, read_operations
from transforms.augmentation.pseudo import PseudoMask
from transforms.augmentation.recipe import parse_recipe
from transforms.augmentation.scene import Scene
from transforms.augmentation.translating import TRANSLATE, SceneTranslator
from transforms.clock import Clock
from transforms.examples import FEATURES
from transforms.failures import Failure
from transforms.formats.base import BadRecord
from transforms.formats.registry import read_shard_file
from transforms.inputs import Items, Shard
from transforms.records import Encoded
from transforms.shard_names import format_of
from transforms.sink import picture_path, records_path
from transforms.sources import read_shard

tf = import_tensorflow()

ITEM = "image/generated/item"
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Replayed:
    """One example, stored and made again.

    Attributes:
        key: its name.
        shard: that holds it.
        source: key of the picture, or number of the item, that it was made of.
        operations: what was done, as JSON.
        differs: features whose bytes are not the same.
    """

    key: str
    shard: str
    source: str
    operations: str
    differs: tuple[str, ...]

    def __str__(self) -> str:
        verdict = (
            "made again, the same to the last byte"
            if not self.differs
            else f"made again, with other bytes in {', '.join(self.differs)}: the source, a model "
            "or a library has changed since"
        )
        return (
            f"{self.key} of shard {self.shard}\n  source      {self.source}\n"
            f"  operations  {self.operations}\n  {verdict}"
        )


def replay(out: str, key: str, shard_name: str = "") -> Replayed:
    """Makes one example again from its source and its stored operations.

    Args:
        out: folder of a run of `augment`.
        key: of the example, "a.jpg#0".
        shard_name: which shard, where several have the key.

    Raises:
        UserError: there is no such run or example, or its source cannot be read any more.
    """
    run = run_files.read_run(out)
    if run is None or run.job != JOB:
        raise UserError(f"{out} is no folder of a run of `pixelmill augment`")
    shards = {shard.name: shard for shard in run_files.read_plan(out).shards}
    shard = shards[_find(out, key, shards, shard_name)]
    operator = make_operator(
        parse_recipe(dict(run.notes["recipe"])), out, run.identity["decode"]["max_pixels"]
    )
    stored = _stored(out, operator, shard, key)
    operations = read_operations(stored)
    if ITEM in stored:
        source, outputs = _generated(operator, shard, stored)
    else:
        source, outputs = _copied(operator, shard, stored, operations)
    names = {f"{FEATURES[kind]}/encoded": picture.data for kind, picture in outputs.items()}
    differs = [n for n, data in names.items() if list(stored[n].bytes_list.value) != [data]]
    return Replayed(key, shard.name, source, operations_json(operations), tuple(differs))


def _copied(
    operator: AugmentOperator, shard: Shard, stored: Any, operations: list[Operation]
) -> tuple[str, Mapping[str, Encoded]]:
    """The key of a copy's source, and the copy made again."""
    index = int(stored[f"{PREFIX}index"].int64_list.value[0])
    source = stored[f"{PREFIX}source"].bytes_list.value[0].decode("utf-8", "replace")
    partners = {each["partner"]["index"] for each in operations if "partner" in each}
    recipe = operator.recipe
    try:
        scenes = _scenes(operator, shard, {index, *partners})
        scene, changes = scenes[index], operations
        if operations and operations[0]["step"] == TRANSLATE:
            assert operator.translator is not None, "the recipe of such a run names the model"
            scene, changes = SceneTranslator(operator.translator)(scene), operations[1:]
        made = repeat_copy(scene, changes, recipe.ignore_id, scenes.__getitem__)
    except (Failure, OSError, KeyError) as error:
        why = error.message if isinstance(error, Failure) else str(error)
        raise UserError(f"the source {source} in {shard.root} cannot be read: {why}") from error
    return source, encode_outputs(made, operations, recipe)


def _generated(
    operator: AugmentOperator, shard: Shard, stored: Any
) -> tuple[str, Mapping[str, Encoded]]:
    """What a generated picture was made of, and the picture made again."""
    item = int(stored[ITEM].int64_list.value[0])
    label = int(stored["image/generated/label_asked"].int64_list.value[0])
    assert operator.generator is not None, "the recipe of a run with generated pictures has one"
    items = Items(item, ((label, 1),))
    ((_, result, _),) = Maker(operator.generator)(shard.name, items, "", Clock())
    if isinstance(result, Failure):
        raise UserError(f"item {item} was not made again: {result.message}")
    return f"item {item} of label {label}, seed {operator.recipe.seed}", result.outputs


def _find(out: str, key: str, shards: Collection[str], wanted: str) -> str:
    """The name of the shard that has a key."""
    if wanted and wanted not in shards:
        raise UserError(f"{out} has no shard {wanted}; it has {', '.join(sorted(shards)[:_SHOWN])}")
    found, keys = [], []
    for name in [wanted] if wanted else sorted(shards):
        path = os.path.join(out, records_path(name))
        try:
            data = storage.read_bytes(path)
            rows = pq.read_table(io.BytesIO(data), columns=["key", "status"]).to_pylist()
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise UserError(f"{path} cannot be read: {error}; `pixelmill verify {out}`") from error
        here = [row["key"] for row in rows if row["status"] == "ok"]
        if key in here:
            found.append(name)
        keys += here
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{key} is in several shards, {', '.join(found)}; name one by --shard")
    close = difflib.get_close_matches(key, keys, 1) or keys[:1]
    meant = f"; there is {close[0]}" if close else ""
    raise UserError(f"{out} has no example {key}{meant}. records/ lists all keys")


def _stored(out: str, operator: AugmentOperator, shard: Shard, key: str) -> Any:
    """The features of an example in OUT."""
    path = os.path.join(out, picture_path(operator.sink, shard.name))
    for features in _examples(path):
        if features["image/filename"].bytes_list.value[0].decode("utf-8", "replace") == key:
            return features
    raise UserError(f"{path} has no example {key}, but its table has; `pixelmill verify {out}`")


def _examples(path: str) -> Iterator[Any]:
    for data in read_shard_file(path, format_of(path) or ""):
        if not isinstance(data, BadRecord):
            yield tf.train.Example.FromString(data).features.feature


def _scenes(operator: AugmentOperator, shard: Shard, indices: set[int]) -> dict[int, Scene]:
    """Scenes of a source's records. Raises Failure, OSError."""
    labeller, clock = operator.labeller(), Clock()
    masks = {}
    if labeller is not None:
        bare = operator.unlabelled(shard)
        masks = labeller(shard, frozenset(indices) & bare, clock)
    scenes = {}
    for record, load in read_shard(shard, operator.names):
        if record.index in indices:
            if isinstance(load, Failure):
                raise load
            found = masks.get(record.index)
            pseudo = found if isinstance(found, PseudoMask) else None
            scenes[record.index] = read_scene(record, load(), operator.reading, pseudo)
    return scenes
