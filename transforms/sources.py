"""Reading a shard: a stream of its records in order, with the bytes of each image."""

import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from google.protobuf.message import DecodeError

from models.loading import Later
from transforms import storage
from transforms.failures import Failure, Kept
from transforms.feature_names import FeatureNames
from transforms.formats.base import NAME, BadRecord
from transforms.formats.folder import features_of
from transforms.formats.registry import read_shard_file
from transforms.inputs import ImageFile, Shard
from transforms.records import Item, Record

tf = Later()

# Gives the encoded image. A call, so that files are read by the threads that decode them.
Load = Callable[[], bytes]

_AHEAD_FILES, _AHEAD_BYTES = 32, 64 << 20  # of a shard, before they are asked for
_FETCHERS = ThreadPoolExecutor(16, "fetch")  # of all shards of the process


def read_shard(shard: Shard, names: FeatureNames = FeatureNames()) -> Iterator[Item[Load]]:
    """Reads the records of a shard in their order; what cannot be read is a Failure in its place.

    Args:
        shard: a file of examples in any format, or a list of image files.
        names: of the features that matter in a tf.Example.

    Records that are not in the shard's part, if it has one, come as Kept.

    Raises:
        OSError: when a file of examples cannot be opened or read.
    """
    if shard.part is not None:
        for record, load in (
            _read_examples(shard, names) if shard.is_examples else _with_files(shard)
        ):
            yield record, load if record.index in shard.part else Kept()
    elif shard.is_examples:
        yield from _read_examples(shard, names)
    else:
        files = _with_files(shard)
        yield from _fetch_ahead(files) if storage.is_remote(shard.root) else files


def file_items(shard: Shard) -> Iterator[tuple[Record, "FileLoad"]]:
    """The records of a list of image files, and what reads each; nothing is read here.

    What a table tells of them is in their features, but for the content of other files.
    """
    keys = UniqueKeys()
    for index, file in enumerate(shard.files):
        values, _ = told_of(file)
        key, twice = keys.unique(_name(values) or storage.as_text(file.path))
        record = Record(
            index=index,
            key=key,
            twice=twice,
            source=storage.as_text(file.path),
            bytes_in=file.size_bytes,
            features=features_of(values) if values else b"",
            output_name=file.output_name,
        )
        yield record, FileLoad(os.path.join(shard.root, file.path))


def told_of(file: ImageFile) -> tuple[dict[str, Any], dict[str, str]]:
    """What a table tells of an image file by feature: plain values, and relative paths of files."""
    found = json.loads(file.told) if file.told else {}
    files = {n: v["file"] for n, v in found.items() if isinstance(v, dict) and "file" in v}
    return {name: value for name, value in found.items() if name not in files}, files


def _name(values: Mapping[str, Any]) -> str:
    name = values.get(NAME)
    return name if isinstance(name, str) else ""


def _with_files(shard: Shard) -> Iterator[tuple[Record, "FileLoad | Failure"]]:
    """The same, with the content of all files that the table names."""
    for record, load in file_items(shard):
        values, files = told_of(shard.files[record.index])
        if not files:
            yield record, load
            continue
        try:
            data = {n: FileLoad(os.path.join(shard.root, path))() for n, path in files.items()}
            yield dataclasses.replace(record, features=features_of(values, data)), load
        except Failure as failure:
            yield record, failure


def _fetch_ahead(files: Iterator[tuple[Record, "FileLoad | Failure"]]) -> Iterator[Item[Load]]:
    """Where each file is a request, many are under way, and more than there are cores."""
    pending: deque[tuple[Record, Future[bytes]]] = deque()
    size = 0
    try:
        for record, load in files:
            pending.append((record, _FETCHERS.submit(_loaded, load)))
            size += record.bytes_in
            while len(pending) > _AHEAD_FILES or (size > _AHEAD_BYTES and len(pending) > 1):
                first, future = pending.popleft()
                size -= first.bytes_in
                yield first, future.result
        while pending:
            first, future = pending.popleft()
            yield first, future.result
    finally:  # of those that nobody was given
        for _, future in pending:
            future.cancel()


def _loaded(load: "FileLoad | Failure") -> bytes:
    if isinstance(load, Failure):
        raise load
    return load()


class FileLoad:
    """Reads one image file when called."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> bytes:
        try:
            return storage.read_bytes(self._path)
        except OSError as error:
            raise Failure("read", "unreadable", f"{self._path}: {error.strerror}") from error


def _read_examples(shard: Shard, names: FeatureNames) -> Iterator[Item[Load]]:
    keys = UniqueKeys()
    file_name = os.path.basename(shard.root)
    for index, data in enumerate(read_shard_file(shard.root, shard.format, shard.groups)):
        if isinstance(data, BadRecord):
            name, features = "", b""
            reason = "rest_lost" if data.last else "bad_record"
            load: Load | Failure = Failure("read", reason, data.message)
        else:
            name, features, load = _parse_example(data, names)
        key, twice = keys.unique(name or f"{shard.name}/{index:08d}")
        record = Record(
            index=index,
            key=key,
            twice=twice,
            source=f"{file_name}#{index}",
            bytes_in=len(load.data) if isinstance(load, Loaded) else 0,
            features=features,
        )
        yield record, load


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Bytes that are there already."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


def _parse_example(data: bytes, names: FeatureNames) -> tuple[str, bytes, Loaded | Failure]:
    """The record's name ("" if none), its other features serialized, and its image."""
    example = tf.train.Example()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        return "", b"", Failure("read", "bad_example", f"the record is no tf.Example: {error}")
    features = example.features.feature
    offered = sorted(features)
    images = list(features[names.image].bytes_list.value) if names.image in offered else []
    keys = list(features[names.key].bytes_list.value) if names.key in offered else []
    key = keys[0].decode("utf-8", "backslashreplace") if len(keys) == 1 else ""
    features.pop(names.image, None)
    rest = bytes(example.SerializeToString(deterministic=True))
    if len(images) == 1:
        return key, rest, Loaded(images[0])
    return (
        key,
        rest,
        Failure(
            "read",
            "no_image",
            f"expected one bytes value in feature {names.image!r}, got {len(images)}; the example "
            f"has {', '.join(offered) or 'no features'}; name the right one by --image_feature",
        ),
    )


class UniqueKeys:
    """Tells records of one name apart: the second `a.jpg` of a shard becomes `a.jpg~2`."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> tuple[str, bool]:
        """A key that no earlier record has, and whether the name itself was taken."""
        if name not in self._next:
            self._next[name] = 2
            return name, False
        while (key := f"{name}~{self._next[name]}") in self._next:
            self._next[name] += 1
        self._next[key] = 2
        return key, True
