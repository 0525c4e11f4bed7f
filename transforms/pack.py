"""Packing: the operator that puts image files, and masks beside them, into TFRecord shards.

Images keep their bytes. Every one is decoded once, so that what is broken is found here and not
by a training job. Masks become 8 or 16-bit grey PNGs of class ids, which all decoders read alike.
"""

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from models.loading import import_tensorflow
from transforms import storage
from transforms.clock import Clock
from transforms.decode import DecodePolicy, Facts, decode
from transforms.failures import Failure
from transforms.inputs import ImageFile, Shard
from transforms.masks import decode_mask
from transforms.png import encode_png
from transforms.records import Encoded, Item, Record, Result, Stream
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.sources import Load, read_shard
from transforms.streams import Ahead, ordered_map

tf = import_tensorflow()

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("mask_source", pa.string()),
    ]
)
_AHEAD_ITEMS = 64
_AHEAD_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class PackOperator:
    """Settings of packing.

    Attributes:
        sink: of kind "images", with COLUMNS.
        policy: how pictures are decoded for the check.
        masks_expected: an image without a mask is a failure.
        threads: that read and decode; 0 for one a core.
    """

    sink: Sink
    policy: DecodePolicy = DecodePolicy()
    masks_expected: bool = False
    threads: int = 0

    def open(self) -> Work:
        return _PackWork(self)


class _PackWork:
    def __init__(self, settings: PackOperator) -> None:
        self._settings = settings
        self._threads = settings.threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "codec")

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._threads)
        # files become a folder for each shard, with a table, and not a tree like the input
        has_place = not self._settings.sink.as_files

        def pack(item: Item[Load]) -> Item[Result]:
            record, load = item
            file = shard.files[record.index]
            try:
                if isinstance(load, Failure):
                    raise load
                with clock("read"):
                    image = load()
                    mask = _read_mask(shard.root, file, self._settings.masks_expected)
                with clock("decode"):
                    facts = decode(image, self._settings.policy).facts
                ahead.saw(3 * facts.size_hw[0] * facts.size_hw[1])
                with clock("encode"):
                    result = pack_image(image, facts, mask, file.mask)
            except Failure as failure:
                return record, failure
            features = _features(record, facts)
            place = record.output_name if has_place else ""
            return dataclasses.replace(record, features=features, output_name=place), result

        yield from ordered_map(self._pool, pack, self._items(shard), ahead)

    def _items(self, shard: Shard) -> Iterator[Item[Load]]:
        return read_shard(shard)


def pack_image(image: bytes, facts: Facts, mask: bytes | None, mask_source: str) -> Result:
    """The packed form of one image and its mask.

    Raises:
        Failure: the mask is not one of class ids, or not of the image's size.
    """
    outputs = {"images": Encoded(image, facts.format.lower())}
    if mask is not None:
        outputs["masks"] = Encoded(pack_mask(mask, facts.size_hw, mask_source), "png")
    height, width = facts.size_hw
    row = {
        "width": width,
        "height": height,
        "format": facts.format,
        "mask_source": mask_source or None,
    }
    sums = {"formats": {facts.format: 1}, "masks": int(mask is not None)}
    return Result(outputs=outputs, row=row, sums=sums)


def pack_mask(data: bytes, size_hw: tuple[int, int], name: str) -> bytes:
    """A mask as grey PNG of class ids (see decode_mask). Raises a Failure."""
    return encode_png(decode_mask(data, size_hw, name))


def _read_mask(root: str, file: ImageFile, expected: bool) -> bytes | None:
    if not file.mask:
        if expected:
            raise Failure(
                "read",
                "mask_missing",
                f"other images have masks, but there is none for {file.path}",
            )
        return None
    path = os.path.join(root, file.mask)
    try:
        return storage.read_bytes(path)
    except OSError as error:
        raise Failure("read", "mask_missing", f"{path}: {error.strerror}") from error


def _features(record: Record, facts: Facts) -> bytes:
    height, width = facts.stored_hw
    example = tf.train.Example.FromString(record.features)
    features = example.features.feature
    if "image/filename" not in features:
        features["image/filename"].bytes_list.value.append(record.key.encode("utf-8", "replace"))
    for name, size in (("image/height", height), ("image/width", width)):
        features[name].int64_list.value[:] = [size]
    return bytes(example.SerializeToString(deterministic=True))
