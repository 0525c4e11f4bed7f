"""Metadata goes, pixels and orientation stay: whatever Pillow writes, and whatever strangers do."""

import io
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from tests.support import real_data
from transforms.decode import DecodePolicy, decode
from transforms.failures import Failure
from transforms.metadata.pieces import pieces
from transforms.metadata.strip import metadata_of, strip
from transforms.picture_files import CODECS, MADE, PictureFormat, encode_picture

SECRET = "Secret street 5"
STRUCTURE = {
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "progression", "progressive"),
    *("adobe", "adobe_transform", "transparency", "interlace", "gamma", "version", "background"),
    *("loop", "duration", "extension", "timestamp", "srgb", "chromaticity", "aspect"),
}


def photo(height=17, width=23, mode="RGB"):
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height)).convert(mode)


def exif_of(orientation=6):
    exif = Image.Exif()
    exif[0x010F] = SECRET
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 0.0)
    return exif.tobytes()


def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def written(format_, mode="RGB", orientation=6, **options):
    buffer = io.BytesIO()
    if format_ == "PNG":
        text = PngInfo()
        text.add_text("Author", SECRET)
        text.add_text("Comment", SECRET, zip=True)
        text.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET}</x>")
        options["pnginfo"] = text
    else:
        options["xmp"] = f"<x>{SECRET}</x>".encode()
    if format_ == "JPEG":
        options["comment"] = SECRET
    if format_ != "TIFF":
        options["exif"] = exif_of(orientation)
    else:
        options["description"] = SECRET
    photo(mode=mode).save(buffer, format_, icc_profile=profile(), **options)
    return buffer.getvalue()


def looked_at(data):
    """What decoders see: upright pixels; and what Pillow finds besides."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        info = {name for name in image.info if name not in STRUCTURE}
        exif = dict(image.getexif())
        return np.asarray(ImageOps.exif_transpose(image)), info, exif


@pytest.mark.parametrize(
    ("format_", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True, "restart_marker_blocks": 2}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {}),
        ("AVIF", "RGB", {}),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_orientation_stay_and_nothing_else(format_, mode, options, orientation):
    data = written(format_, mode, orientation, **options)
    before, _, _ = looked_at(data)
    clean = strip(data + (b"film" if format_ != "AVIF" else b""), orientation)
    assert {"EXIF", "GPS", "ICC", "XMP"} <= set(clean.removed)
    after, info, exif = looked_at(clean.data)
    np.testing.assert_array_equal(after, before)
    kept = {} if orientation == 1 or clean.format == "png" else {0x0112: orientation}
    assert exif == kept
    assert info <= ({"exif"} if kept else set())
    assert SECRET.encode() not in clean.data and not clean.data.endswith(b"film")
    assert strip(clean.data, orientation).data == clean.data or kept
    if format_ != "AVIF":
        assert len(clean.data) < len(data)


def test_a_tiff_with_metadata_becomes_a_png_of_its_pixels():
    grey = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000)
    buffer = io.BytesIO()
    grey.save(buffer, "TIFF")
    plain = buffer.getvalue()
    assert strip(plain, 1) == (plain, (), "")
    buffer = io.BytesIO()
    grey.save(buffer, "TIFF", description=SECRET)
    clean = strip(buffer.getvalue(), 1)
    assert clean.removed == ("comment",) and clean.format == "png"
    with Image.open(io.BytesIO(clean.data)) as image:
        assert image.format == "PNG" and image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(grey))


def test_a_tiff_that_no_png_can_hold_is_a_failure():
    with pytest.raises(Failure, match=r"CMYK.*--metadata keep") as caught:
        strip(written("TIFF", "CMYK"), 1)
    assert caught.value.reason == "metadata"


def test_gif_comments_go_and_frames_stay():
    frames = [photo(mode="P"), photo(9, 9, "P").resize((23, 17))]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], comment=SECRET, loop=0, duration=50
    )
    data = buffer.getvalue()
    clean = strip(data + b"film", 1)
    assert clean.removed == ("comment", "trailer")
    with Image.open(io.BytesIO(data)) as old, Image.open(io.BytesIO(clean.data)) as new:
        assert new.n_frames == 2 and new.info["loop"] == 0 and "comment" not in new.info
        for frame in range(2):
            old.seek(frame)
            new.seek(frame)
            np.testing.assert_array_equal(np.asarray(new), np.asarray(old))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_without_metadata_not_a_byte_changes(format_):
    buffer = io.BytesIO()
    photo().save(buffer, format_)
    assert strip(buffer.getvalue(), 1) == (buffer.getvalue(), (), "")


@pytest.mark.parametrize("name", CODECS[:3])
def test_that_a_picture_is_synthetic_stays(name):
    data = encode_picture(np.asarray(photo()), PictureFormat(name))
    clean = strip(data + b"film", 1)
    assert clean.removed == ("XMP", "trailer")
    assert clean.data.count(b"digitalsourcetype/" + MADE.encode()) == 1
    with Image.open(io.BytesIO(clean.data)) as image:
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    assert MADE in ElementTree.canonicalize(packet if isinstance(packet, str) else packet.decode())


def test_a_preview_in_the_jfif_segment_goes():
    buffer = io.BytesIO()
    photo().save(buffer, "JPEG")
    data = buffer.getvalue()
    body = data[6:18] + b"\x01\x01" + b"abc"
    with_preview = data[:2] + b"\xff\xe0" + struct.pack(">H", 2 + len(body)) + body + data[20:]
    assert strip(with_preview, 1) == (data, ("preview",), "")


def written_gif():
    buffer = io.BytesIO()
    photo(mode="P").save(
        buffer, "GIF", save_all=True, append_images=[photo(9, 9, "P")], comment=SECRET, loop=0
    )
    return buffer.getvalue()


ORIGINALS = {name: written(name) for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")}
ORIGINALS["GIF"] = written_gif()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(ORIGINALS)),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 1200),
    st.sampled_from((1, 6)),
)
def test_hostile_bytes_are_told_apart_or_refused(format_, changes, cut, orientation):
    data = bytearray(ORIGINALS[format_])
    for at, value in changes:
        data[at % len(data)] = value
    damaged = bytes(data[: len(data) - cut] if cut < 300 else data)
    try:
        parts = pieces(damaged)
    except ValueError:
        parts = None
    else:
        if parts is not None:
            assert b"".join(part.data for part in parts) == damaged
    try:
        before = decode(damaged, DecodePolicy())
    except Failure:
        return
    try:
        clean = strip(damaged, before.facts.orientation)
    except Failure as failure:
        assert failure.reason == "metadata"
        return
    after = decode(clean.data, DecodePolicy())
    np.testing.assert_array_equal(after.pixels, before.pixels)
    if clean.removed and clean.format != "png":
        assert not set(metadata_of(clean.data)) - {"EXIF"}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from((b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBP", b"GIF89a")),
    st.binary(max_size=200),
)
def test_anything_behind_a_signature_ends(signature, rest):
    try:
        parts = pieces(signature + rest)
    except ValueError:
        return
    assert parts is not None
    assert b"".join(part.data for part in parts) == signature + rest


def test_real_pictures_keep_their_pixels():
    """Phones' EXIF, ultra HDR, MPO, junk in headers, profiles after the frame's header."""
    seen = 0
    for folder in ("exif_orientation", "awkward_images", "pngsuite"):
        for path in sorted(Path(real_data(folder)).iterdir()):
            data = path.read_bytes()
            try:
                before = decode(data, DecodePolicy())
                clean = strip(data, before.facts.orientation)
            except Failure:
                continue
            after = decode(clean.data, DecodePolicy())
            np.testing.assert_array_equal(after.pixels, before.pixels, err_msg=path.name)
            if clean.removed:
                _, info, exif = looked_at(clean.data)
                assert info <= {"exif"} and set(exif) <= {0x0112}, path.name
                seen += 1
    assert seen > 20
