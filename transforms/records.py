"""What flows through a shard: records in, results out, and failures among both, in one order."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from transforms.failures import Failure

if TYPE_CHECKING:
    from models.answers import Segmentation
    from transforms.checking import Candidate

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Record:
    """Who a record is, without its pixels: these stay with a result to the end.

    Attributes:
        index: position within its shard, from 0, without gaps.
        key: name of the record, unique within its shard.
        source: where it was read from: a path, with "#index" for a record of a shard file.
        bytes_in: size of the encoded image in bytes.
        features: all other features of the tf.Example, serialized and untouched; b"" if none.
        twice: whether an earlier record of the shard has the same name; the key then differs.
        output_name: relative path without extension under which a tree of files keeps it.
    """

    index: int
    key: str
    source: str
    bytes_in: int = 0
    features: bytes = b""
    output_name: str = ""
    twice: bool = False


# One step of a shard: the record, and what has become of it so far or why it failed.
Item = tuple[Record, T | Failure]
Stream = Iterator[tuple[Record, T | Failure]]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An encoded picture: its bytes and the format in lower case, "png", "jpeg" or "tif"."""

    data: bytes
    format: str


@dataclasses.dataclass(frozen=True)
class Result:
    """What an operator made of one record.

    Attributes:
        outputs: encoded pictures by kind: "images", "masks", "confidence".
        row: values of the operator's columns in the records file.
        sums: what the record adds to the metrics of its shard (see transforms/sums.py).
        rank: how sure the result is, 0 to 1, for choosing pictures to show; None when unknown.
        picture: what was made, and all that is known of it, for those who go on from it.
    """

    outputs: Mapping[str, Encoded]
    row: Mapping[str, Any]
    sums: Mapping[str, Any]
    rank: float | None = None
    picture: "Candidate | None" = None


@dataclasses.dataclass(frozen=True)
class Answered(Result):
    """A result that keeps the model's answer, for those who go on from it."""

    answer: "Segmentation | None" = None


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a shard has besides its records; a work may end with it.

    Attributes:
        files: content by path relative to OUT.
        sums: that no single result stands for.
    """

    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    sums: Mapping[str, Any] = dataclasses.field(default_factory=dict)


WorkStream = Iterator[tuple[Record, Result | Failure] | Extras]
