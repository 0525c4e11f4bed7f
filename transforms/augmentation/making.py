"""Pictures by a generator for classes that a shard lacks, as examples like its copies."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from models.loading import import_tensorflow
from transforms.augmentation.provenance import PREFIX
from transforms.clock import Clock
from transforms.failures import Failure
from transforms.generate import GenerateOperator
from transforms.guard import Marks
from transforms.inputs import Items, Shard
from transforms.records import Extras, Record, Result

tf = import_tensorflow()

_ROOM_BITS = 22  # items of one shard
_BITS = 62

Generated = tuple[Record, Result | Failure, Marks | None]


class Maker:
    """A generator with what looks at its pictures."""

    def __init__(self, settings: GenerateOperator) -> None:
        """Loads the models. Raises ModelError."""
        self._settings = settings
        self._work = settings.open()

    def items(self, shard_name: str, wanted: Mapping[int, int]) -> Items:
        """As many items of each label as are wanted; none of labels that the generator lacks."""
        known = {c: n for c, n in sorted(wanted.items()) if c < self._settings.binding.labels}
        return Items(first_item(shard_name), tuple(known.items()))

    def __call__(
        self, shard_name: str, items: Items, recipe: str, clock: Clock
    ) -> Iterator[Generated]:
        """The pictures of some items, or failures in their place, with their fingerprints.

        Args:
            recipe: fingerprint, for the provenance.
        """
        if not items.count:
            return
        for each in self._work(Shard(shard_name, "", 0, items=items), clock):
            if isinstance(each, Extras):
                continue  # features for a scorecard, which augmentations have none of
            record, result = each
            key = f"generated/{record.key}"
            features = self._told(record, key, shard_name, recipe)
            named = dataclasses.replace(record, key=key, features=features)
            if isinstance(result, Failure):
                yield named, result, None
                continue
            assert result.picture is not None, "generated results have their picture"
            sums = {
                "generated": 1,
                "labels": {str(result.row["label"]): 1},
                "brightness": result.sums["brightness"],
            }
            yield named, dataclasses.replace(result, sums=sums), result.picture.marks

    def _told(self, record: Record, key: str, shard_name: str, recipe: str) -> bytes:
        example = tf.train.Example.FromString(record.features)
        features = example.features.feature
        models: dict[str, Any] = {"generate": self._settings.fingerprint}
        if self._settings.checks.verifier is not None:
            models["verifier"] = self._settings.checks.verifier.fingerprint
        for name, value in (
            ("image/filename", key),
            (f"{PREFIX}shard", shard_name),
            (f"{PREFIX}recipe", recipe),
            (f"{PREFIX}models", json.dumps(models, sort_keys=True)),
            (f"{PREFIX}operations", "[]"),
        ):
            features[name].bytes_list.value.append(value.encode("utf-8", "replace"))
        return bytes(example.SerializeToString(deterministic=True))


def first_item(shard_name: str) -> int:
    """The number of a shard's first item: a hash, so that it depends on no other shard."""
    digest = hashlib.blake2b(shard_name.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - _BITS + _ROOM_BITS) << _ROOM_BITS
