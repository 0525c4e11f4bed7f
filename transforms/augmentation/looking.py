"""Reading scenes from a shard, and looking at each before copies are made of any."""

import dataclasses
import functools
import hashlib
import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.loading import import_tensorflow
from transforms.augmentation.draws import Draws
from transforms.augmentation.filters import LeftOut
from transforms.augmentation.provenance import generators_in, names_in
from transforms.augmentation.pseudo import PseudoMask
from transforms.augmentation.recipe import Features
from transforms.augmentation.scene import Scene
from transforms.decode import DecodePolicy, decode
from transforms.failures import Failure
from transforms.guard import Known, Marks
from transforms.masks import decode_mask
from transforms.records import Record

tf = import_tensorflow()

_LARGEST_ID = 65535
_POOL = 64  # pictures of a shard that others may take from
_DECODED = 8  # of them, that are kept decoded
_TEXT = "image/class/text"


@dataclasses.dataclass(frozen=True)
class Reading:
    """How scenes are read.

    Attributes:
        features: names of the features that matter.
        policy: how pictures are decoded.
        ignore_id: of pixels that count for nothing; masks hold it, if need be with 16 bits.
    """

    features: Features
    policy: DecodePolicy
    ignore_id: int


def read_scene(
    record: Record, image: bytes, reading: Reading, pseudo: PseudoMask | None = None
) -> Scene:
    """The picture of a record with its mask, its label, or both.

    Args:
        image: encoded.
        pseudo: the mask of a record that has none itself.

    Raises:
        Failure: the picture, its mask or its label is not sound, or both are missing.
    """
    pixels = decode(image, reading.policy).pixels
    found = tf.train.Example.FromString(record.features).features.feature
    masks = _values(found, reading.features.mask, "bytes_list")
    labels = _values(found, reading.features.label, "int64_list")
    mask = None
    if pseudo is not None or masks:
        encoded = pseudo.png if pseudo is not None else masks[0]
        mask = decode_mask(encoded, pixels.shape[:2], record.key)
        if reading.ignore_id > 255:
            mask = mask.astype(np.uint16)
    elif not labels:
        raise Failure(
            "read",
            "label_missing",
            f"there is neither a mask in feature {reading.features.mask!r} nor a label in "
            f"{reading.features.label!r}; the example has {', '.join(sorted(found)) or 'neither'}; "
            "name the right one by features.mask or features.label, or give pseudo_label",
        )
    if labels and not 0 <= labels[0] <= _LARGEST_ID:
        raise Failure(
            "read",
            "label_range",
            f"feature {reading.features.label!r} is {labels[0]}, expected 0 to {_LARGEST_ID}",
        )
    shares = tuple((int(label), 1.0) for label in labels[:1])
    names = _values(found, _TEXT, "bytes_list")
    texts = {int(labels[0]): names[0].decode("utf-8", "replace")} if labels and names else {}
    return Scene(
        pixels,
        mask,
        shares,
        texts,
        ancestors=tuple(names_in(found)),
        generators=tuple(generators_in(found)),
        key=record.key,
        index=record.index,
    )


def has_mask(record: Record, features: Features) -> bool:
    """Whether a record brings a mask of its own."""
    found = tf.train.Example.FromString(record.features).features.feature
    return bool(_values(found, features.mask, "bytes_list"))


def _values(found: Any, name: str, kind: str) -> Sequence[Any]:
    return list(getattr(found[name], kind).value) if name in found else []


def counts_of(scene: Scene, ignore_id: int) -> dict[int, int]:
    """Pixels of each class in the mask, ignored ones left out; {label: 1} of one without a mask."""
    if scene.mask is None:
        return {label: 1 for label, _ in scene.labels[:1]}
    pixels = np.bincount(scene.mask.ravel())
    return {int(c): int(pixels[c]) for c in np.flatnonzero(pixels) if c != ignore_id}


@dataclasses.dataclass(frozen=True)
class Looked:
    """What is known of a record after the first look.

    Attributes:
        record: who it is.
        image: encoded; b"" when it cannot be used.
        counts: as of counts_of.
        marks: its fingerprints.
        problem: why it cannot be used; None if it can.
    """

    record: Record
    image: bytes = b""
    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    marks: Marks = Marks(0, 0)
    problem: Failure | LeftOut | None = None


def not_twice(each: Looked, seen: Known, kind: str) -> Looked:
    """The same, left out if an earlier picture of the shard equals it."""
    twin = seen.twin(each.marks)
    if twin is None or (kind == "exact" and not twin.exact):
        return each
    bits = "its pixels are" if twin.exact else f"but for {twin.bits} of 64 bits it looks"
    why = LeftOut("duplicate", f"{bits} those of {twin.name}")
    return dataclasses.replace(each, problem=why)


class Pool:
    """Pictures of a shard that others take parts from: those with the smallest hashes of their
    names, some for all and some for each set of classes, so that memory is bounded."""

    def __init__(
        self, read: Callable[[Record, bytes], Scene], wanted: Sequence[tuple[int, ...]]
    ) -> None:
        """
        Args:
            read: gives the scene of a record and its encoded picture.
            wanted: sets of classes that `choose` will be asked for; () for any picture.
        """
        self._heaps: dict[tuple[int, ...], list[tuple[int, int, Record, bytes]]] = {
            classes: [] for classes in wanted
        }
        self._chosen: dict[tuple[int, ...], list[int]] = {}
        self._read = functools.lru_cache(_DECODED)(lambda index: read(*self._by_index[index]))
        self._by_index: dict[int, tuple[Record, bytes]] = {}

    def offer(self, looked: Looked) -> None:
        """Takes a picture that can be used."""
        digest = hashlib.blake2b(looked.record.key.encode("utf-8", "replace"), digest_size=8)
        rank = -int.from_bytes(digest.digest(), "big")
        entry = (rank, looked.record.index, looked.record, looked.image)
        for classes, heap in self._heaps.items():
            if not classes or not looked.counts.keys().isdisjoint(classes):
                push = heapq.heappush if len(heap) < _POOL else heapq.heappushpop
                push(heap, entry)

    def close(self) -> None:
        """After the last offer."""
        for classes, heap in self._heaps.items():
            entries = sorted(heap, key=lambda entry: (-entry[0], entry[1]))
            self._chosen[classes] = [index for _, index, _, _ in entries]
            self._by_index |= {index: (record, data) for _, index, record, data in entries}

    def choose(self, draws: Draws, index: int, classes: Sequence[int] = ()) -> Scene | None:
        """See Partners."""
        others = [each for each in self._chosen.get(tuple(classes), ()) if each != index]
        if not others:
            return None
        return self._read(others[draws.whole(0, len(others) - 1)])
