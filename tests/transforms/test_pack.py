"""Packing: bytes of images kept, masks turned into grey ids, everything odd refused by reason."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from transforms.clock import Clock
from transforms.decode import DecodePolicy, decode
from transforms.failures import Failure
from transforms.feature_names import SCHEMAS, USUAL
from transforms.inputs import ImageFile, Shard
from transforms.label_sources.targets import Target
from transforms.metadata.strip import synthetic_source
from transforms.pack import (
    COLUMNS,
    PackOperator,
    Source,
    pack_mask,
    pack_picture,
    read_features,
)
from transforms.picture_files import MADE, PictureFormat, encode_picture
from transforms.records import Record
from transforms.shard_work import process_shard
from transforms.sink import Sink

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def encoded(image, format_="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def picture(height=3, width=4, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return encoded(Image.fromarray(pixels))


def ids_in(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def reason_of(data, size_hw=(3, 4)):
    with pytest.raises(Failure) as caught:
        pack_mask(data, size_hw, "m.png")
    assert "m.png" in caught.value.message
    return caught.value.reason


# ---- masks


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF"])
def test_grey_values_are_ids(format_):
    packed = ids_in(pack_mask(encoded(Image.fromarray(IDS), format_), (3, 4), "m"))
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, IDS)


def test_palette_indices_are_ids_whatever_their_colours():
    image = Image.fromarray(IDS, "P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    np.testing.assert_array_equal(ids_in(pack_mask(encoded(image), (3, 4), "m")), IDS)
    with_alpha = encoded(image, transparency=0)
    np.testing.assert_array_equal(ids_in(pack_mask(with_alpha, (3, 4), "m")), IDS)


def test_one_bit_masks_are_zero_and_one():
    packed = ids_in(pack_mask(encoded(Image.fromarray(IDS > 5)), (3, 4), "m"))
    np.testing.assert_array_equal(packed, (IDS > 5).astype(np.uint8))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_ids_above_255_stay_sixteen_bit(mode):
    ids = IDS.astype(np.uint16) * 5000
    image = Image.fromarray(ids)
    if mode == "I;16B":
        image = Image.frombytes("I;16B", (4, 3), ids.astype(">u2").tobytes())
    elif mode == "I":
        image = Image.fromarray(ids.astype(np.int32))
    packed = pack_mask(encoded(image, "TIFF"), (3, 4), "m")
    np.testing.assert_array_equal(ids_in(packed), ids)
    decoded = tf.io.decode_png(packed, dtype=tf.uint16).numpy()[..., 0]
    np.testing.assert_array_equal(decoded, ids)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK", "F"])
def test_masks_of_colours_are_refused(mode):
    image = Image.fromarray(IDS).convert(mode)
    format_ = "TIFF" if mode in ("CMYK", "F") else "PNG"
    assert reason_of(encoded(image, format_)) == "mask_format"


@pytest.mark.parametrize("value", [-1, 65536])
def test_ids_beyond_sixteen_bits_are_refused(value):
    ids = IDS.astype(np.int32)
    ids[0, 0] = value
    assert reason_of(encoded(Image.fromarray(ids), "TIFF")) == "mask_format"


@pytest.mark.parametrize("size_hw", [(4, 3), (3, 5), (6, 8)])
def test_masks_of_another_size_are_refused(size_hw):
    assert reason_of(encoded(Image.fromarray(IDS)), size_hw) == "mask_size"


@pytest.mark.parametrize("data", [b"", b"text", encoded(Image.fromarray(IDS))[:50]])
def test_masks_that_cannot_be_read_are_refused(data):
    assert reason_of(data) == "mask_format"


def test_a_mask_with_a_huge_header_is_refused_before_it_is_decoded(monkeypatch):
    data = bytearray(encoded(Image.fromarray(IDS)))
    data[16:29] = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    loaded = []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # else Pillow refuses it even earlier
    monkeypatch.setattr(Image.Image, "load", lambda self: loaded.append(self.size))
    assert reason_of(bytes(data)) == "mask_size"
    assert loaded == []


# ---- images


def test_an_image_keeps_its_bytes():
    data = picture()
    _, packed = packed_as(data)
    assert packed.outputs["images"].data == data and packed.outputs["images"].format == "png"
    assert set(packed.outputs) == {"images"}
    told = {name: value for name, value in packed.row.items() if value is not None}
    assert told == {"width": 4, "height": 3, "format": "PNG"}
    assert packed.sums == {"formats": {"PNG": 1}, "masks": 0}


def packed_as(data, target=Target(), mask=None, given="", example=None, **settings):
    """The features and the result of one picture."""
    operator = PackOperator(Sink("/o", "images", "tfrecord", COLUMNS), **settings)
    known = Source(example or tf.train.Example(), mask, "m" if mask else "", given)
    picture_ = decode(data, operator.policy)
    features, result = pack_picture(known, data, picture_, target, operator)
    return tf.train.Example.FromString(features).features.feature, result


def photo_with_metadata(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    image = Image.open(io.BytesIO(picture(8, 16)))
    return encoded(image, "JPEG", exif=exif, comment="secret")


def test_metadata_is_taken_away_kept_or_refused():
    data = photo_with_metadata()
    features, packed = packed_as(data)
    clean = packed.outputs["images"].data
    assert b"maker" not in clean and b"secret" not in clean
    np.testing.assert_array_equal(
        decode(clean, DecodePolicy()).pixels, decode(data, DecodePolicy()).pixels
    )
    assert packed.row["metadata"] == "EXIF,comment" and packed.row["width"] == 8
    assert packed.sums["metadata"] == {"EXIF": 1, "comment": 1}
    assert features["image/width"].int64_list.value == [16]  # as stored: orientation has stayed
    _, kept = packed_as(data, metadata="keep")
    assert kept.outputs["images"].data == data and kept.row["metadata"] is None
    with pytest.raises(Failure, match="it has EXIF, comment; --metadata strip") as caught:
        packed_as(data, metadata="refuse")
    assert caught.value.reason == "metadata"
    assert packed_as(picture(), metadata="refuse")[1].outputs["images"].data == picture()


@pytest.mark.parametrize("codec", ["png", "jpeg", "webp", "avif"])
def test_another_codec(codec):
    data = photo_with_metadata()
    how = PictureFormat(codec, source="")
    features, packed = packed_as(data, format=how)
    written = packed.outputs["images"]
    with Image.open(io.BytesIO(written.data)) as image:
        assert image.format.lower() == written.format == codec
        assert image.size == (8, 16) and not image.getexif() and "xmp" not in image.info
    assert features["image/width"].int64_list.value == [8]  # upright now
    grey = encoded(Image.fromarray(IDS))
    with Image.open(io.BytesIO(packed_as(grey, format=how)[1].outputs["images"].data)) as image:
        assert image.mode in ("L", "RGB") and (image.mode == "L" or codec in ("webp", "avif"))


def test_a_synthetic_picture_stays_one_in_another_codec():
    made = encode_picture(np.zeros((4, 4, 3), np.uint8), PictureFormat())
    _, packed = packed_as(made, format=PictureFormat("jpeg", source=""))
    assert synthetic_source(packed.outputs["images"].data) == MADE
    assert synthetic_source(packed_as(made)[1].outputs["images"].data) == MADE


def test_masks_of_grey_keep_their_bytes_and_lossy_ones_are_refused():
    grey = encoded(Image.fromarray(IDS), compress_level=9)
    assert pack_mask(grey, (3, 4), "m") == grey
    sixteen = encoded(Image.fromarray(IDS.astype(np.uint16) * 300))
    assert pack_mask(sixteen, (3, 4), "m") == sixteen
    exif = Image.Exif()
    exif[0x010F] = "maker"
    told = encoded(Image.fromarray(IDS), exif=exif)
    assert pack_mask(told, (3, 4), "m", "keep") == told
    assert b"maker" not in pack_mask(told, (3, 4), "m")
    assert reason_of(encoded(Image.fromarray(IDS), "JPEG")) == "mask_format"


def test_targets_become_masks_and_labels():
    features, packed = packed_as(picture(), Target(label=3, text="cat"))
    assert features["image/class/label"].int64_list.value == [3]
    assert features["image/class/text"].bytes_list.value == [b"cat"]
    assert packed.row["label"] == 3
    _, packed = packed_as(picture(), Target(mask=IDS))
    np.testing.assert_array_equal(ids_in(packed.outputs["masks"].data), IDS)


def test_what_a_record_says_stays_as_it_is():
    """Of a picture that keeps its bytes: its format as it was written, and its size."""
    example = tf.train.Example()
    example.features.feature["image/height"].int64_list.value.append(99)
    example.features.feature["other"].float_list.value.append(0.5)
    features, packed = packed_as(picture(), given="PNG", example=example)
    assert packed.outputs["images"].format == "PNG"
    assert features["image/height"].int64_list.value == [99]
    assert features["image/width"].int64_list.value == [4]
    assert features["other"].float_list.value == [0.5]


def record_of(names=USUAL, **features):
    example = tf.train.Example()
    for name, value in features.items():
        example.features.feature[getattr(names, name, name)].bytes_list.value[:] = value
    return Record(0, "k", "s#0", features=bytes(example.SerializeToString()))


def test_features_by_any_schema():
    names = SCHEMAS["tfds"]
    found = read_features(record_of(names, mask=[b"m"], key=[b"a"], other=[b"x"]), names)
    assert found.mask == b"m" and found.mask_source == "s#0" and found.format == ""
    assert set(found.features.features.feature) == {"image/filename", "other"}
    with pytest.raises(Failure, match=r"got 2; .*--mask_feature"):
        read_features(record_of(mask=[b"m", b"n"]), USUAL)
    assert read_features(record_of(), USUAL).mask is None


# ---- a shard


@pytest.fixture
def folder(tmp_path):
    """Pictures with masks, one of each thing that can go wrong."""
    root = tmp_path / "in"
    root.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "good.png": picture(),
        "good_mask.png": encoded(Image.fromarray(IDS)),
        "turned.png": encoded(Image.open(io.BytesIO(picture(4, 3))), exif=exif),
        "turned_mask.png": encoded(Image.fromarray(IDS)),
        "broken.png": picture()[:40],
        "broken_mask.png": encoded(Image.fromarray(IDS)),
        "wrong.png": picture(5, 5),
        "wrong_mask.png": encoded(Image.fromarray(IDS)),
        "alone.png": picture(),
        "lost.png": picture(),
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    masked = ["good", "turned", "broken", "wrong", "lost"]
    images = [ImageFile(f"{n}.png", n, 9, f"{n}_mask.png") for n in masked]
    images += [ImageFile("alone.png", "alone", 9), ImageFile("gone.png", "gone", 9)]
    return Shard("in-00000-of-00001", str(root), 63, tuple(images))


def run(tmp_path, shard, threads=3, **settings):
    out = tmp_path / f"out{threads}"
    operator = PackOperator(
        Sink(str(out), "images", "tfrecord", COLUMNS), threads=threads, **settings
    )
    report = process_shard(shard, operator.open, operator.sink)
    path = out / f"images/{shard.name}.tfrecord"
    records = [
        tf.train.Example.FromString(data).features.feature
        for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    return report, records


def test_a_shard_of_images_and_masks(tmp_path, folder):
    report, records = run(tmp_path, folder, masks_expected=True)
    assert report.error is None
    assert report.failed_by_reason == {
        "corrupt": 1,  # broken.png, cut within its first chunks
        "mask_missing": 2,  # alone.png has none, the one of lost.png has gone
        "mask_size": 1,
        "unreadable": 1,
    }
    assert report.sums["masks"] == 2 and report.sums["formats"] == {"PNG": 2}
    good, turned = records
    assert good["image/filename"].bytes_list.value == [b"good.png"]
    assert good["image/encoded"].bytes_list.value == [picture()]
    assert good["image/height"].int64_list.value == [3]
    assert good["image/width"].int64_list.value == [4]
    np.testing.assert_array_equal(
        ids_in(good["image/segmentation/class/encoded"].bytes_list.value[0]), IDS
    )
    # the mask fits the upright picture; the size is the one of the bytes, as readers see it
    assert turned["image/height"].int64_list.value == [4]
    assert turned["image/width"].int64_list.value == [3]


def test_images_without_masks_are_fine_unless_masks_are_expected(tmp_path, folder):
    report, records = run(tmp_path, folder, masks_expected=False)
    assert report.failed_by_reason["mask_missing"] == 1  # lost.png was promised one
    assert [r["image/filename"].bytes_list.value[0] for r in records] == [
        b"good.png",
        b"turned.png",
        b"alone.png",
    ]
    assert "image/segmentation/class/encoded" not in records[2]


def test_threads_do_not_change_a_byte(tmp_path, folder):
    reports = [run(tmp_path, folder, threads)[0] for threads in (1, 4)]
    assert reports[0].files == reports[1].files
    assert reports[0].sums == reports[1].sums


def test_the_clock_knows_the_stages(folder, tmp_path):
    clock = Clock()
    operator = PackOperator(Sink(str(tmp_path / "o"), "images", "tfrecord", COLUMNS), threads=2)
    assert len(list(operator.open()(folder, clock))) == 7
    spent = clock.microseconds()
    assert spent["read"] > 0 and spent["decode"] > 0 and spent["model"] == 0
