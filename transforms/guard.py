"""The guard of diversity: pictures that are there already, in the shard or in training."""

import dataclasses
import io
import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms import storage
from transforms.hashes import Hashes, HashIndex, digest, perceptual_hash

REFERENCE = "reference"  # below OUT: the run that looked at the reference
INDEX = "index.npz"
NEAR_BITS = 3


class Marks(NamedTuple):
    """The fingerprints of a picture."""

    digest: int
    phash: int

    @staticmethod
    def of(pixels: npt.NDArray[np.uint8]) -> "Marks":
        return Marks(digest(pixels), perceptual_hash(pixels))

    def row(self) -> dict[str, str]:
        """As columns of the records file."""
        return {"digest": f"{self.digest:016x}", "phash": f"{self.phash:016x}"}


class Twin(NamedTuple):
    """A picture that another one is equal, or nearly equal, to.

    Attributes:
        name: of it.
        bits: in which their perceptual hashes differ.
        exact: their pixels are equal.
    """

    name: str
    bits: int
    exact: bool

    @property
    def kind(self) -> str:
        return "exact" if self.exact else "near"


class Known:
    """Pictures that one may be a twin of."""

    def __init__(self, near_bits: int, reference: "Reference | None" = None) -> None:
        self._reference = reference
        hashes = None if reference is None else reference.phashes
        self._index = HashIndex(near_bits, hashes)
        self._digests: dict[int, int] = {}
        if reference is not None:
            for place, value in enumerate(reference.digests.tolist()):
                self._digests.setdefault(value, place)
        self._names: list[str] = []

    def add(self, name: str, marks: Marks) -> None:
        self._digests.setdefault(marks.digest, len(self._index))
        self._index.add(marks.phash)
        self._names.append(name)

    def twin(self, marks: Marks) -> Twin | None:
        """An equal picture if there is one, else the nearest within near_bits."""
        if (place := self._digests.get(marks.digest)) is not None:
            return Twin(self._name(place), 0, True)
        if (found := self._index.nearest(marks.phash)) is not None:
            return Twin(self._name(found[1]), found[0], False)
        return None

    def _name(self, place: int) -> str:
        known = 0 if self._reference is None else len(self._reference.digests)
        if self._reference is not None and place < known:
            return self._reference.name(place)
        return self._names[place - known]


@dataclasses.dataclass(frozen=True)
class Reference:
    """Fingerprints of all training images.

    Attributes:
        digests, phashes: uint64 [N], in the order of shards and records.
        places: int32 [N, 2], number of the shard and index of the record.
        shards: names by number.
    """

    digests: Hashes
    phashes: Hashes
    places: npt.NDArray[np.int32]
    shards: tuple[str, ...]

    def name(self, place: int) -> str:
        """Where a picture is: "shard#index"."""
        shard, index = self.places[place]
        return f"{self.shards[shard]}#{index}"

    def to_bytes(self) -> bytes:
        """An .npz file, the same bytes for the same reference."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            "digests": self.digests,
            "phashes": self.phashes,
            "places": self.places,
            "shards": np.array(self.shards),
        }
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @staticmethod
    def load(root: str) -> "Reference":
        """Reads the one below OUT. Raises OSError."""
        data = storage.read_bytes(os.path.join(root, REFERENCE, INDEX))
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            shards = tuple(map(str, arrays["shards"].tolist()))
            return Reference(arrays["digests"], arrays["phashes"], arrays["places"], shards)
