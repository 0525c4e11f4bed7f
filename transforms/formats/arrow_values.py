"""Values of Arrow columns as features of tf.Examples, and the row beside them that loses nothing.

Integers, floats and bytes of a tf.Example are int64, float32 and binary or string, or lists of
these. A value of another type becomes the nearest feature: small integers and booleans int64,
doubles rounded floats, dictionaries what they stand for, times, decimals and nested values JSON
text. The exact value stays beside it, in one feature that holds an Arrow stream of one row, from
which a writer of Parquet restores the columns.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from transforms.formats.plain import bytes_feature, float_feature, from_plain, int_feature

EXACT = "parquet/columns"  # the feature with the exact values
_NATIVE = (pa.int64(), pa.float32(), pa.string(), pa.binary())
_IMAGE_FIELDS = {"bytes", "path"}


def is_image(kind: pa.DataType) -> bool:
    """Whether a type is Hugging Face's of an image: struct<bytes, path>."""
    return (
        pa.types.is_struct(kind)
        and {field.name for field in kind} == _IMAGE_FIELDS
        and _is_bytes(kind.field("bytes").type)
        and _is_text(kind.field("path").type)
    )


def is_binary(kind: pa.DataType) -> bool:
    """Whether values are bytes, not text."""
    return _is_bytes(kind)


def is_exact(kind: pa.DataType) -> bool:
    """Whether a feature holds values of a type without loss."""
    if _is_list(kind):
        kind = kind.value_type
    return kind in _NATIVE or is_image(kind) or _is_bytes(kind) or _is_text(kind)


def feature_of(kind: pa.DataType) -> Callable[[Any], Any]:
    """What makes the tf.train.Feature, None for null, of a value of a type (as Python has it)."""
    if _is_list(kind):
        one = feature_of(kind.value_type)
        make = _maker(kind.value_type)
        if make is None or one is None:
            return _text
        return lambda values: None if values is None else make([v for v in values if v is not None])
    if is_image(kind):
        return lambda value: (
            None if value is None or value["bytes"] is None else bytes_feature([value["bytes"]])
        )
    found = _maker(kind)
    if found is None:
        return _text
    return lambda value: None if value is None else found([value])


def _maker(kind: pa.DataType) -> Callable[[list[Any]], Any] | None:
    """What makes a feature of a list of values; None for a type that has no near one."""
    if pa.types.is_dictionary(kind):
        return _maker(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return lambda values: (
            int_feature([int(v) for v in values])
            if all(v < 1 << 63 for v in values)
            else bytes_feature([str(v).encode() for v in values])
        )
    if pa.types.is_floating(kind):
        return float_feature
    if _is_bytes(kind):
        return bytes_feature
    if _is_text(kind):
        return lambda values: bytes_feature([v.encode("utf-8", "replace") for v in values])
    return None


def _text(value: Any) -> Any:
    if value is None:
        return None
    return from_plain(json.dumps(value, default=_shown, ensure_ascii=False, sort_keys=True))


def _shown(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def pack_row(row: pa.RecordBatch, columns: Sequence[int], names: Sequence[str]) -> bytes:
    """Columns of a batch of one row, under these names, as an Arrow stream; b"" if all are null."""
    arrays = [row.column(index) for index in columns]
    if all(array.null_count for array in arrays):
        return b""
    # taken, not sliced: a stream holds the buffers of an array as they are
    batch = pa.RecordBatch.from_arrays([pa.array(a.to_pylist(), a.type) for a in arrays], names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def unpack_row(data: bytes) -> Mapping[str, tuple[pa.DataType, Any]]:
    """Type and value by column of such a stream; nothing for other bytes."""
    try:
        with pa.ipc.open_stream(data) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
        if batch.num_rows != 1:
            return {}
        values = batch.to_pylist()[0]
        return {field.name: (field.type, values[field.name]) for field in batch.schema}
    except (pa.ArrowException, OSError, ValueError, StopIteration, KeyError):
        return {}


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
