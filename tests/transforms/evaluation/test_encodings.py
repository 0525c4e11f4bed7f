"""Masks as the field encodes them: read as values, coded as classes."""

import io

import numpy as np
import pytest
from PIL import Image
from support import real_data

from transforms.evaluation.encodings import Coding, decode_values, resize_nearest
from transforms.failures import Failure

CLASSES = 3
IDS = np.array([[0, 1, 2], [255, 7, 0]], np.uint8)
CODES = [[0, 1, 2], [CLASSES, CLASSES + 1, 0]]


def png(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **how)
    return buffer.getvalue()


def palette(ids):
    image = Image.fromarray(ids)
    image = image.convert("P")
    image.putpalette([channel for i in range(256) for channel in (i * 7 % 256, i, 255 - i)])
    return image


def rgb_of(ids, colors):
    return Image.fromarray(np.array(colors, np.uint8)[ids])


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(IDS),
        palette(IDS),
        Image.fromarray(IDS.astype(np.uint16)),
        Image.fromarray(np.repeat(IDS[..., None], 3, axis=2)),
        Image.fromarray(np.dstack([IDS, IDS, IDS, np.full_like(IDS, 9)])),
    ],
    ids=["L", "P", "16 bit", "RGB of ids", "RGBA of ids"],
)
def test_ids(image):
    values = decode_values(png(image), "ids", "m")
    assert values.tolist() == IDS.tolist()
    assert Coding(CLASSES, ignore_ids=(255,))(values).tolist() == CODES


def test_one_bit():
    bits = np.array([[True, False], [False, True]])
    values = decode_values(png(Image.fromarray(bits)), "ids", "m")
    assert Coding(2)(values).tolist() == [[1, 0], [0, 1]]
    assert Coding(2, "inverted")(values).tolist() == [[0, 1], [1, 0]]


def test_black_and_white():
    values = decode_values(png(Image.fromarray(np.array([[0, 255, 128]], np.uint8))), "binary", "m")
    assert Coding(2, "binary")(values).tolist() == [[0, 1, 3]]  # 128 is neither
    assert Coding(2, "binary", ignore_ids=(128,))(values).tolist() == [[0, 1, 2]]
    assert Coding(2, "inverted")(values).tolist() == [[1, 0, 3]]
    wide = np.array([[0, 65535]], np.uint16)
    assert Coding(2, "binary")(wide).tolist() == [[0, 1]]


def test_colours_of_a_legend():
    colors = [(0, 0, 0), (128, 64, 0), (64, 128, 0)]
    image = rgb_of(np.array([[0, 1], [2, 1]]), colors)
    image.putpixel((0, 0), (1, 2, 3))
    coding = Coding(
        CLASSES,
        "rgb",
        colors=tuple((r << 16 | g << 8 | b, i) for i, (r, g, b) in enumerate(colors)),
    )
    assert coding(decode_values(png(image), "rgb", "m")).tolist() == [[4, 1], [2, 1]]
    quantised = image.quantize(8)  # a palette picture of the same colours
    assert coding(decode_values(png(quantised), "rgb", "m")).tolist() == [[4, 1], [2, 1]]


def test_instances():
    values = np.array([[0, 7, 1002, 26001, 300]], np.uint16)
    assert Coding(30, "instances")(values).tolist() == [[0, 1, 1, 1, 1]]
    assert Coding(30, "instances", divisor=1000)(values).tolist() == [[0, 7, 1, 26, 31]]


def test_label_spaces_are_mapped_after_what_is_ignored():
    values = np.arange(6, dtype=np.uint8)[None]
    coding = Coding(CLASSES, ignore_ids=(5,), class_map=((3, 0), (4, -1), (0, 2)))
    assert coding(values).tolist() == [[2, 1, 2, 0, CLASSES, CLASSES]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_all_widths_code_alike(dtype):
    coding = Coding(CLASSES, ignore_ids=(255,), class_map=((7, 1),))
    assert coding(IDS.astype(dtype)).tolist() == [[0, 1, 2], [CLASSES, 1, 0]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "mask_format"),
        (png(Image.fromarray(IDS))[:48], "mask_format"),
        (png(rgb_of(IDS % 3, [(1, 2, 3)] * 3)), "mask_format"),
        (png(Image.new("L", (400, 400))), "too_large"),
    ],
)
def test_what_is_no_mask_is_a_failure(data, reason):
    with pytest.raises(Failure) as failure:
        decode_values(data, "ids", "m.png", 100_000)
    assert failure.value.reason == reason and "m.png" in failure.value.message


def test_the_limit_of_pixels_is_the_one_that_was_asked_for(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_values(png(Image.new("L", (40, 40))), "ids", "m.png", 1600).shape == (40, 40)
    with pytest.raises(Failure, match="1,599 are allowed"):
        decode_values(png(Image.new("L", (40, 40))), "ids", "m.png", 1599)


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 3), (4, 6), (13, 11)])
def test_resizing_takes_the_value_at_the_centre_as_pillow_does(size_hw):
    values = np.random.default_rng(3).integers(0, 200, (5, 7)).astype(np.uint8)
    expected = Image.fromarray(values).resize(size_hw[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_nearest(values, size_hw), np.asarray(expected))


@pytest.mark.real_data
def test_masks_of_the_field_are_read():
    nuclei = real_data("nuclei_dsb2018")
    coral = real_data("coral_bmp_pairs")
    for path, encoding, ids in (
        (f"{coral}/cityscapes_segmentation_mask.bmp", "ids", {0, 1, 2, 4, 5, 8, 9, 13}),
        (f"{coral}/bird_segmentation_mask.bmp", "ids", {0, 1, 2, 3}),
    ):
        with open(path, "rb") as file:
            values = decode_values(file.read(), encoding, path)
        assert set(np.unique(Coding(20)(values)).tolist()) == ids
    import pathlib

    for path in sorted(pathlib.Path(nuclei, "instances").iterdir())[:5]:
        instances = decode_values(path.read_bytes(), "instances", path.name)
        mask = decode_values((pathlib.Path(nuclei, "masks") / path.name).read_bytes(), "ids", "m")
        np.testing.assert_array_equal(Coding(2, "instances")(instances), Coding(2)(mask))
