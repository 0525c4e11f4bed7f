"""Pictures of many megapixels in reports: read by rows, and small as if they were held whole."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.large_thumbnails import small_mask, small_picture
from pipeline.thumbnails import picture_and_mask
from transforms.decode import DecodePolicy, decode
from transforms.evaluation.encodings import resize_nearest
from transforms.failures import Failure
from transforms.png import encode_png
from transforms.tiling.rows import open_streamed

POLICY = DecodePolicy()
COLORS = {0: "#ff0000", 1: "#00ff00", 2: "#0000ff"}


def picture(size_hw):
    coarse = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BICUBIC)


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("small_hw", [(24, 20), (1, 7), (150, 100)])
def test_small_forms_are_those_of_the_whole(small_hw):
    size_hw = (301, 203)
    rows = open_streamed(encoded(picture(size_hw)), POLICY, streamed_pixels=1)
    got = small_picture(rows, small_hw)
    by_pillow = picture(size_hw).resize(small_hw[::-1], Image.Resampling.BOX)
    assert got.shape == (*small_hw, 3)
    assert np.abs(got.astype(int) - np.asarray(by_pillow)).mean() < 3
    mask = np.random.default_rng(1).integers(0, 200, size_hw).astype(np.uint8)
    rows = open_streamed(encode_png(mask), POLICY, streamed_pixels=1)
    np.testing.assert_array_equal(small_mask(rows, small_hw), resize_nearest(mask, small_hw))


def test_a_picture_above_what_may_be_held_is_shown_with_its_mask():
    """Of 120 megapixels; flat, since it is about how it is read."""
    size_hw = (2000, 60_000)
    policy = DecodePolicy(max_pixels=200_000_000)
    mask = np.zeros(size_hw, np.uint8)
    mask[:, 30_000:] = 2
    image = encoded(Image.new("RGB", size_hw[::-1], (90, 90, 90)), "JPEG")
    cells = picture_and_mask(image, encode_png(mask), policy, COLORS)
    assert [(c.kind, c.problem, c.width, c.height) for c in cells] == [
        (kind, "", 240, 8) for kind in ("image", "mask", "overlay")
    ]
    data = base64.b64decode(cells[1].uri.partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (shown[:, :120] == (255, 0, 0)).all() and (shown[:, 120:] == (0, 0, 255)).all()


def test_a_mask_of_fewer_rows_than_its_picture_is_shown_with():
    mask = encode_png(np.full((2, 8_000_000), 1, np.uint8))
    cells = picture_and_mask(encoded(picture((100, 100))), mask, POLICY, COLORS)
    assert [(c.kind, c.problem, c.width, c.height) for c in cells] == [
        (kind, "", 200, 200) for kind in ("image", "mask", "overlay")
    ]


def test_damage_is_told():
    data = encoded(picture((4200, 4100)), "JPEG")
    cells = picture_and_mask(data[: len(data) // 2], None, POLICY, COLORS)
    assert "premature end" in cells[0].problem
    with pytest.raises(Failure):
        decode(data[: len(data) // 2], POLICY)
