"""Pictures of a run for its report: fetched again from the input and from OUT, and made small."""

import base64
import dataclasses
import io
import os
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from models.loading import import_tensorflow
from transforms import storage
from transforms.decode import MAX_PIXELS, DecodePolicy, decode
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.sink import FEATURES, RECORDS
from transforms.sources import FeatureNames, read_shard
from transforms.tfrecord import BadRecord, read_records

tf = import_tensorflow()

LONGEST_PX = 240
THUMBNAIL_PX = 112
_UNKNOWN_COLOR = "#9a9a9a"  # of ids that are in no legend
_PHOTO_QUALITY = 80

# A record: name of its shard and its index therein.
Place = tuple[str, int]
# The encoded picture, or why there is none; None where none was to be.
_Found = bytes | Failure
_Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One small picture.

    Attributes:
        kind: "image", "mask" or "overlay".
        uri: the picture as a data URI, "" when there is none.
        width, height: in pixels, 0 when there is no picture.
        problem: why there is none.
    """

    kind: str
    uri: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Where the pictures of a run are.

    Attributes:
        out: OUT.
        job: "segment": images are in the input, masks in OUT; "pack": both are in OUT;
            "generate": what was made is in OUT, what it was made from in the input, if anything;
            "describe": images are in the input, and nothing else is.
        shards: the plan's, by name.
        names: of the features in the input's tf.Examples.
        policy: how the run decoded.
        colors: "#rrggbb" by class id.
    """

    out: str
    job: str
    shards: Mapping[str, Shard]
    names: FeatureNames
    policy: DecodePolicy
    colors: Mapping[int, str]

    def cells(self, places: Collection[Place]) -> dict[Place, tuple[Cell, ...]]:
        """Image, mask and overlay of records. Each shard is read once, up to the last one wanted.

        Never raises for a picture: a cell that cannot be made says why.
        """
        found: dict[Place, tuple[Cell, ...]] = {}
        for name in sorted({name for name, _ in places}):
            indices = frozenset(index for shard, index in places if shard == name)
            try:
                for index, cells in self._shard_cells(self.shards[name], indices):
                    found[name, index] = cells
            except Exception as error:  # inputs and OUT may have changed in any way since
                why = f"shard {name} cannot be shown: {type(error).__name__}: {error}"
                for index in indices:
                    found.setdefault((name, index), (Cell("image", problem=why),))
        return found

    def thumbnails(self, places: Collection[Place]) -> dict[Place, Cell]:
        """Each picture of a generate or describe run alone, at its own size or made smaller."""
        found: dict[Place, Cell] = {}
        for name in sorted({name for name, _ in places}):
            indices = frozenset(index for shard, index in places if shard == name)
            fetch = self._made if self.job == "generate" else self._images
            try:
                images = fetch(self.shards[name], indices)
            except Exception as error:  # as in `cells`
                why = f"shard {name} cannot be shown: {type(error).__name__}: {error}"
                images = dict.fromkeys(indices, _unreadable(why))
            found |= {(name, index): thumbnail(image) for index, image in images.items()}
        return found

    def _shard_cells(
        self, shard: Shard, indices: Collection[int]
    ) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        if self.job == "pack":
            packed = self._written(shard, indices, "images")
            for index in indices:
                yield index, self._make(*_packed_pair(packed[index]))
            return
        if self.job == "generate":
            made = self._made(shard, indices)
            sources = {} if shard.items is not None else self._images(shard, indices)
            for index in indices:
                if self.policy.ids:  # made of masks
                    yield index, self._make(made[index], sources[index])
                    continue
                source = self._make(sources[index], None) if index in sources else ()
                yield index, (*source, *self._make(made[index], None))
            return
        if self.job == "describe":
            for index, image in self._images(shard, indices).items():
                yield index, self._make(image, None)
            return
        images = self._images(shard, indices)
        masks = self._masks(shard, indices)
        for index in indices:
            yield index, self._make(images[index], masks[index])

    def _images(self, shard: Shard, indices: Collection[int]) -> dict[int, _Found]:
        found: dict[int, _Found] = {}
        try:
            for record, load in read_shard(shard, self.names):
                if record.index in indices:
                    try:
                        found[record.index] = load if isinstance(load, Failure) else load()
                    except Failure as failure:
                        found[record.index] = failure
                if len(found) == len(indices):
                    break
        except OSError as error:
            return dict.fromkeys(indices, _unreadable(str(error)))
        gone = _unreadable(f"{shard.root} has no such record any more")
        return {index: found.get(index, gone) for index in indices}

    def _made(self, shard: Shard, indices: Collection[int]) -> dict[int, _Found]:
        """Pictures that the run made, from a tree of files or a TFRecord shard."""
        if storage.exists(os.path.join(self.out, "images", f"{shard.name}.tfrecord")):
            written = self._written(shard, indices, "images")
            return {index: _packed_pair(features)[0] for index, features in written.items()}
        rows = self._rows(shard, ["output_name", "format"]).to_pylist()
        names = {i: f"images/{rows[i]['output_name']}.{rows[i]['format']}" for i in indices}
        return {i: _read_file(self.out, name) for i, name in names.items()}

    def _masks(self, shard: Shard, indices: Collection[int]) -> dict[int, _Found | None]:
        if not shard.is_tfrecord:
            names = {i: f"masks/{shard.files[i].output_name}.png" for i in indices}
            return {i: _read_file(self.out, name) for i, name in names.items()}
        feature = f"{FEATURES['masks']}/encoded"
        gone = _unreadable(f"masks/{shard.name}.tfrecord has no mask for it")
        return {
            index: features if isinstance(features, Failure) else features.get(feature, gone)
            for index, features in self._written(shard, indices, "masks").items()
        }

    def _written(
        self, shard: Shard, indices: Collection[int], kind: str
    ) -> dict[int, dict[str, bytes] | Failure]:
        """Bytes features of records in OUT/<kind>/<shard>.tfrecord, which has no failed ones."""
        found: dict[int, dict[str, bytes] | Failure] = {}
        try:
            at = self._positions(shard, indices)
            with storage.open_read(os.path.join(self.out, kind, f"{shard.name}.tfrecord")) as file:
                for position, data in enumerate(read_records(file)):
                    if position in at:
                        found[at[position]] = _bytes_features(data)
                    if len(found) == len(indices):
                        break
        except OSError as error:
            return dict.fromkeys(indices, _unreadable(str(error)))
        gone = _unreadable(f"{kind}/{shard.name}.tfrecord has no such record")
        return {index: found.get(index, gone) for index in indices}

    def _positions(self, shard: Shard, indices: Collection[int]) -> dict[int, int]:
        """{position among the written records: index among all}. Raises OSError."""
        status = self._rows(shard, ["status"])["status"].to_pylist()
        return {status[:index].count("ok"): index for index in indices}

    def _rows(self, shard: Shard, columns: list[str]) -> pa.Table:
        """Columns of a shard's records file. Raises OSError."""
        data = storage.read_bytes(os.path.join(self.out, RECORDS, f"{shard.name}.parquet"))
        return pq.read_table(pa.BufferReader(data), columns=columns)

    def _make(self, image: _Found, mask: _Found | None) -> tuple[Cell, ...]:
        """Small pictures of one record: image, and where there is a mask, mask and overlay."""
        try:
            if isinstance(image, Failure):
                raise image
            _check_shown(image, self.policy)
            policy = dataclasses.replace(self.policy, draft_px=2 * LONGEST_PX, ids=False)
            picture = _shrink(decode(image, policy).pixels)
            cells = [_photo("image", picture)]
        except Failure as failure:
            picture = None
            cells = [Cell("image", problem=failure.message)]
        if mask is None:
            return tuple(cells)
        try:
            colored = self._color(mask, None if picture is None else picture.shape[:2])
        except Failure as failure:
            return (*cells, Cell("mask", problem=failure.message))
        cells.append(_drawing("mask", colored))
        if picture is not None:
            mixed = (picture.astype(np.uint16) + colored) // 2
            cells.append(_photo("overlay", mixed.astype(np.uint8)))
        return tuple(cells)

    def _color(self, mask: _Found, size_hw: tuple[int, ...] | None) -> _Pixels:
        """A mask in the colours of its classes, uint8 [h, w, 3], at a size or its own small one."""
        if isinstance(mask, Failure):
            raise mask
        try:
            _check_shown(mask, self.policy)
            with Image.open(io.BytesIO(mask)) as opened:
                ids = np.asarray(opened)
            height, width = size_hw or _small(ids.shape[0], ids.shape[1])
            rows, columns = _nearest(ids.shape[0], height), _nearest(ids.shape[1], width)
            values, inverse = np.unique(ids[rows][:, columns], return_inverse=True)
            palette = [_rgb(self.colors.get(int(value), _UNKNOWN_COLOR)) for value in values]
            return np.asarray(palette, np.uint8)[inverse.reshape(height, width)]
        except Failure:
            raise
        except Exception as error:  # whatever Pillow's plugins raise for a damaged file
            raise Failure("read", "mask_format", f"the mask cannot be read: {error}") from error


def _check_shown(data: bytes, policy: DecodePolicy) -> None:
    """Raises a Failure for a picture that would have to be held whole, and is of gigapixels."""
    if policy.max_pixels <= MAX_PIXELS:
        return
    Image.MAX_IMAGE_PIXELS = policy.max_pixels
    try:
        with Image.open(io.BytesIO(data)) as opened:
            width, height = opened.size
    except Exception:  # whatever Pillow raises: the decoder says it better
        return
    if width * height > MAX_PIXELS:
        raise Failure("decode", "too_large", f"{width}x{height} pixels are not shown in reports")


def thumbnail(image: _Found) -> Cell:
    """A picture of at most THUMBNAIL_PX; small ones keep every pixel."""
    try:
        if isinstance(image, Failure):
            raise image
        pixels = decode(image, DecodePolicy(draft_px=2 * THUMBNAIL_PX)).pixels
    except Failure as failure:
        return Cell("image", problem=failure.message)
    longest = max(pixels.shape[:2])
    if longest <= THUMBNAIL_PX:
        return _drawing("image", pixels)
    height, width = (max(1, side * THUMBNAIL_PX // longest) for side in pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return _photo("image", np.asarray(small))


def _packed_pair(features: dict[str, bytes] | Failure) -> tuple[_Found, _Found | None]:
    if isinstance(features, Failure):
        return features, None
    gone = _unreadable("the example holds no image")
    image = features.get(f"{FEATURES['images']}/encoded", gone)
    return image, features.get(f"{FEATURES['masks']}/encoded")


def _bytes_features(data: bytes | BadRecord) -> dict[str, bytes] | Failure:
    if isinstance(data, BadRecord):
        return Failure("read", "bad_record", data.message)
    features = tf.train.Example.FromString(data).features.feature
    return {name: f.bytes_list.value[0] for name, f in features.items() if f.bytes_list.value}


def _read_file(out: str, path: str) -> _Found:
    try:
        return storage.read_bytes(os.path.join(out, path))
    except OSError as error:
        return _unreadable(f"{path}: {error.strerror}")


def _unreadable(message: str) -> Failure:
    return Failure("read", "unreadable", message)


def _small(height: int, width: int) -> tuple[int, int]:
    """The size of the small picture: scaled down, or up by a whole factor."""
    longest = max(height, width)
    if longest <= LONGEST_PX:
        factor = LONGEST_PX // longest
        return height * factor, width * factor
    return max(1, height * LONGEST_PX // longest), max(1, width * LONGEST_PX // longest)


def _nearest(size: int, to: int) -> npt.NDArray[np.int64]:
    """Which of `size` rows stands for each of `to`: the one at its middle."""
    return (2 * np.arange(to, dtype=np.int64) + 1) * size // (2 * to)


def _shrink(pixels: _Pixels) -> _Pixels:
    """A picture, uint8 [H, W, 3], at its small size; enlarged ones keep their square pixels."""
    height, width = _small(*pixels.shape[:2])
    larger = height > pixels.shape[0]
    method = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def _photo(kind: str, pixels: _Pixels) -> Cell:
    return _cell(kind, pixels, "jpeg", quality=_PHOTO_QUALITY, optimize=True)


def _drawing(kind: str, pixels: _Pixels) -> Cell:
    return _cell(kind, pixels, "png", optimize=True)


def _cell(kind: str, pixels: _Pixels, fmt: str, **options: int) -> Cell:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return Cell(kind, f"data:image/{fmt};base64,{data}", width, height)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
