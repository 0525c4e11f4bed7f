"""Features of tf.Examples as plain JSON values that any tool reads, and back without loss.

    feature                        JSON
    one value, or several          3, 0.5, "text", or a list of these
    floats                         shortest decimals of the same float32, always with "." or "e"
    bytes that are not UTF-8       {"base64": ["..."]}
    not finite, or no values       {"float": ["nan"]}, {"int64": []}, {"bytes": []}, {"none": []}

Objects never stand for anything else in what we write. From others, booleans become integers, and
what no feature can hold (objects, mixed or nested lists, numbers beyond 64 bits) its JSON text.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.loading import Later

tf = Later()

_INT64 = range(-(1 << 63), 1 << 63)


def to_plain(feature: Any) -> Any:
    """The JSON value of a tf.train.Feature."""
    kind = feature.WhichOneof("kind")
    if kind is None:
        return {"none": []}
    values = list(getattr(feature, kind).value)
    if not values:
        return {kind.removesuffix("_list"): []}
    if kind == "bytes_list":
        try:
            plain: list[Any] = [value.decode() for value in values]
        except UnicodeDecodeError:
            return {"base64": [base64.b64encode(value).decode() for value in values]}
    elif kind == "float_list":
        if not all(map(math.isfinite, values)):
            return {"float": [str(np.float32(value)) for value in values]}
        plain = [float(str(np.float32(value))) for value in values]
    else:
        plain = values
    return plain[0] if len(plain) == 1 else plain


def from_plain(value: Any, typed: bool = False) -> Any:
    """The tf.train.Feature of a JSON value, None where there is none (null, an empty list).

    Args:
        typed: objects are those of `to_plain`.

    Raises:
        ValueError: an object is not.
    """
    if typed and isinstance(value, Mapping):
        return _from_object(value)
    values = value if isinstance(value, list) else [value]
    if not values or value is None:
        return None
    if all(isinstance(v, str) for v in values):
        return bytes_feature([v.encode("utf-8", "surrogatepass") for v in values])
    if all(isinstance(v, int) and int(v) in _INT64 for v in values):
        return int_feature([int(v) for v in values])
    if all(isinstance(v, float) or (isinstance(v, int) and int(v) in _INT64) for v in values):
        return float_feature(values)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return bytes_feature([text.encode("utf-8", "surrogatepass")])


def _from_object(value: Mapping[str, Any]) -> Any:
    try:
        ((kind, values),) = value.items()
        if kind == "base64":
            return bytes_feature([base64.b64decode(text, validate=True) for text in values])
        if kind == "float":
            return float_feature([float(text) for text in values])
        if not values and kind in ("bytes", "int64", "none"):
            feature = tf.train.Feature()
            if kind != "none":
                getattr(feature, f"{kind}_list").SetInParent()
            return feature
    except (ValueError, TypeError, binascii.Error) as error:
        raise ValueError(f"{str(value)[:80]} is no value of a feature: {error}") from error
    raise ValueError(f"{str(value)[:80]} is no value of a feature")


def bytes_feature(values: list[bytes]) -> Any:
    """A tf.train.Feature of bytes."""
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def int_feature(values: list[int]) -> Any:
    """A tf.train.Feature of integers."""
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def float_feature(values: list[float]) -> Any:
    """A tf.train.Feature of floats, rounded to float32; what is beyond becomes infinite."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(values, np.float64).astype(np.float32)
    return tf.train.Feature(float_list=tf.train.FloatList(value=rounded.tolist()))


def single_bytes(feature: Any) -> bytes | None:
    """The only value of a feature of bytes; None for any other feature."""
    values = feature.bytes_list.value
    return bytes(values[0]) if len(values) == 1 else None


def serialized(features: Mapping[str, Any]) -> bytes:
    """A tf.Example of tf.train.Features by name, serialized; equal ones give equal bytes."""
    example = tf.train.Example()
    for name, feature in features.items():
        example.features.feature[name].CopyFrom(feature)
    return bytes(example.SerializeToString(deterministic=True))


def parsed(example: bytes) -> dict[str, Any]:
    """The features of a serialized tf.Example, by name in their order.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    features = tf.train.Example.FromString(example).features.feature
    return {name: features[name] for name in sorted(features)}
