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
from transforms.inputs import ImageFile, Shard
from transforms.pack import COLUMNS, PackOperator, pack_image, pack_mask
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
    facts = decode(data, DecodePolicy()).facts
    packed = pack_image(data, facts, None, "")
    assert packed.outputs["images"].data == data and packed.outputs["images"].format == "png"
    assert set(packed.outputs) == {"images"}
    assert packed.row == {"width": 4, "height": 3, "format": "PNG", "mask_source": None}
    assert packed.sums == {"formats": {"PNG": 1}, "masks": 0}


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
