"""Masks as PNG: ids come back as they were, by any decoder."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from transforms.png import PngRows, encode_png

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=17)


@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
def test_ids_come_back_by_pillow_and_by_tensorflow(ids):
    data = encode_png(ids)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.mode == ("L" if ids.dtype == np.uint8 else "I;16")
        np.testing.assert_array_equal(np.asarray(image), ids)
    decoded = tf.io.decode_png(data, channels=1, dtype=tf.as_dtype(ids.dtype)).numpy()
    np.testing.assert_array_equal(decoded[..., 0], ids)


def test_the_same_mask_gives_the_same_bytes():
    ids = np.random.default_rng(0).integers(0, 9, (50, 70)).astype(np.uint8)
    assert encode_png(ids) == encode_png(ids.copy())
    assert encode_png(ids.T.copy().T) == encode_png(ids)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.bool_, np.int8, np.uint32])
def test_other_types_are_refused_rather_than_wrapped(dtype):
    with pytest.raises(TypeError, match="expected uint8 or uint16"):
        encode_png(np.zeros((2, 2), dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size_hw", [(1, 1), (7, 13), (64, 300)])
def test_rows_make_the_same_picture(dtype, size_hw):
    mask = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size_hw).astype(dtype)
    rows = PngRows(size_hw, dtype)
    for first in range(0, size_hw[0], 5):
        rows.write(mask[first : first + 5])
    with Image.open(io.BytesIO(rows.finish())) as image:
        image.load()
        assert image.format == "PNG" and image.mode == ("L" if dtype == np.uint8 else "I;16")
        np.testing.assert_array_equal(np.asarray(image), mask)


def test_rows_that_are_missing_are_noticed():
    rows = PngRows((3, 2), np.uint8)
    rows.write(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="got 2 rows of a mask of 3"):
        rows.finish()
    with pytest.raises(TypeError, match="expected uint8 or uint16"):
        PngRows((3, 2), np.int32)
