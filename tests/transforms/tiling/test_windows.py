"""The geometry of windows, for every size that could be off by one."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from transforms.tiling.windows import BLENDS, Tiling, axis_of, window_starts

K = 16
SIZES = [1, K - 1, K, K + 1, 2 * K - 1, 2 * K, 1000]


@st.composite
def cuts(draw):
    """Size, window, overlap and period that leave room for a step."""
    period = draw(st.sampled_from([1, 2, 3, 8]))
    window = draw(st.integers(2 * period, 60))
    overlap = draw(st.integers(0, window - 2 * period + 1))
    return draw(st.integers(1, 300)), window, overlap, period


@hypothesis.given(cuts())
def test_windows_cover_the_picture_evenly_and_end_with_it(cut):
    size, window, overlap, period = cut
    found, starts = window_starts(*cut)
    assert found <= window and starts[0] == 0
    assert starts[-1] + found == size, "the last one is shifted inside, and ends at the edge"
    assert all(start % period == 0 for start in starts)
    assert found % period == size % period, "padding falls as in the whole picture"
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= found - overlap).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= period, "evenly"


@hypothesis.given(cuts(), st.sampled_from(BLENDS))
def test_weights_are_positive_and_add_up_to_one_everywhere(cut, blend):
    size, window, overlap, period = cut
    axis = axis_of(size, window, overlap, blend, period=period)
    total, count = np.zeros(size), np.zeros(size, int)
    for span in axis.spans:
        assert span.start <= span.first < span.end <= min(size, span.start + axis.window)
        assert (span.weights > 0).all() and span.weights.dtype == np.float32
        total[span.first : span.end] += span.weights
        count[span.first : span.end] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert count.min() > 0
    if blend == "crop":
        assert count.max() == 1


@hypothesis.given(cuts(), st.sampled_from(BLENDS))
def test_what_is_done_is_touched_by_no_later_window(cut, blend):
    size, window, overlap, period = cut
    spans = axis_of(size, window, overlap, blend, period=period).spans
    for i, span in enumerate(spans):
        assert all(later.first >= span.done for later in spans[i + 1 :])
    done = [span.done for span in spans]
    assert done == sorted(set(done)) and done[-1] == size, "every window ends something"


@hypothesis.given(cuts())
def test_cropping_keeps_half_of_the_overlap_between_a_pixel_and_the_edge_of_its_window(cut):
    size, window, overlap, period = cut
    axis = axis_of(size, window, overlap, "crop", period=period)
    for span in axis.spans:
        before, after = span.first - span.start, span.start + axis.window - span.end
        assert span.first == 0 or before >= (overlap - period) // 2
        assert span.end == size or after >= (overlap - period) // 2
        assert span.first % period == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("fixed", [False, True])
def test_sizes_around_the_window(size, blend, fixed):
    axis = axis_of(size, K, 4, blend, fixed=fixed)
    assert axis.window == (K if fixed else min(K, size))
    assert len(axis.spans) == {1: 1, K - 1: 1, K: 1, K + 1: 2, 2 * K - 1: 3, 2 * K: 3}.get(size, 83)


def test_the_profiles_fall_from_the_middle_and_differ():
    begin = {}
    for blend in BLENDS:
        first, second = axis_of(24, 16, 8, blend).spans
        begin[blend] = float(second.weights[0])
        if blend in ("gaussian", "hann"):  # over the 8 pixels that both see
            assert (np.diff(second.weights[:8]) > 0).all()
            np.testing.assert_allclose(second.weights[:8], first.weights[8:][::-1], atol=1e-6)
    assert begin["uniform"] == 0.5 and begin["crop"] == 1
    assert 0 < begin["gaussian"] < begin["hann"] < 0.02


def test_a_factor_scales_all():
    axis = axis_of(50, 16, 4, "hann")
    larger = axis.scaled(3)
    assert (larger.size, larger.window) == (150, 48)
    for span, big in zip(axis.spans, larger.spans, strict=True):
        assert (big.start, big.first, big.end, big.done) == tuple(
            3 * x for x in (span.start, span.first, span.end, span.done)
        )
        np.testing.assert_array_equal(big.weights[::3], span.weights)


def test_an_overlap_that_leaves_no_step_is_refused():
    with pytest.raises(ValueError, match="windows of 16 px cannot overlap by 15 px at steps of 4"):
        window_starts(100, 16, 15, 4)


def test_both_axes_have_their_own_windows():
    rows, columns = Tiling((16, 32), (4, 8), "crop").grid((40, 100), fixed=False)
    assert (rows.window, columns.window) == (16, 32)
    assert (len(rows.spans), len(columns.spans)) == (3, 4)
