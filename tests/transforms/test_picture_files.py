"""Pictures that were made say so inside, in the terms of IPTC, and keep their pixels."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from transforms.picture_files import CHANGED, MADE, PictureFormat, encode_picture

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


@pytest.mark.parametrize("name", ["png", "jpeg"])
@pytest.mark.parametrize("source", [MADE, CHANGED])
def test_the_source_is_in_the_file(pixels, name, source):
    data = encode_picture(pixels, PictureFormat(name, source=source))
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info["xmp"] if name == "jpeg" else image.info["XML:com.adobe.xmp"]
    text = packet.decode() if isinstance(packet, bytes) else packet
    (described,) = ElementTree.fromstring(text).iter(f"{RDF}Description")
    term = described.attrib[f"{IPTC}DigitalSourceType"]
    assert term == f"http://cv.iptc.org/newscodes/digitalsourcetype/{source}"


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_the_same_pixels_give_the_same_bytes(pixels, name):
    how = PictureFormat(name)
    assert encode_picture(pixels, how) == encode_picture(pixels.copy(), how)
