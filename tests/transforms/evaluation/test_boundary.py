"""Boundary IoU by its definition, by erosions; boundary F-score by distances of all points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from transforms.evaluation.boundary import (
    band,
    boundary_counts,
    boundary_f1,
    boundary_iou,
    width_px,
)

CLASSES = 4


def blobs(seed, shape=(48, 61)):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(CLASSES, *shape)), (0, 4, 4))
    return noise.argmax(axis=0).astype(np.uint8)


def mask_to_boundary(mask, reach_px):
    """boundary_iou/utils/boundary_utils.py: pad by 0, erode by 3x3 `reach_px` times, subtract."""
    padded = np.pad(mask, 1).astype(bool)
    eroded = ndimage.binary_erosion(padded, np.ones((3, 3)), iterations=reach_px)
    return mask & ~eroded[1:-1, 1:-1]


@pytest.mark.parametrize("reach_px", [1, 2, 5, 9])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_is_its_definition(seed, reach_px):
    truth, predicted = blobs(seed), blobs(seed + 1)
    predicted = np.where(ndimage.gaussian_filter((truth == 1) * 1.0, 2) > 0.3, truth, predicted)
    truth[10:14, 20:40] = CLASSES  # ignored
    found = boundary_iou(boundary_counts(truth, predicted, CLASSES, reach_px))
    counted = truth < CLASSES
    for class_id in range(CLASSES):
        a, b = (mask_to_boundary(m == class_id, reach_px) & counted for m in (truth, predicted))
        expected = (a & b).sum() / (a | b).sum() if (a | b).any() else np.nan
        assert found[class_id] == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("reach_px", [1, 3])
def test_boundary_f1_is_its_definition(reach_px):
    truth, predicted = blobs(5, (30, 34)), blobs(6, (30, 34))
    predicted[:, :17] = np.roll(truth, 2, axis=0)[:, :17]
    found = boundary_f1(boundary_counts(truth, predicted, CLASSES, reach_px))
    for class_id in range(CLASSES):
        lines = []
        for mask in (truth == class_id, predicted == class_id):
            inner = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
            lines.append(np.argwhere(mask & ~inner))
        gaps = np.sqrt(((lines[0][:, None] - lines[1][None]) ** 2).sum(axis=2))
        recall = (gaps.min(axis=1) <= reach_px).mean()
        precision = (gaps.min(axis=0) <= reach_px).mean()
        expected = 2 * precision * recall / (precision + recall)
        assert found[class_id] == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 25), st.booleans())
def test_a_band_is_where_a_window_sees_another_class(seed, reach_px, frame):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rng.integers(1, 14, 2)).astype(np.uint8)
    codes = np.kron(codes, np.ones((2, 3), np.uint8))
    found = band(codes, reach_px, frame)
    height, width = codes.shape
    for y, x in np.ndindex(codes.shape):
        window = codes[
            max(0, y - reach_px) : y + reach_px + 1, max(0, x - reach_px) : x + reach_px + 1
        ]
        edge = min(y, x, height - 1 - y, width - 1 - x) < reach_px
        assert found[y, x] == (bool((window != codes[y, x]).any()) or (frame and edge))


def test_degenerate_boundaries():
    empty, full = np.zeros((9, 9), np.uint8), np.ones((9, 9), np.uint8)
    one = empty.copy()
    one[4, 4] = 1
    same = boundary_counts(one, one, 2, 1)
    assert boundary_iou(same).tolist() == [1, 1] and boundary_f1(same).tolist() == [1, 1]
    missed = boundary_counts(one, empty, 2, 1)
    assert boundary_iou(missed)[1] == 0 and boundary_f1(missed)[1] == 0
    assert np.isnan(boundary_f1(boundary_counts(full, full, 3, 1))).all()  # no contour anywhere
    assert np.isnan(boundary_iou(boundary_counts(full, full, 3, 1))).tolist() == [True, False, True]
    ignored = boundary_counts(np.full((9, 9), 2, np.uint8), one, 2, 1)
    assert all(not counts.any() for counts in ignored.values())


def test_widths():
    assert width_px((300, 400), 0.02) == 10
    assert width_px((3, 4), 0.02) == 1
    assert width_px((3000, 4000), 3) == 3
