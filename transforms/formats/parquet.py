"""Reading Parquet: rows of any table with pictures become tf.Examples, a few rows at a time.

    column                                          feature
    image: struct<bytes, path>, or plain bytes      image/encoded, and image/filename by the path
    mask: the same                                  image/segmentation/class/encoded
    label: integer                                  image/class/label, and image/class/text where
                                                    the metadata of Hugging Face names the classes
    all others                                      by their own names (see arrow_values.py)

That is for files of others: the picture is the column of the usual names, or else the first of
Hugging Face's type. In our own the metadata tells which column is which feature. Row groups are
read one by one, pages as they are needed, so that memory holds a few rows and one page a column.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError

from transforms.formats import base
from transforms.formats.arrow_values import (
    EXACT,
    feature_of,
    is_binary,
    is_exact,
    is_image,
    pack_row,
)
from transforms.formats.base import BadRecord
from transforms.formats.parquet_writer import METADATA, open_writer
from transforms.formats.plain import bytes_feature, parsed, serialized

__all__ = ["EXTENSION", "open_writer", "read_examples"]

EXTENSION = ".parquet"
PART_BYTES = 256 << 20  # of a file that is split into shards
_BATCH_BYTES = 16 << 20  # about, of rows that are in memory at once
_BATCH_ROWS = 1024
_DICTIONARY_BYTES = 1 << 28
_BUFFER_BYTES = 1 << 20  # of a column, read at once
_MOST_LOST = 1 << 16  # rows of a damaged row group that are told of one by one
_IMAGES = ("image", "img", "picture", "photo", "image_bytes", "jpg", "jpeg", "png", "webp", "bytes")
_MASKS = ("mask", "segmentation", "segmentation_mask", "seg", "annotation", "label", "labels")
_LABELS = ("label", "labels", "cls", "class")
_TEXT = "image/class/text"


def read_examples(file: IO[bytes]) -> Iterator[bytes | BadRecord]:
    """See ShardFormat; the file must be seekable. A damaged page costs what follows it in its row
    group."""
    return read_groups(file, None)


def parts(path: str) -> list[tuple[tuple[int, int], int]]:
    """Row groups [first, end) of a local file that make parts of about PART_BYTES, and their sizes.

    One part, or none, when it cannot be split or read.
    """
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError, ValueError):
        return []  # who reads it will tell
    found, first, size = [], 0, 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        columns = range(row_group.num_columns)
        size += sum(max(0, row_group.column(i).total_compressed_size) for i in columns)
        if size >= PART_BYTES or group + 1 == metadata.num_row_groups:
            found.append(((first, group + 1), size))
            first, size = group + 1, 0
    return found if len(found) > 1 else []


def read_groups(file: IO[bytes], groups: tuple[int, int] | None) -> Iterator[bytes | BadRecord]:
    """The same of some row groups, [first, end); None for all."""
    watched = _Watched(file)
    try:
        table = pq.ParquetFile(
            pa.PythonFile(watched, "r"),
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        reader = _Rows(table.schema_arrow)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        watched.reraise()
        yield BadRecord(f"it is no Parquet file, or its end is damaged: {_short(error)}", last=True)
        return
    for group in range(*(groups or (0, table.num_row_groups))):
        if group >= table.num_row_groups:
            yield BadRecord(f"row group {group} is gone: the file is another one now", last=True)
            return
        yield from _read_group(table, reader, group, watched)


def _read_group(
    table: pq.ParquetFile, reader: "_Rows", group: int, watched: "_Watched"
) -> Iterator[bytes | BadRecord]:
    rows = table.metadata.row_group(group).num_rows
    done, problem = 0, ""
    for batch_rows in (_batch_rows(table.metadata.row_group(group)), 1):  # up to the damaged row
        try:
            skip = done
            for batch in table.iter_batches(batch_rows, row_groups=[group], use_threads=False):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                for example in reader.examples(batch.slice(skip)):
                    yield example
                    done += 1
                skip = 0
            problem = f"it ends after {done:,} rows"
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            watched.reraise()
            problem = _short(error)
        if done >= rows:
            return
    message = f"row group {group}, row {done:,} of {rows:,} and what follows in it: {problem}"
    for _ in range(rows - done if rows - done <= _MOST_LOST else 1):
        yield BadRecord(message, last=False)


def _batch_rows(group: Any) -> int:
    """How many rows of a row group are read at once: fewer of larger ones.

    A value of a dictionary may be as large as all of its column, and stand in every row.
    """
    sizes = [group.column(i) for i in range(group.num_columns)]
    total = sum(max(0, column.total_uncompressed_size) for column in sizes)
    repeated = sum(
        max(0, column.total_uncompressed_size)
        for column in sizes
        if column.has_dictionary_page and column.physical_type == "BYTE_ARRAY"
    )
    usual: int = _BATCH_BYTES * max(1, group.num_rows) // max(1, total)
    limit: int = _DICTIONARY_BYTES // max(1, repeated)
    return max(1, min(usual, _BATCH_ROWS, limit))


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column that is read: its place, the feature that it becomes, and its type."""

    index: int
    feature: str
    kind: pa.DataType


class _Rows:
    """Turns rows of one schema into serialized tf.Examples."""

    def __init__(self, schema: pa.Schema) -> None:
        told = _told(schema)
        self._other = schema.get_field_index(told["other"]) if told and told["other"] else -1
        self._columns = _told_columns(schema, told) if told else _guessed_columns(schema)
        self._makers = [feature_of(column.kind) for column in self._columns]
        inexact = sorted((c.feature, c.index) for c in self._columns if not is_exact(c.kind))
        self._inexact = [index for _, index in inexact]
        self._exact_names = [feature for feature, _ in inexact]
        named = any(column.feature == base.NAME for column in self._columns)
        paths = [c.index for c in self._columns if c.feature == base.IMAGE and is_image(c.kind)]
        self._path = paths[0] if paths and not told and not named else None
        self._classes = {} if told else _class_names(schema, self._columns)

    def examples(self, batch: pa.RecordBatch) -> Iterator[bytes | BadRecord]:
        """The rows of a batch; one that is no value of its types is a BadRecord."""
        for index in range(batch.num_rows):
            row = batch.slice(index, 1)
            try:
                yield self._example(row)
            except (pa.ArrowException, ValueError, KeyError, OverflowError, DecodeError) as error:
                yield BadRecord(f"the row is damaged: {_short(error)}", last=False)

    def _example(self, row: pa.RecordBatch) -> bytes:
        features: dict[str, Any] = {}
        if self._other >= 0 and (other := row.column(self._other)[0].as_py()) is not None:
            features |= parsed(other)
        size = 0
        for column, make in zip(self._columns, self._makers, strict=True):
            value = row.column(column.index)[0].as_py()
            if (feature := make(value)) is None:
                continue
            features[column.feature] = feature
            size += feature.ByteSize()
        if self._path is not None:
            value = row.column(self._path)[0].as_py()
            if value is not None and value["path"]:
                features[base.NAME] = bytes_feature([value["path"].encode("utf-8", "replace")])
        if base.LABEL in features and self._classes and _TEXT not in features:
            name = self._classes.get(features[base.LABEL].int64_list.value[0])
            if name is not None:
                features[_TEXT] = bytes_feature([name.encode()])
        if self._inexact and (data := pack_row(row, self._inexact, self._exact_names)):
            features[EXACT] = bytes_feature([data])
        if size > base.MAX_RECORD_BYTES:
            raise ValueError(
                f"it has {size:,} bytes, more than the {base.MAX_RECORD_BYTES:,} allowed"
            )
        return serialized(features)


def _told(schema: pa.Schema) -> dict[str, Any] | None:
    """What our writer says of a schema, None for files of others. Raises ValueError."""
    text = (schema.metadata or {}).get(METADATA)
    if text is None:
        return None
    told = json.loads(text)
    if not isinstance(told, dict) or not isinstance(told.get("columns"), dict):
        raise ValueError("its metadata of pixelmill is damaged")
    return {"columns": told["columns"], "other": told.get("other", "")}


def _told_columns(schema: pa.Schema, told: Mapping[str, Any]) -> list[_Column]:
    return [
        _Column(index, str(told["columns"].get(field.name, field.name)), field.type)
        for index, field in enumerate(schema)
        if field.name != told["other"]
    ]


def _guessed_columns(schema: pa.Schema) -> list[_Column]:
    """Which columns of others are what."""
    names = [field.name for field in schema]
    pictures = [f.name for f in schema if is_image(f.type)]
    encoded = pictures + [f.name for f in schema if is_binary(f.type)]
    special: dict[str, str] = {}
    if base.IMAGE not in names:
        likely = [name for name in _IMAGES if name in encoded]
        rest = [name for name in pictures if name.lower() not in _MASKS]
        if found := (likely or rest or pictures)[:1]:
            special[found[0]] = base.IMAGE
    if base.MASK not in names and (
        found := [name for name in _MASKS if name in encoded and name not in special][:1]
    ):
        special[found[0]] = base.MASK
    if base.LABEL not in names and (
        found := [n for n in _LABELS if n in names and pa.types.is_integer(schema.field(n).type)][
            :1
        ]
    ):
        special[found[0]] = base.LABEL
    return [_Column(i, special.get(f.name, f.name), f.type) for i, f in enumerate(schema)]


def _class_names(schema: pa.Schema, columns: list[_Column]) -> dict[int, str]:
    """Names of the classes of image/class/label, by the metadata of Hugging Face."""
    column = next((c for c in columns if c.feature == base.LABEL), None)
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = told[schema.names[column.index]]["names"] if column else []
        return {i: name for i, name in enumerate(names) if isinstance(name, str)}
    except (KeyError, TypeError, ValueError):
        return {}


class _Watched:
    """A file that remembers an error of the storage, for Arrow's own errors look alike."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self._error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def reraise(self) -> None:
        """Raises the storage's error, if there was one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Left to who opened it."""


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
