"""Rows decoded one after the other are what Pillow decodes at once."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from transforms.decode import DecodePolicy, decode
from transforms.failures import Failure
from transforms.tiling.rows import StreamedRows, WholeRows, open_rows

POLICY = DecodePolicy()
FORMATS = {
    "png": {"format": "PNG"},
    "jpeg": {"format": "JPEG", "quality": 90},
    "jpeg 444": {"format": "JPEG", "quality": 90, "subsampling": 0},
    "tiff": {"format": "TIFF"},
    "tiff lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "tiff deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
}


def picture(size_hw=(301, 203), grey=False):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 9) if grey else (12, 9, 3), np.uint8)
    return Image.fromarray(small).resize(size_hw[::-1], Image.Resampling.BICUBIC)


def encoded(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()


def streamed(data):
    return open_rows(data, POLICY, streamed_pixels=1)


def read_all(rows, step=37):
    height = rows.facts.size_hw[0]
    parts = [rows.read(min(step, height - first)) for first in range(0, height, step)]
    return np.concatenate(parts)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("how", FORMATS.values(), ids=FORMATS)
def test_streamed_pixels_and_facts_are_pillows(how, grey):
    data = encoded(picture(grey=grey), **how)
    rows = streamed(data)
    assert isinstance(rows, StreamedRows)
    whole = decode(data, POLICY)
    np.testing.assert_array_equal(read_all(rows), whole.pixels)
    assert rows.facts == whole.facts


def test_tiles_of_a_tiff_are_read_by_rows():
    pixels = np.asarray(picture())
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    rows = streamed(buffer.getvalue())
    assert isinstance(rows, StreamedRows)
    np.testing.assert_array_equal(read_all(rows), pixels)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def rotated():
    return encoded(picture(), format="JPEG", exif=turned())


@pytest.mark.parametrize(
    "data",
    [
        encoded(picture(), format="JPEG", progressive=True),
        encoded(picture().convert("RGBA"), format="PNG"),
        encoded(picture().convert("P"), format="PNG"),
        encoded(picture().convert("CMYK"), format="JPEG"),
        encoded(picture(), format="BMP"),
        rotated(),
        encoded(picture(), format="PNG", exif=turned()),
    ],
)
def test_what_needs_pillow_is_held_whole(data):
    rows = streamed(data)
    assert isinstance(rows, WholeRows)
    whole = decode(data, POLICY)
    np.testing.assert_array_equal(read_all(rows), whole.pixels)
    assert rows.facts == whole.facts


def test_pictures_of_a_million_rows_are_held_whole():
    """Pillow decodes one of 1 x 17,000,000 pixels in a second, libvips by rows in four minutes."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1_000_001), 7).save(buffer, "PNG")
    rows = open_rows(buffer.getvalue(), DecodePolicy(), streamed_pixels=1)
    assert isinstance(rows, WholeRows) and (rows.read(1_000_001) == 7).all()


def test_small_pictures_are_held_whole():
    assert isinstance(open_rows(encoded(picture(), format="PNG"), POLICY), WholeRows)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_file_that_was_cut_is_a_failure(kind):
    data = encoded(picture((900, 900)), format=kind)
    with pytest.raises(Failure) as failed:
        read_all(streamed(data[: len(data) // 2]))
    assert (failed.value.stage, failed.value.reason) == ("decode", "truncated")


def test_damage_is_a_failure():
    data = bytearray(encoded(picture((900, 900)), format="PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(Failure, match="libvips") as failed:
        read_all(streamed(bytes(data)))
    assert failed.value.reason == "corrupt"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colours_of_16_bits_which_pillow_reads_and_libvips_leaves_so_are_held_whole(kind):
    values = np.random.default_rng(0).integers(0, 65536, (30, 40, 3)).astype(">u2")
    if kind == "TIFF":
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, photometric="rgb")
        data = buffer.getvalue()
    else:
        lines = b"".join(b"\0" + row.tobytes() for row in values)  # 0: not filtered
        header = struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
            for name, part in parts
        )
    rows = streamed(data)
    assert isinstance(rows, WholeRows)
    np.testing.assert_array_equal(read_all(rows), values >> 8)


def test_the_limit_of_pixels_holds():
    data = encoded(picture(), format="PNG")
    with pytest.raises(Failure, match="raise --max_pixels") as failed:
        open_rows(data, DecodePolicy(max_pixels=50_000), streamed_pixels=1)
    assert failed.value.reason == "too_large"


def test_what_is_no_picture_is_told_by_the_decoder():
    with pytest.raises(Failure) as failed:
        streamed(b"nothing")
    assert failed.value.reason == "unsupported"


def test_pillows_own_limit_does_not_matter(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert isinstance(streamed(encoded(picture(), format="JPEG")), StreamedRows)
