"""Counting the pixels of masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.answers import count_classes


@given(st.data())
def test_it_counts_as_numpy_does(data):
    classes = data.draw(st.integers(1, 255))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    ids = st.lists(
        st.one_of(st.integers(0, classes - 1), st.just(255)),
        min_size=height * width,
        max_size=height * width,
    )
    mask = np.array(data.draw(ids), np.uint8).reshape(height, width)
    expected = np.bincount(mask.reshape(-1), minlength=256)[:classes]
    found = count_classes(mask, classes)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("classes", [63, 64, 255])
def test_void_is_no_class(classes):
    assert count_classes(np.full((4, 8), 255, np.uint8), classes).tolist() == [0] * classes


def test_wide_masks():
    mask = np.array([[0, 300, 300, 65535]], np.uint16)
    found = count_classes(mask, 301)
    assert len(found) == 301 and (found[0], found[300], found.sum()) == (1, 2, 3)
