"""Pictures that were made say so inside, in the terms of IPTC, and keep their pixels."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from models.errors import UserError
from transforms import picture_files
from transforms.picture_files import (
    CHANGED,
    CODECS,
    MADE,
    PictureFormat,
    check_codec,
    encode_picture,
)

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


@pytest.fixture(params=[(17, 23, 3), (17, 23)], ids=["rgb", "grey"])
def pixels(request):
    return np.random.default_rng(0).integers(0, 256, request.param, dtype=np.uint8)


def test_a_png_is_lossless(pixels):
    with Image.open(io.BytesIO(encode_picture(pixels, PictureFormat()))) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_jpeg_is_near_and_nearer_with_more_quality():
    smooth = np.outer(np.linspace(0, 255, 64), np.ones(64)).astype(np.uint8)
    errors, sizes = [], []
    for quality in (20, 95):
        data = encode_picture(smooth, PictureFormat("jpeg", quality))
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            errors.append(np.abs(np.asarray(image).astype(int) - smooth).mean())
        sizes.append(len(data))
    assert errors[1] <= errors[0] < 8
    assert sizes[1] > sizes[0]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("source", [MADE, CHANGED])
def test_the_source_is_in_the_file(pixels, name, source):
    data = encode_picture(pixels, PictureFormat(name, source=source))
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info["xmp"] if name != "png" else image.info["XML:com.adobe.xmp"]
    text = packet.decode() if isinstance(packet, bytes) else packet
    (described,) = ElementTree.fromstring(text).iter(f"{RDF}Description")
    term = described.attrib[f"{IPTC}DigitalSourceType"]
    assert term == f"http://cv.iptc.org/newscodes/digitalsourcetype/{source}"


@pytest.mark.parametrize("name", CODECS)
def test_the_same_pixels_give_the_same_bytes(pixels, name):
    how = PictureFormat(name)
    assert encode_picture(pixels, how) == encode_picture(pixels.copy(), how)


def test_what_no_model_made_is_not_marked(pixels):
    for name in CODECS:
        data = encode_picture(pixels, PictureFormat(name, source=""))
        assert b"digitalsourcetype" not in data


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_a_lossy_picture_is_near(name):
    smooth = np.outer(np.linspace(0, 255, 64), np.ones(64)).astype(np.uint8)
    colours = np.stack([smooth, smooth.T, smooth[::-1]], 2)
    with Image.open(io.BytesIO(encode_picture(colours, PictureFormat(name)))) as image:
        assert image.format == name.upper() and image.mode == "RGB"
        assert np.abs(np.asarray(image).astype(int) - colours).mean() < 3


def test_a_codec_that_pillow_lacks_is_told_early(monkeypatch):
    monkeypatch.setattr(picture_files.features, "check", lambda name: name != "avif")
    check_codec("webp")
    with pytest.raises(UserError, match=r"without avif.*--image_format"):
        check_codec("avif")
