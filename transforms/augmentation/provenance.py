"""Provenance: where a copy came from and what was done to it, as features of its tf.Example."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.loading import import_tensorflow
from transforms.augmentation.drawing import Operation
from transforms.augmentation.scene import Scene

tf = import_tensorflow()

PREFIX = "image/augmented/"
GENERATOR = "image/generated/model"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a copy came from.

    Attributes:
        source: key of the picture that it was made of.
        shard: that holds it.
        index: of it in the shard.
        copy: number of the copy, from 0.
        seed: of the recipe.
        recipe: fingerprint of the recipe.
        operations: what was done, in order.
        models: fingerprints by what they were for.
        pseudo_confidence: mean confidence of a mask that a segmenter made; None of others.
    """

    source: str
    shard: str
    index: int
    copy: int
    seed: int
    recipe: str
    operations: Sequence[Operation]
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pseudo_confidence: float | None = None

    @property
    def key(self) -> str:
        """The copy's name."""
        return f"{self.source}#{self.copy}"


def operations_json(operations: Sequence[Operation]) -> str:
    """One line, the same for the same operations."""
    return json.dumps(operations, separators=(",", ":"))


def partners_of(operations: Sequence[Operation]) -> list[str]:
    """Keys of the other pictures that operations took from."""
    return sorted({each["partner"]["key"] for each in operations if "partner" in each})


def features_of(found: Provenance, scene: Scene) -> bytes:
    """A serialized tf.Example with all that is known of a copy but its pixels."""
    example = tf.train.Example()
    features = example.features.feature
    height, width = scene.pixels.shape[:2]
    texts: dict[str, Sequence[str]] = {
        "image/filename": [found.key],
        f"{PREFIX}source": [found.source],
        f"{PREFIX}shard": [found.shard],
        f"{PREFIX}recipe": [found.recipe],
        f"{PREFIX}operations": [operations_json(found.operations)],
        f"{PREFIX}partners": partners_of(found.operations),
        f"{PREFIX}ancestors": scene.ancestors,
        f"{PREFIX}generators": scene.generators,
        f"{PREFIX}models": [json.dumps(dict(found.models), sort_keys=True)],
    }
    numbers: dict[str, Sequence[int]] = {
        "image/height": [height],
        "image/width": [width],
        f"{PREFIX}index": [found.index],
        f"{PREFIX}copy": [found.copy],
        f"{PREFIX}seed": [found.seed],
    }
    if scene.labels:
        main = scene.labels[0][0]
        numbers["image/class/label"] = [main]
        if main in scene.texts:
            texts["image/class/text"] = [scene.texts[main]]
        numbers[f"{PREFIX}labels"] = [label for label, _ in scene.labels]
        shares = features[f"{PREFIX}label_shares"].float_list.value
        shares.extend(share for _, share in scene.labels)
    if found.pseudo_confidence is not None:
        features[f"{PREFIX}pseudo_confidence"].float_list.value.append(found.pseudo_confidence)
    for name, words in texts.items():
        features[name].bytes_list.value.extend(w.encode("utf-8", "replace") for w in words)
    for name, values in numbers.items():
        features[name].int64_list.value.extend(values)
    return bytes(example.SerializeToString(deterministic=True))


def names_in(features: Any) -> list[str]:
    """Keys of the pictures that one was made of, by its features; [] if they do not say."""
    names: set[str] = set()
    for name in ("source", "partners", "ancestors"):
        if (full := f"{PREFIX}{name}") in features:
            names.update(v.decode("utf-8", "replace") for v in features[full].bytes_list.value)
    return sorted(names)


def generators_in(features: Any) -> list[str]:
    """Fingerprints of generators that made the picture, or pictures that it was made of."""
    names = (GENERATOR, f"{PREFIX}generators")
    found = {v.decode() for n in names if n in features for v in features[n].bytes_list.value}
    return sorted(found)


def read_operations(features: Any) -> list[Operation]:
    """The operations of a copy from its tf.Example's features."""
    found: list[Operation] = json.loads(features[f"{PREFIX}operations"].bytes_list.value[0])
    return found
