"""Adding up windows equals adding them to a whole picture, and keeps little."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from transforms.tiling.canvas import Canvas
from transforms.tiling.windows import BLENDS, Tiling


def plain_loop(values, rows, columns):
    """What windows of random values become, by sums over the whole picture."""
    total = np.zeros((rows.size, columns.size, values.shape[-1]))
    for i, down in enumerate(rows.spans):
        for j, across in enumerate(columns.spans):
            weights = np.zeros((rows.size, columns.size, 1))
            inside = slice(down.first, down.end), slice(across.first, across.end)
            weights[inside] = np.outer(down.weights, across.weights)[..., None]
            whole = np.zeros_like(total)
            place = slice(down.start, None), slice(across.start, None)
            h, w = whole[place].shape[:2]
            h, w = min(h, rows.window), min(w, columns.window)
            whole[down.start : down.start + h, across.start : across.start + w] = values[
                i, j, :h, :w
            ]
            total += weights * whole
    return total


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.integers(1, 45),
    st.integers(1, 45),
    st.sampled_from([(8, 2), (8, 0), (9, 6), (12, 11), (16, 8)]),
    st.sampled_from(BLENDS),
    st.booleans(),
)
def test_blocks_are_those_of_a_plain_loop_and_cover_the_picture_once(
    height, width, cut, blend, fixed
):
    rows, columns = Tiling((cut[0],) * 2, (cut[1],) * 2, blend).grid((height, width), fixed)
    rng = np.random.default_rng(height * 50 + width)
    shape = (len(rows.spans), len(columns.spans), rows.window, columns.window, 3)
    values = rng.normal(size=shape).astype(np.float32)
    before = values.copy()
    canvas = Canvas(rows, columns)
    got = np.full((height, width, 3), np.nan)
    for i in range(shape[0]):
        heights = set()
        for j in range(shape[1]):
            (y, x), block = canvas.add(i, j, values[i, j])
            heights.add((y, len(block)))
            part = got[y : y + block.shape[0], x : x + block.shape[1]]
            assert part.shape == block.shape and np.isnan(part).all(), "finished once"
            part[:] = block
        assert len(heights) == 1
    np.testing.assert_allclose(got, plain_loop(values, rows, columns), atol=1e-5)
    np.testing.assert_array_equal(values, before, "the model's answers are left alone")


def test_what_is_kept_is_the_overlap_and_nothing_when_cropped():
    for blend, kept in (("gaussian", (8, 400, 2)), ("crop", None)):
        rows, columns = Tiling((32, 32), (8, 8), blend).grid((400, 400), fixed=False)
        canvas = Canvas(rows, columns)
        for i in range(len(rows.spans) - 1):
            for j in range(len(columns.spans)):
                canvas.add(i, j, np.zeros((32, 32, 2), np.float32))
        below = canvas._below
        assert (None if below is None else (below.shape[0] <= 9, *below.shape[1:])) == (
            None if kept is None else (True, *kept[1:])
        )


def test_class_ids_pass_unchanged_when_cropped():
    rows, columns = Tiling((8, 8), (2, 2), "crop").grid((20, 20), fixed=False)
    block = Canvas(rows, columns).add(0, 0, np.full((8, 8, 1), 7, np.uint8))
    assert block.values.dtype == np.uint8 and (block.values == 7).all()


def test_an_answer_of_another_size_is_refused():
    rows, columns = Tiling((8, 8), (2, 2), "crop").grid((20, 20), fixed=False)
    with pytest.raises(ValueError, match="a window of 8x8 px has values of 4x4"):
        Canvas(rows, columns).add(0, 0, np.zeros((4, 4, 1)))
