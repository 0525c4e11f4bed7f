"""Examples, strategies and archives for tests of formats."""

import io
import tarfile
from collections.abc import Callable, Iterable
from typing import IO, Any

import hypothesis.strategies as st
import numpy as np
from PIL import Image

from models.loading import import_tensorflow
from transforms.formats.base import BadRecord, ExampleWriter
from transforms.formats.plain import bytes_feature, float_feature, int_feature, parsed, serialized

tf = import_tensorflow()


def picture(seed: int = 0, form: str = "PNG", side: int = 4) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def example(**features: Any) -> bytes:
    """Keywords are names of features, with "__" for "/"."""
    made = {}
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        kinds = {bytes: bytes_feature, int: int_feature, float: float_feature}
        made[name.replace("__", "/")] = kinds[type(values[0])](values)
    return serialized(made)


def usual(index: int) -> bytes:
    """An example with all that is usual."""
    return example(
        image__encoded=picture(index, "JPEG" if index % 2 else "PNG"),
        image__filename=f"left/photo {index}.v2.jpg".encode(),
        image__class__label=index % 3,
        image__segmentation__class__encoded=picture(index + 100),
        image__height=4,
        weights=[0.1, float(index)],
        blob=bytes(range(256)),
        texts=[b"a", "ä".encode()],
    )


def shard_file(
    open_writer: Callable[[IO[bytes], str], ExampleWriter], examples: Iterable[Any], scratch: object
) -> bytes:
    """What a format makes of examples."""
    file = io.BytesIO()
    writer = open_writer(file, str(scratch))
    for each in examples:
        writer.write(each)
    writer.finish()
    writer.close()
    return file.getvalue()


def named(record: bytes | BadRecord) -> Any:
    assert isinstance(record, bytes), record
    return parsed(record)


def text_of(feature: Any) -> bytes:
    (value,) = feature.bytes_list.value
    return bytes(value)


_BYTES = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=12).map(str.encode),
    st.just(picture()),
    st.just(b"x" * 5000),
)
_FLOATS = st.floats(width=32, allow_nan=False)
_INTS = st.integers(-(1 << 63), (1 << 63) - 1)
_NAMES = st.one_of(
    st.sampled_from(
        [
            *("image/encoded", "image/filename", "image/class/label", "image/format"),
            *("image/segmentation/class/encoded", "image/segmentation/confidence/encoded"),
            *("image", "mask", "label", "labels", "cls", "txt", "json", "seg.png", "features.json"),
            *("file_name", "mask_file_name", "pixelmill", "other_features", "bytes", "path", "png"),
            *("parquet/columns", "A.txt", "a/b", "a_b", "a.b.bin", ""),
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
FEATURES = st.one_of(
    st.lists(_BYTES, max_size=3).map(bytes_feature),
    st.lists(_INTS, max_size=3).map(int_feature),
    st.lists(_FLOATS, max_size=3).map(float_feature),
    st.just(tf.train.Feature()),
    st.sampled_from([[], [float("nan")], [float("inf"), -0.0]]).map(float_feature),
)
EXAMPLES = st.lists(st.dictionaries(_NAMES, FEATURES, max_size=6).map(serialized), max_size=4)


def member(name: str, data: bytes = b"", **fields: Any) -> bytes:
    """A member of a tar archive as bytes; fields of its header may be anything."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    form = fields.pop("format", tarfile.PAX_FORMAT)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(form) + data + bytes(-len(data) % 512)


END = bytes(1024)
