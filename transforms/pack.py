"""Packing: the operator that puts pictures, with masks and labels, into shards of any format.

They come from files or from shards. Pictures keep their bytes, but for metadata (see
transforms/metadata), unless another codec is asked for. Every one is decoded once, so that what is
broken is found here and not by a training job. Masks are 8 or 16-bit grey PNGs of class ids, which
all decoders read alike; one that is such a PNG already keeps its bytes.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa

from models.loading import Later
from transforms import storage
from transforms.clock import Clock
from transforms.decode import DecodePolicy, Picture, decode
from transforms.examples import example_of
from transforms.failures import Failure
from transforms.feature_names import USUAL, FeatureNames, to_usual
from transforms.inputs import ImageFile, Shard
from transforms.label_sources.targets import LabelSource, Target
from transforms.masks import decode_mask
from transforms.metadata.pieces import PNG_MAGIC
from transforms.metadata.strip import Cleaned, Policy, metadata_of, strip, synthetic_source
from transforms.picture_files import PictureFormat, encode_picture
from transforms.png import encode_png
from transforms.records import Encoded, Item, Record, Result, Stream
from transforms.selection import Selection, select
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.sources import Load, read_shard
from transforms.streams import Ahead, ordered_map

tf = Later()

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("mask_source", pa.string()),
        pa.field("label", pa.int32()),
        pa.field("metadata", pa.string()),
    ]
)
# Of the first of two passes (see transforms/regroup.py): where each record lies in its shard.
STAGED_COLUMNS = COLUMNS.append(pa.field("example_bytes", pa.int64()))
FORMAT, MASK_FORMAT, TEXT = "image/format", "image/segmentation/class/format", "image/class/text"
_AHEAD_ITEMS = 64
_AHEAD_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class PackOperator:
    """Settings of packing.

    Attributes:
        sink: of kind "images", with COLUMNS.
        policy: how pictures are decoded for the check.
        masks_expected: an image file without a mask is a failure.
        threads: that read and decode; 0 for one a core.
        names: of the features of shards that are read; what is written has the usual ones.
        metadata: what becomes of EXIF and the like.
        format: pictures are encoded anew; None to keep their bytes.
        labels: where masks or labels come from that neither lie beside nor in shards.
        selection: which records of shards are taken; None for all.
    """

    sink: Sink
    policy: DecodePolicy = DecodePolicy()
    masks_expected: bool = False
    threads: int = 0
    names: FeatureNames = USUAL
    metadata: Policy = "strip"
    format: PictureFormat | None = None
    labels: LabelSource | None = None
    selection: Selection | None = None

    @property
    def is_staged(self) -> bool:
        """Whether the records file tells where each record lies."""
        return bool(self.sink.columns == STAGED_COLUMNS)

    def open(self) -> Work:
        return _PackWork(self)


class Source(NamedTuple):
    """What is known of a picture before it is decoded.

    Attributes:
        features: its tf.Example, without the picture and the mask.
        mask: encoded, None if there is none.
        mask_source: where it was read from, for people.
        format: that its tf.Example tells, "" if none.
    """

    features: Any
    mask: bytes | None = None
    mask_source: str = ""
    format: str = ""


class _PackWork:
    def __init__(self, settings: PackOperator) -> None:
        self._settings = settings
        self._threads = settings.threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "codec")
        self._wanted = settings.selection.open() if settings.selection else None

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, self._threads)
        # files become a folder for each shard, with a table, and not a tree like the input
        has_place = not self._settings.sink.as_files
        settings = self._settings
        targets = settings.labels.open(shard) if settings.labels else None

        def known_of(record: Record) -> Source:
            if shard.is_examples:
                return read_features(record, settings.names)
            file = shard.files[record.index]
            mask = _read_mask(shard.root, file, settings.masks_expected)
            return read_features(record, USUAL)._replace(mask=mask, mask_source=file.mask)

        def pack(item: Item[Load]) -> Item[Result]:
            record, load = item
            try:
                if isinstance(load, Failure):
                    raise load
                with clock("read"):
                    image = load()
                    known = known_of(record)
                with clock("decode"):
                    picture = decode(image, settings.policy)
                ahead.saw(picture.pixels.nbytes)
                with clock("encode"):
                    size_hw = picture.facts.size_hw
                    path = shard.files[record.index].path if shard.files else record.key
                    target = targets(path, size_hw) if targets else Target()
                    features, result = pack_picture(known, image, picture, target, settings)
                place = record.output_name if has_place else ""
                record = dataclasses.replace(record, features=features, output_name=place)
                return record, _measured(record, result) if settings.is_staged else result
            except Failure as failure:
                return record, failure

        yield from ordered_map(self._pool, pack, self._items(shard), ahead)

    def _items(self, shard: Shard) -> Iterator[Item[Load]]:
        items = read_shard(shard, self._settings.names)
        return items if self._wanted is None else select(items, self._wanted, shard.name)


def read_features(record: Record, names: FeatureNames) -> Source:
    """What a tf.Example tells of its picture, by the usual names. Raises a Failure."""
    example = tf.train.Example.FromString(record.features)
    features = example.features.feature
    to_usual(features, names)
    mask = None
    if USUAL.mask in features:
        found = list(features[USUAL.mask].bytes_list.value)
        if len(found) != 1:
            raise Failure(
                "read",
                "mask_format",
                f"expected one bytes value in feature {names.mask!r}, got {len(found)}; name "
                "another one by --mask_feature if this is no mask",
            )
        mask = found[0]
        features.pop(USUAL.mask, None)
        features.pop(MASK_FORMAT, None)
    if USUAL.key not in features:
        features[USUAL.key].bytes_list.value.append(record.key.encode("utf-8", "replace"))
    told = list(features[FORMAT].bytes_list.value) if FORMAT in features else []
    features.pop(FORMAT, None)
    given = told[0].decode("utf-8", "replace") if len(told) == 1 else ""
    return Source(example, mask, record.source if mask is not None else "", given)


def pack_picture(
    known: Source,
    image: bytes,
    picture: Picture,
    target: Target,
    settings: PackOperator,
) -> tuple[bytes, Result]:
    """The packed form of one picture, its mask and its label; its features come first.

    Raises:
        Failure: the mask is not one of class ids, or not of the picture's size; metadata.
    """
    facts = picture.facts
    written = write_picture(image, picture, settings)
    told = known.format or facts.format.replace("MPO", "JPEG").lower()
    outputs = {"images": Encoded(written.data, written.format or told)}
    if target.mask is not None:
        outputs["masks"] = Encoded(encode_png(target.mask), "png")
    elif known.mask is not None:
        mask = pack_mask(known.mask, facts.size_hw, known.mask_source, settings.metadata)
        outputs["masks"] = Encoded(mask, "png")
    features = known.features.features.feature
    if target.label is not None:
        features[USUAL.label].int64_list.value[:] = [target.label]
        features[TEXT].bytes_list.value[:] = [target.text.encode("utf-8", "replace")]
    for name, values in target.features.items():
        set_feature(features[name], values)
    stored_hw = facts.size_hw if written.format else facts.stored_hw
    for name, value in zip(("image/height", "image/width"), stored_hw, strict=True):
        if name not in features or written.format:
            features[name].int64_list.value[:] = [value]
    label = features[USUAL.label].int64_list.value if USUAL.label in features else []
    height, width = facts.size_hw
    row = {
        "width": width,
        "height": height,
        "format": facts.format,
        "mask_source": known.mask_source or None,
        "label": int(label[0]) if len(label) == 1 and abs(label[0]) < 1 << 31 else None,
        "metadata": ",".join(written.removed) or None,
    }
    sums = pack_sums(facts.format, "masks" in outputs, written.removed)
    rest = bytes(known.features.SerializeToString(deterministic=True))
    return rest, Result(outputs=outputs, row=row, sums=sums)


def set_feature(feature: Any, values: Sequence[Any]) -> None:
    """Sets a feature of a tf.Example to values of one type: bytes, integers or floats."""
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    kind = kinds[type(values[0])] if values else "bytes_list"
    getattr(feature, kind).value[:] = values


def pack_sums(format_name: str, has_mask: bool, removed: tuple[str, ...]) -> dict[str, Any]:
    """What a picture adds to the metrics of its shard."""
    found = {"formats": {format_name: 1}, "masks": int(has_mask)}
    return found | ({"metadata": dict.fromkeys(removed, 1)} if removed else {})


def split_example(example: bytes) -> tuple[bytes, bytes]:
    """A packed tf.Example without its picture, and the picture."""
    parsed = tf.train.Example.FromString(example)
    (image,) = parsed.features.feature[USUAL.image].bytes_list.value
    del parsed.features.feature[USUAL.image]
    return bytes(parsed.SerializeToString(deterministic=True)), image


def write_picture(image: bytes, picture: Picture, settings: PackOperator) -> Cleaned:
    """The picture as it is written, what was taken from it, and its format if it was made anew.

    Raises:
        Failure: it has metadata, and these are refused or cannot be taken away.
    """
    facts = picture.facts
    if settings.metadata == "refuse":
        try:
            kinds = metadata_of(image)
        except ValueError as error:
            raise Failure("decode", "metadata", f"{error}") from error
        if kinds:
            raise Failure(
                "decode",
                "metadata",
                f"it has {', '.join(kinds)}; --metadata strip takes that away",
            )
    if settings.format is not None:
        grey = facts.mode in ("1", "L") or facts.mode.startswith("I")
        pixels = picture.pixels[..., 0] if grey else picture.pixels
        how = dataclasses.replace(settings.format, source=synthetic_source(image))
        return Cleaned(encode_picture(pixels, how), (), how.name)
    if settings.metadata == "strip":
        return strip(image, facts.orientation)
    return Cleaned(image)


def pack_mask(
    data: bytes, size_hw: tuple[int, int], name: str, metadata: Policy = "strip"
) -> bytes:
    """A mask as grey PNG of class ids (see decode_mask). Raises a Failure."""
    if data.startswith(b"\xff\xd8\xff"):
        raise Failure(
            "decode",
            "mask_format",
            f"mask {name} is a JPEG, which changes ids at edges; make it from its original, as PNG",
        )
    ids = decode_mask(data, size_hw, name)
    if not (data.startswith(PNG_MAGIC) and data[24] in (8, 16) and data[25] == 0):
        return encode_png(ids)
    return data if metadata == "keep" else strip(data, 1).data


def _measured(record: Record, result: Result) -> Result:
    size = len(example_of(record, result.outputs))
    return dataclasses.replace(result, row={**result.row, "example_bytes": size})


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
