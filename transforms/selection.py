"""Choosing records of shards by their names: those of a table, or one part of a split."""

import dataclasses
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from transforms import storage
from transforms.failures import Failure
from transforms.records import Item
from transforms.sources import Load
from transforms.splits import is_validation

KEYS = "selected.npy"  # in OUT
TRAIN, VALIDATION = "train", "validation"
# Without a name of its own, such a record may be any of those that were asked for.
_NAMELESS = ("rest_lost", "bad_record", "bad_example")

Wanted = Callable[[str, str], bool]  # of a record's key and its shard's name


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which records are taken.

    Attributes:
        keys: path of the hashes of their names (see hashes_of); "" for all.
        fraction: of the records that validate; shards are then named train/... and validation/...
        split_by: see is_validation; "" for none.
    """

    keys: str = ""
    fraction: float = 0.0
    split_by: str = ""

    def open(self) -> Wanted:
        """Raises OSError."""
        keys = np.load(io.BytesIO(storage.read_bytes(self.keys))) if self.keys else None
        group = re.compile(self.split_by) if self.split_by else None

        def wanted(key: str, shard_name: str) -> bool:
            if keys is not None and not holds(keys, key):
                return False
            if not self.fraction:
                return True
            validates = is_validation(key, self.fraction, group)
            return validates == (shard_name.partition("/")[0] == VALIDATION)

        return wanted


def select(items: Iterable[Item[Load]], wanted: Wanted, shard_name: str) -> Iterator[Item[Load]]:
    """The wanted records, numbered anew. What has lost its name stays."""
    index = 0
    for record, load in items:
        nameless = isinstance(load, Failure) and load.reason in _NAMELESS
        if nameless or wanted(record.key, shard_name):
            yield dataclasses.replace(record, index=index), load
            index += 1


def hashes_of(keys: Iterable[str]) -> npt.NDArray[np.uint64]:
    """uint64 [n], sorted: eight bytes a name, so that a worker can hold those of millions.

    Two of ten million names have one hash with a probability of three in a million.
    """
    return np.unique(np.fromiter((_hash(key) for key in keys), np.uint64))


def holds(hashes: npt.NDArray[np.uint64], key: str) -> bool:
    """Whether the hash of a name is among them."""
    found = _hash(key)
    at = int(np.searchsorted(hashes, np.uint64(found)))
    return at < len(hashes) and int(hashes[at]) == found


def write_keys(out: str, keys: npt.NDArray[np.uint64]) -> None:
    """Puts hashes where workers read them. Raises OSError."""
    buffer = io.BytesIO()
    np.save(buffer, keys)
    storage.write(out, KEYS, buffer.getvalue())


def keys_path(out: str) -> str:
    """Where they are."""
    return os.path.join(out, KEYS)


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
