"""Decoding: the right picture, or a Failure with a fitting reason; never anything else."""

import io
import json
import math
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from transforms.decode import DecodePolicy, Picture, bright_step, bright_sum, decode
from transforms.failures import REASONS, Failure

POLICY = DecodePolicy()


def encoded(image, format_, **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def photo(height=24, width=36, channels=3):
    """Smooth colours, so that lossy formats stay close."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [y * 200 / height + 20, x * 200 / width + 20, (x + y) * 2 + 30, 255 - x * 3]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def reason_of(data, policy=POLICY):
    with pytest.raises(Failure) as caught:
        decode(data, policy)
    assert caught.value.stage == "decode"
    assert caught.value.message
    return caught.value.reason


def png(width, height, depth=8, color=2, body=b""):
    """A PNG by hand: its header says what we like."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


# ---- formats and colours


@pytest.mark.parametrize(
    "format_", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "JPEG", "JPEG2000"]
)
def test_formats_give_the_pixels(format_):
    pixels = photo()
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}.get(
        format_, {}
    )
    picture = decode(encoded(Image.fromarray(pixels), format_, **options), POLICY)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == (24, 36, 3)
    tolerance = {"JPEG": 8, "GIF": 60}.get(format_, 0)
    difference = np.abs(picture.pixels.astype(int) - pixels.astype(int))
    assert difference.max() <= tolerance
    facts = picture.facts
    assert (facts.size_hw, facts.stored_hw, facts.orientation) == ((24, 36), (24, 36), 1)
    assert facts.format == format_ and facts.mode == ("P" if format_ == "GIF" else "RGB")
    assert facts.brightness == pytest.approx(picture.pixels.mean(), abs=1e-9)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "LAB", "I;16", "I"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(photo(channels=1)[..., 0])
    if mode.startswith("I"):
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257).convert(mode)
    else:
        image = image.convert("RGB").convert(mode)
    format_ = "TIFF" if mode in ("CMYK", "LAB", "I") else "PNG"
    picture = decode(encoded(image, format_), POLICY)
    assert picture.facts.mode == mode
    expected = np.asarray(Image.fromarray(photo(channels=1)[..., 0]).convert("RGB"))
    if mode == "1":
        assert set(np.unique(picture.pixels)) == {0, 255}
    elif mode == "P":
        np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    else:
        assert np.abs(picture.pixels.astype(int) - expected.astype(int)).max() <= 4


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_by_257_never_clipped(format_):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = decode(encoded(Image.fromarray(values), format_), POLICY).pixels
    expected = np.rint(values / 257).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], expected)


def test_bytes_widened_to_sixteen_bits_come_back():
    pixels = photo(channels=1)[..., 0]
    data = encoded(Image.fromarray(pixels.astype(np.uint16) * 257), "PNG")
    np.testing.assert_array_equal(decode(data, POLICY).pixels[..., 0], pixels)


def test_big_endian_sixteen_bit_grey():
    values = (np.arange(600).reshape(20, 30) * 109).astype(">u2")
    image = Image.frombytes("I;16B", (30, 20), values.tobytes())
    pixels = decode(encoded(image, "TIFF"), POLICY).pixels
    np.testing.assert_array_equal(pixels[..., 0], np.rint(values / 257))


def test_grey_beyond_sixteen_bits_is_unsupported():
    for values in ([[-1, 5]], [[0, 65536]]):
        image = Image.fromarray(np.array(values, np.int32))
        assert reason_of(encoded(image, "TIFF")) == "unsupported"


def test_floats_are_unsupported():
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert reason_of(encoded(image, "TIFF")) == "unsupported"


# ---- alpha


def half_transparent():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., :3] = (200, 100, 0)
    rgba[0, :, 3] = 255
    rgba[1, 1, 3] = 51  # a fifth; rgba[1, 0] is fully transparent
    return Image.fromarray(rgba)


@pytest.mark.parametrize(
    ("alpha", "clear", "fifth"),
    [
        ("drop", (200, 100, 0), (200, 100, 0)),
        ("white", (255, 255, 255), (244, 224, 204)),
        ("black", (0, 0, 0), (40, 20, 0)),
    ],
)
def test_alpha_policies(alpha, clear, fifth):
    pixels = decode(encoded(half_transparent(), "PNG"), DecodePolicy(alpha=alpha)).pixels
    assert pixels.shape == (2, 2, 3)
    assert pixels[0].tolist() == [[200, 100, 0]] * 2
    assert pixels[1, 0].tolist() == list(clear)
    np.testing.assert_allclose(pixels[1, 1], fifth, atol=1)


@pytest.mark.parametrize(("alpha", "expected"), [("drop", 10), ("white", 255), ("black", 0)])
def test_a_transparent_palette_colour_is_alpha_too(alpha, expected):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 10, 10, 90, 90, 90])
    data = encoded(image, "PNG", transparency=0)
    pixels = decode(data, DecodePolicy(alpha=alpha)).pixels
    assert pixels[0].tolist() == [[expected] * 3, [90] * 3]


# ---- orientation


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_and_say_what_was_done(format_, orientation):
    upright = photo(24, 40)
    turn_back = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(turn_back(upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = encoded(image, format_, exif=exif, **options.get(format_, {}))
    picture = decode(data, POLICY)
    difference = np.abs(picture.pixels.astype(int) - upright.astype(int))
    assert difference.max() <= (8 if format_ == "JPEG" else 0)
    assert picture.facts.orientation == orientation
    assert picture.facts.size_hw == (24, 40)
    assert picture.facts.stored_hw == ((24, 40) if orientation < 5 else (40, 24))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(Image.fromarray(photo()), "PNG", exif=exif), POLICY)
    np.testing.assert_array_equal(picture.pixels, photo())
    assert picture.facts.orientation == 1


# ---- limits


def test_a_huge_header_is_refused_before_anything_is_allocated():
    tracemalloc.start()
    try:
        assert reason_of(png(20000, 20000)) == "too_large"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_the_limit_is_inclusive_and_its_message_names_the_flag():
    data = encoded(Image.fromarray(photo(10, 10)), "PNG")
    assert decode(data, DecodePolicy(max_pixels=100)).facts.size_hw == (10, 10)
    with pytest.raises(Failure, match=r"10x10 = 100 pixels, at most 99 are.*--max_pixels"):
        decode(data, DecodePolicy(max_pixels=99))


def test_a_picture_hidden_in_an_icon_is_limited_too(monkeypatch):
    hidden = encoded(Image.new("L", (3000, 3000)), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(hidden), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + hidden
    decoded = []
    load = Image.core.new
    monkeypatch.setattr(
        Image.core, "new", lambda mode, size: decoded.append(size) or load(mode, size)
    )
    assert reason_of(icon, DecodePolicy(max_pixels=1000)) == "too_large"
    assert decoded == []


def test_postscript_is_never_run():
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert reason_of(program) == "unsupported"


def test_large_text_in_a_png_is_refused():
    image = Image.fromarray(photo(4, 4))
    data = encoded(image, "PNG")
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(80 << 20), 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    assert reason_of(data[:33] + chunk + data[33:]) == "too_large"


# ---- draft


@pytest.mark.parametrize(
    ("draft_px", "expected_hw"),
    [(None, (240, 320)), (241, (240, 320)), (120, (120, 160)), (60, (60, 80)), (8, (30, 40))],
)
def test_a_jpeg_may_be_decoded_at_a_fraction_of_its_size(draft_px, expected_hw):
    data = encoded(Image.fromarray(photo(240, 320)), "JPEG", quality=95)
    picture = decode(data, DecodePolicy(draft_px=draft_px))
    assert picture.facts.size_hw == picture.pixels.shape[:2] == expected_hw
    assert picture.facts.stored_hw == (240, 320)
    full = Image.open(io.BytesIO(data)).resize(expected_hw[::-1], Image.Resampling.BOX)
    assert np.abs(picture.pixels.astype(int) - np.asarray(full).astype(int)).mean() < 4


def test_draft_is_for_jpeg_only():
    data = encoded(Image.fromarray(photo(64, 64)), "PNG")
    assert decode(data, DecodePolicy(draft_px=8)).facts.size_hw == (64, 64)


# ---- what is no picture


def test_zero_bytes_are_empty():
    assert reason_of(b"") == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"this is a text file called photo.jpg\n" * 40,
        b"<html><body>404 Not Found</body></html>",
        b"\0" * 1000,
        b"\0",
        b"PK\x03\x04" + bytes(60),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"GRIB" + bytes(20),
    ],
)
def test_other_files_are_unsupported(data):
    assert reason_of(data) == "unsupported"


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_half_a_file_is_truncated_or_corrupt(format_):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))
    data = encoded(image, format_)
    assert reason_of(data[: len(data) // 2]) in ("truncated", "corrupt")


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP"])
def test_a_cut_file_is_called_truncated(format_):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8))
    data = encoded(image, format_)
    assert reason_of(data[: len(data) * 3 // 4]) == "truncated"


def test_a_damaged_webp_is_corrupt_not_unsupported():
    data = encoded(Image.fromarray(photo()), "WEBP")
    assert reason_of(data[:16] + bytes(len(data) - 16)) == "corrupt"


def test_messages_are_short_and_the_same_every_time():
    data = b"\x89PNG\r\n\x1a\n" + bytes(9000)
    messages = set()
    for _ in range(3):
        with pytest.raises(Failure) as caught:
            decode(data, POLICY)
        messages.add(caught.value.message)
    (message,) = messages
    assert len(message) < 300 and "0x" not in message.replace(r"\x", "")


def test_the_first_frame_of_many():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    for format_ in ("GIF", "PNG", "TIFF", "WEBP"):
        data = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
        mean = decode(data, POLICY).pixels.reshape(-1, 3).mean(0)
        np.testing.assert_allclose(mean, (255, 0, 0), atol=6)


# ---- fuzzing


def seeds():
    image = Image.fromarray(photo(12, 17))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return [
        encoded(image, "PNG", exif=exif),
        encoded(image.convert("P"), "PNG", transparency=3),
        encoded(image, "JPEG", exif=exif),
        encoded(image, "JPEG", progressive=True),
        encoded(image, "GIF"),
        encoded(image, "TIFF", exif=exif),
        encoded(image, "TIFF", compression="tiff_lzw"),
        encoded(image, "WEBP"),
        encoded(image, "BMP"),
    ]


def mutate(rng, data):
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(damaged) or 1)
        how = rng.randrange(5)
        if how == 0:
            damaged[at : at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            damaged[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        elif how == 2:
            del damaged[at : at + rng.randrange(1, 30)]
        elif how == 3:
            damaged[at:at] = rng.randbytes(rng.randrange(1, 12))
        else:
            del damaged[at:]
        if not damaged:
            return b""
    return bytes(damaged)


def test_mutated_files_give_a_picture_or_a_failure(capfd):
    rng = random.Random(20240607)
    policy = DecodePolicy(max_pixels=200_000)
    pictures, reasons = 0, {}
    originals = seeds()
    for number in range(1500):
        data = mutate(rng, originals[number % len(originals)])
        try:
            picture = decode(data, policy)
        except Failure as failure:
            assert failure.stage == "decode" and failure.reason in REASONS
            reasons[failure.reason] = reasons.get(failure.reason, 0) + 1
        else:
            assert isinstance(picture, Picture)
            height, width = picture.facts.size_hw
            assert picture.pixels.shape == (height, width, 3)
            assert picture.pixels.dtype == np.uint8 and height * width <= policy.max_pixels
            pictures += 1
    assert pictures > 100
    assert set(reasons) >= {"corrupt", "truncated", "too_large"}
    capfd.readouterr()  # libtiff writes to stderr by itself


# ---- real files


def real_files():
    folder = os.environ.get("PIXELMILL_REAL_DATA")
    if not folder:
        skipped = pytest.mark.skip(reason="PIXELMILL_REAL_DATA does not name the real images")
        return [pytest.param(None, id="no real data", marks=skipped)]
    listed = json.loads((Path(folder) / "awkward_images/expected.json").read_text())["files"]
    return [pytest.param(entry, id=entry["file"]) for entry in listed]


# What each refused file is called, and what we do where the reference leaves it open.
EXPECTED_REASONS = {
    "pillow_broken.png": "corrupt",
    "pillow_truncated_image.png": "truncated",
    "pillow_ultrahdr.jpg": "truncated",
    "pillow_png_decompression_dos.png": "too_large",
    "pillow_decompression_bomb.gif": "too_large",
    "pillow_decompression_bomb.ico": "too_large",
    "pillow_negative_size.ppm": "corrupt",
    "pillow_hopper_unknown_pixel_mode.tif": "corrupt",
    "pillow_tiff_overflow_rows_per_strip.tif": "corrupt",
    "pillow_crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": "corrupt",
    "pillow_oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "corrupt",
    "pillow_libtiff_segfault.tif": "corrupt",
    "pillow_expected_to_read.jp2": "corrupt",
    "pillow_hopper_webp.tif": "unsupported",
    "pillow_apng_syntax_num_frames_zero.png": "corrupt",
    "pillow_test-ole-file.doc": "unsupported",
    "pillow_broken_data_stream.png": "corrupt",
    "pngsuite_xs1n0g01.png": "corrupt",
    "pngsuite_xhdn0g08.png": "corrupt",
    "pngsuite_xd0n2c08.png": "corrupt",
    "pngsuite_xc1n0g08.png": "corrupt",
}


@pytest.mark.real_data
@pytest.mark.parametrize("expected", real_files())
def test_awkward_files(real_data, expected, capfd):
    data = (real_data / "awkward_images" / expected["file"]).read_bytes()
    if expected["file"] in EXPECTED_REASONS:
        assert expected["outcome"] != "decode"
        assert reason_of(data) == EXPECTED_REASONS[expected["file"]]
        return
    assert expected["outcome"] != "dead_letter"
    picture = decode(data, POLICY)
    width, height = expected["oriented_size"]
    stored_width, stored_height = expected["stored_size"]
    assert picture.facts.size_hw == picture.pixels.shape[:2] == (height, width)
    assert picture.facts.stored_hw == (stored_height, stored_width)
    assert picture.facts.orientation == (expected["orientation"] or 1)
    assert (picture.facts.format, picture.facts.mode) == (expected["format"], expected["mode"])
    mean = picture.pixels.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(mean, expected["rgb_mean"], atol=2)


@pytest.mark.real_data
def test_the_whole_png_suite(real_data):
    """Valid files give 8-bit RGB close to TensorFlow's reading; the x* files are refused."""
    import tensorflow as tf

    decoded = 0
    for path in sorted((real_data / "pngsuite").glob("*.png")):
        data = path.read_bytes()
        if path.name.startswith("x") and path.name != "xcsn0g01.png":
            # two of them have a damaged signature: nothing says that they were PNGs
            damaged = path.name in ("xs2n0g01.png", "xs4n0g01.png")
            assert reason_of(data) == ("unsupported" if damaged else "corrupt"), path.name
            continue
        picture = decode(data, POLICY)
        decoded += 1
        assert picture.facts.format == "PNG"
        if path.name != "xcsn0g01.png":  # a wrong checksum, which TensorFlow refuses
            reference = tf.io.decode_png(data, channels=3).numpy()
            difference = np.abs(picture.pixels.astype(int) - reference.astype(int))
            assert difference.max() <= 1, path.name
    assert decoded == 162


@pytest.mark.real_data
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
def test_all_orientations_give_one_upright_picture(real_data, shape):
    reference = None
    for orientation in range(9):
        data = (real_data / "exif_orientation" / f"{shape}_{orientation}.jpg").read_bytes()
        # a quarter of the size is enough to tell up from down, and sixteen times as fast
        picture = decode(data, DecodePolicy(draft_px=300))
        assert picture.facts.orientation == (orientation or 1)
        stored_height, stored_width = picture.facts.stored_hw
        full = (stored_width, stored_height) if orientation >= 5 else (stored_height, stored_width)
        assert full == ((1200, 1800) if shape == "Landscape" else (1800, 1200))
        if reference is None:
            reference = picture.pixels.astype(int)
        assert picture.pixels.shape == reference.shape
        assert np.abs(picture.pixels.astype(int) - reference).mean() < 6


@given(st.tuples(st.integers(1, 400), st.integers(1, 400)), st.integers(1, 50))
def test_brightness_by_rows_is_that_of_the_whole(size_hw, rows):
    height, width = size_hw
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    step = bright_step(size_hw)
    parts = [
        bright_sum(pixels[first : first + rows], step, 3 * width * first)
        for first in range(0, height, rows)
    ]
    whole = bright_sum(pixels, step)
    assert whole == tuple(sum(numbers) for numbers in zip(*parts, strict=True))
    assert whole[1] >= min(pixels.size, 1024)
    assert whole[0] == int(pixels.reshape(-1)[::step].sum())
    assert math.gcd(step, 3 * width) == 1  # it goes through all columns and channels


def test_brightness_of_a_photograph_is_near_its_mean():
    pixels = load_sample_image("china.jpg")
    total, count = bright_sum(pixels, bright_step(pixels.shape[:2]))
    assert total / count == pytest.approx(pixels.mean(), abs=2)
