"""Putting records into other shards: re-sharding and shuffling, in two passes.

    first    every shard of the input is packed into a TFRecord shard in OUT/staged, and committed;
             its records file tells the size of every example, and thereby where it lies
    picks    from those tables alone, the order and the cuts are made, here: 130 bytes a record. A
             shard of the result gets a file that names its records, failed ones too
    second   every shard of the result reads its records where they lie, and is committed on its own

So no picture crosses a shuffle, memory is bounded, a pass that was stopped goes on, and every shard
of the result has read = written + failed. The order depends on the seed and the names alone: two
records of one name stay in the order of the input.
"""

import dataclasses
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.clock import Clock
from transforms.cuts import bounds
from transforms.failures import Failure
from transforms.feature_names import USUAL
from transforms.formats import tfrecord
from transforms.inputs import Shard
from transforms.pack import COLUMNS, pack_sums, read_features, split_example
from transforms.records import Encoded, Item, Record, Result, Stream
from transforms.selection import TRAIN, VALIDATION
from transforms.shard_names import ShardName
from transforms.shard_work import Work
from transforms.sink import Sink, picture_path, records_path
from transforms.sources import UniqueKeys
from transforms.spill import Spill
from transforms.streams import Ahead, ordered_map

STAGED = "staged"  # below OUT: the run of the first pass
PICKS = "picks"  # the format of a shard that is a list of records of others
_PICKS = "picks"  # below OUT/staged
_FRAMING_BYTES = 16  # of a TFRecord record
_ROW = ("key", "source", "status", "stage", "reason", "message", "bytes_in")
_THREADS = 16  # that read: a record of an object is a request
_AHEAD_ITEMS, _AHEAD_BYTES = 64, 64 << 20


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How records are put into shards.

    Attributes:
        most: records of a shard, None for any number.
        most_bytes: of a shard, None for any size.
        seed: of the order, None for that of the input.
    """

    most: int | None = None
    most_bytes: int | None = None
    seed: int | None = None


class Pick(NamedTuple):
    """A record of the first pass.

    Attributes:
        position: in its new shard.
        path: of the shard that holds it, relative to OUT/staged.
        start, size: where its example lies, in bytes; of one that failed nowhere, 0.
        row: its row in the records file.
    """

    position: int
    path: str
    start: int
    size: int
    row: dict[str, Any]


def order_hash(seed: int, key: str) -> int:
    """Where a record belongs in a shuffled order, 64 bits."""
    text = f"{seed}\0{key}".encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def plan_groups(
    staged: Sink,
    shards: Sequence[str],
    stem: str,
    grouping: Grouping,
    validates: Callable[[str], bool] | None = None,
) -> Iterator[Shard]:
    """The shards of the result; writes what each is to read into OUT/staged.

    Args:
        staged: of the first pass, whose shards are all committed.
        shards: their names, in order.
        stem: of the names of the result's shards.
        validates: whether a record of a name belongs to the validation part, if there are parts.

    Raises:
        OSError: the storage failed.
    """
    sizes, order, second = _columns(staged, shards, grouping, validates)
    target, position = np.zeros_like(order), np.zeros_like(order)
    names: list[str] = []
    parts = ((f"{TRAIN}/", ~second), (f"{VALIDATION}/", second)) if validates else (("", ~second),)
    for prefix, is_in in parts:
        numbers = order[is_in[order]]
        edges = np.array(bounds(sizes[numbers], grouping.most, grouping.most_bytes))
        lengths = np.diff(edges)
        target[numbers] = len(names) + np.repeat(np.arange(len(lengths)), lengths)
        position[numbers] = np.arange(len(numbers)) - np.repeat(edges[:-1], lengths)
        names += [f"{prefix}{ShardName(stem, n, len(lengths))}" for n in range(len(lengths))]
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(folder)
        for number, pick in enumerate(_picks(staged, shards)):
            placed = pick._replace(position=int(position[number]))
            spill.add(int(target[number]), json.dumps(placed).encode())
        for number, name in enumerate(names):
            lines = spill.read(number).splitlines(keepends=True)
            picks = [Pick(*json.loads(line)) for line in lines]
            in_order = sorted(range(len(lines)), key=lambda n: picks[n].position)
            path = f"{_PICKS}/{name}.jsonl"
            storage.write(staged.root, path, b"".join(lines[n] for n in in_order))
            size = sum(pick.size for pick in picks)
            yield Shard(name, os.path.join(staged.root, path), size, format=PICKS)


def _columns(
    staged: Sink,
    shards: Sequence[str],
    grouping: Grouping,
    validates: Callable[[str], bool] | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Of all records: size in bytes, the order by number, and whether they validate."""
    sizes, hashes, second = [], [], []
    for name in shards:
        table = _table(staged, name, ["key", "example_bytes"])
        keys = table["key"].to_pylist()
        sizes.append(table["example_bytes"].fill_null(0).to_numpy())
        if grouping.seed is not None:
            hashes.append(np.array([order_hash(grouping.seed, key) for key in keys], np.uint64))
        validating = [validates(key) for key in keys] if validates else [False] * len(keys)
        second.append(np.array(validating, np.bool_))
    size = np.concatenate(sizes).astype(np.int64)
    order = np.argsort(np.concatenate(hashes), kind="stable") if hashes else np.arange(len(size))
    return size, order.astype(np.int64), np.concatenate(second)


def _picks(staged: Sink, shards: Sequence[str]) -> Iterator[Pick]:
    """All records of the first pass in their order, without their positions."""
    for name in shards:
        start, path = 0, picture_path(staged, name)
        for row in _table(staged, name, [*_ROW, *COLUMNS.names, "example_bytes"]).to_pylist():
            size = row.pop("example_bytes") or 0
            yield Pick(0, path, start, size, row)
            start += size + _FRAMING_BYTES * (row["status"] == "ok")


def _table(staged: Sink, name: str, columns: list[str]) -> pa.Table:
    data = storage.read_bytes(os.path.join(staged.root, records_path(name)))
    return pq.read_table(pa.BufferReader(data), columns=columns)


@dataclasses.dataclass(frozen=True)
class GatherOperator:
    """Settings of the second pass.

    Attributes:
        sink: of kind "images", with pack.COLUMNS.
        root: OUT/staged.
        threads: that read; 0 for 16.
    """

    sink: Sink
    root: str
    threads: int = 0

    def open(self) -> Work:
        return _GatherWork(self)


class _GatherWork:
    def __init__(self, settings: GatherOperator) -> None:
        self._root = settings.root
        self._threads = settings.threads or _THREADS
        self._pool = ThreadPoolExecutor(self._threads, "gather")

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._threads)

        def gather(item: tuple[Record, Pick]) -> Item[Result]:
            record, pick = item
            try:
                with clock("read"):
                    ahead.saw(pick.size)
                    return gathered(record, pick, self._root)
            except Failure as failure:
                return record, failure

        yield from ordered_map(self._pool, gather, read_picks(shard), ahead)


def read_picks(shard: Shard) -> Iterator[tuple[Record, Pick]]:
    """What a shard of the result is made of, in order; keys are made unique in it.

    Raises:
        OSError: the list cannot be read.
    """
    keys = UniqueKeys()
    with storage.open_read(shard.root) as file:
        for index, line in enumerate(file):
            pick = Pick(*json.loads(line))
            key, twice = keys.unique(pick.row["key"])
            source, size = pick.row["source"], pick.row["bytes_in"]
            yield Record(index, key, source, size, twice=twice), pick


def gathered(record: Record, pick: Pick, root: str) -> tuple[Record, Result]:
    """A record of the first pass, read where it lies.

    Raises:
        Failure: it failed there.
        OSError: it cannot be read, or is not what was committed.
    """
    row = dict(pick.row)
    told = {name: row.pop(name) for name in _ROW}
    if told["status"] != "ok":
        raise Failure(told["stage"], told["reason"], told["message"])
    path = os.path.join(root, pick.path)
    data = storage.read_range(path, pick.start, pick.size + _FRAMING_BYTES)
    example = next(tfrecord.read_examples(io.BytesIO(data)), None)
    if not isinstance(example, bytes) or len(example) != pick.size:
        raise OSError(
            errno.EBADMSG, f"the record at byte {pick.start} is not what was committed", path
        )
    rest, image = split_example(example)
    known = read_features(dataclasses.replace(record, features=rest), USUAL)
    outputs = {"images": Encoded(image, known.format)}
    if known.mask is not None:
        outputs["masks"] = Encoded(known.mask, "png")
    features = bytes(known.features.SerializeToString(deterministic=True))
    removed = tuple((row["metadata"] or "").split(",")) if row["metadata"] else ()
    sums = pack_sums(row["format"], known.mask is not None, removed)
    return dataclasses.replace(record, features=features), Result(outputs, row, sums)
