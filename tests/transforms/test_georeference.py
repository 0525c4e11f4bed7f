"""A mask lies where its picture lies: tags of a GeoTIFF are carried over as they are."""

import io

import numpy as np
import pytest
import tifffile
from geotiffs import AFFINE, SCALE, TIE, UTM, geotiff, pixels, place_in
from PIL import Image

from transforms.decode import DecodePolicy, decode
from transforms.tiff import TiffRows, encode_tiff
from transforms.tiling.rows import StreamedRows, open_rows

HOW = {
    "plain": {},
    "tiles": {"tile": (32, 32), "compression": "zlib"},
    "big": {"bigtiff": True},
    "motorola": {"byteorder": ">"},
}


@pytest.mark.parametrize("place", [UTM, AFFINE], ids=["scale and tie point", "turned"])
@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_the_tags_are_found_whichever_way_a_picture_is_read(how, place):
    data = geotiff(pixels(), place, **how)
    assert set(decode(data, DecodePolicy()).facts.georeference) == set(place)
    rows = open_rows(data, DecodePolicy(), streamed_pixels=1)
    assert isinstance(rows, StreamedRows) and set(rows.facts.georeference) == set(place)


@pytest.mark.parametrize("text", [b"RGF93 / M\xe9tropole|", "ma\u00dfstab|\0b|".encode(), b"\n\1|"])
def test_texts_that_are_no_ascii_go_over_byte_by_byte(text):
    data = geotiff(pixels(), (*UTM[:-1], (34737, 2, text)))
    place = decode(data, DecodePolicy()).facts.georeference
    mask = encode_tiff(np.zeros((70, 90), np.uint8), place)
    with tifffile.TiffFile(io.BytesIO(data)) as a, tifffile.TiffFile(io.BytesIO(mask)) as b:
        first, second = (file.pages[0].tags[34737] for file in (a, b))
        assert (first.value, first.count) == (second.value, second.count)


def test_there_is_none_where_no_pixel_is_tied_to_a_place():
    plain, keys_only = (geotiff(pixels(), place) for place in ((), UTM[2:]))
    assert place_in(plain) is place_in(keys_only) is None
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, "PNG")
    assert place_in(buffer.getvalue()) is None


def test_tags_of_wrong_types_are_left_out_and_a_turned_picture_has_no_place():
    wrong = ((33550, 2, "half a metre"), (33922, 12, TIE), (34737, 12, (1.0, 2.0)))
    assert place_in(geotiff(pixels(), wrong)) == ((33922, 12, TIE),)
    turned = geotiff(pixels(), (*UTM, (274, 3, (6,))))
    assert decode(turned, DecodePolicy()).facts.georeference is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size_hw", [(1, 1), (3, 300_000), (2000, 301)])
def test_what_is_written_by_rows_is_read_by_others(dtype, size_hw):
    mask = np.random.default_rng(1).integers(0, 300, size_hw).astype(dtype)
    rows = TiffRows(size_hw, dtype, UTM)
    for first in range(0, size_hw[0], 77):
        rows.write(mask[first : first + 77])
    data = rows.finish()
    assert data == encode_tiff(mask, UTM), "the same bytes, however they came"
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), mask)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray(), mask)
        told = file.geotiff_metadata
    assert (told["ModelPixelScale"], told["ModelTiepoint"]) == (list(SCALE), list(TIE))
    assert int(told["ProjectedCSTypeGeoKey"]) == 32633
    assert told["GTCitationGeoKey"] == "UTM 33N" and told["GeogSemiMajorAxisGeoKey"] == 6378137


def test_missing_rows_and_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="expected uint8 or uint16"):
        TiffRows((1, 1), np.int32, UTM)
    rows = TiffRows((2, 1), np.uint8, UTM)
    rows.write(np.zeros((1, 1), np.uint8))
    with pytest.raises(ValueError, match="got 1 rows of a mask of 2"):
        rows.finish()
