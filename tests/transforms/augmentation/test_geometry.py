"""Pictures and masks move alike, by the formulas, and stay aligned to half a pixel."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from transforms.augmentation import geometry
from transforms.augmentation.apply import apply
from transforms.augmentation.scene import Scene

IGNORE = 65535


def coordinates(height, width):
    """A picture whose red is x and green is y, and a mask of y * width + x: places as content."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)
    return image, (y * width + x).astype(np.uint16)


def assert_moved(image, mask, source, size_hw):
    """Content of what came out is where `source` says: (y, x) [2, h, w] of pixel edges, from 0."""
    height, width = size_hw
    ys, xs = source
    inside = (ys > 0.01) & (ys < height - 0.01) & (xs > 0.01) & (xs < width - 0.01)
    outside = (ys < -0.01) | (ys > height + 0.01) | (xs < -0.01) | (xs > width + 0.01)
    assert inside.any()
    for got, want in ((mask // width, ys), (mask % width, xs)):
        assert np.abs(got[inside] + 0.5 - want[inside]).max() <= 0.51
    assert (mask[outside] == IGNORE).all() and not image[outside].any()
    for channel, want, side in ((1, ys, height), (0, xs, width)):
        expected = np.clip(want - 0.5, 0, side - 1)  # bilinear between middles of pixels
        assert np.abs(image[..., channel][inside] - expected[inside]).max() <= 0.51


def grid(height, width):
    return np.mgrid[:height, :width] + 0.5


@settings(max_examples=30, deadline=None)
@given(degrees=st.floats(-180, 180), height=st.integers(5, 60), width=st.integers(5, 60))
def test_rotation_by_its_formula(degrees, height, width):
    image, mask = geometry.rotate(*coordinates(height, width), degrees, IGNORE)
    y, x = grid(height, width) - np.array([height / 2, width / 2])[:, None, None]
    turn = np.radians(degrees)
    # what comes out at an angle has been at that angle less the turn; y goes down
    xs = np.cos(turn) * x - np.sin(turn) * y + width / 2
    ys = np.sin(turn) * x + np.cos(turn) * y + height / 2
    assert_moved(image, mask, (ys, xs), (height, width))


def test_rotation_is_counterclockwise_and_a_right_angle_is_a_quarter_turn():
    image, mask = coordinates(24, 24)
    by_angle = geometry.rotate(image, mask, 90.0, IGNORE)
    by_turn = geometry.quarter_turn(image, mask, 1)
    np.testing.assert_array_equal(by_angle[1], by_turn[1])
    np.testing.assert_array_equal(by_angle[0], by_turn[0])
    np.testing.assert_array_equal(by_turn[1], np.rot90(mask))


@settings(max_examples=30, deadline=None)
@given(
    moves=st.lists(st.floats(-0.3, 0.3), min_size=8, max_size=8),
    height=st.integers(8, 60),
    width=st.integers(8, 60),
)
def test_perspective_takes_the_corners_where_they_are_told(moves, height, width):
    usual = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    corners = usual + np.array(moves).reshape(4, 2)
    numbers = geometry.homography((height, width), corners.tolist())
    a, b, c, d, e, f, g, h = numbers

    def source(y, x):
        w = g * x + h * y + 1
        return (d * x + e * y + f) / w, (a * x + b * y + c) / w

    for (x, y), (u, v) in zip(usual, corners, strict=True):
        np.testing.assert_allclose(
            source(y * height, x * width), (v * height, u * width), atol=1e-6
        )
    y, x = grid(height, width)
    if (g * x + h * y + 1).min() < 0.2:
        return  # seen so much from the side that a pixel covers many
    ys, xs = source(y, x)
    image, mask = geometry.perspective(*coordinates(height, width), corners.tolist(), IGNORE)
    assert_moved(image, mask, (ys, xs), (height, width))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**53 - 1),
    amount=st.floats(0, 0.1),
    spacing=st.floats(0.05, 1),
    height=st.integers(5, 60),
    width=st.integers(5, 60),
)
def test_elastic_moves_by_its_bends(seed, amount, spacing, height, width):
    bends = geometry.bends((height, width), seed, amount, spacing)
    assert np.abs(bends).max() <= 1.5 * amount * min(height, width) + 1e-6
    image, mask = geometry.elastic(
        *coordinates(height, width), seed=seed, amount=amount, spacing=spacing, ignore_id=IGNORE
    )
    assert_moved(image, mask, grid(height, width) + bends, (height, width))


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(1.0, 3.0),
    part=st.floats(0, 1),
    height=st.integers(8, 60),
    width=st.integers(8, 60),
)
def test_enlarged_parts_by_their_formula(scale, part, height, width):
    box = [
        part * (height - height / scale),
        part * (width - width / scale),
        height / scale,
        width / scale,
    ]
    _, mask = geometry.scale_crop(
        *coordinates(height, width),
        size_hw=[height, width],
        box=box,
        at=[0, 0, height, width],
        ignore_id=IGNORE,
    )
    y, x = grid(height, width)
    ys, xs = box[0] + y * box[2] / height, box[1] + x * box[3] / width
    for got, want in ((mask // width, ys), (mask % width, xs)):
        assert np.abs(got + 0.5 - want).max() <= 0.52


def test_smaller_pictures_lie_on_black_and_the_ignore_id():
    image, mask = coordinates(20, 30)
    made, ids = geometry.scale_crop(
        image + 1, mask, size_hw=[20, 30], box=[0, 0, 20, 30], at=[3, 4, 10, 15], ignore_id=IGNORE
    )
    inside = np.zeros((20, 30), bool)
    inside[3:13, 4:19] = True
    assert (ids[~inside] == IGNORE).all() and not made[~inside].any()
    assert (ids[inside] != IGNORE).all() and made[inside].any(-1).all()


# Markers


def marked(height, width, middles):
    """A picture with soft spots, and a mask with discs at the same places."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    mask = np.zeros((height, width), np.uint8)
    for number, (row, column) in enumerate(middles, 1):
        distance2 = (y - row) ** 2 + (x - column) ** 2
        image[..., number - 1] = 255 * np.exp(-distance2 / (2 * 2.5**2))
        mask[distance2 <= 6**2] = number
    return Scene(np.rint(image).astype(np.uint8), mask)


OPERATIONS = [
    {"step": "flip", "axis": "horizontal"},
    {"step": "flip", "axis": "vertical"},
    {"step": "quarter_turn", "turns": 1},
    {"step": "quarter_turn", "turns": 3},
    {"step": "rotate", "degrees": 13.7},
    {"step": "rotate", "degrees": -101.3},
    {
        "step": "scale_crop",
        "size_hw": [90, 110],
        "box": [7.3, 5.8, 75.0, 95.5],
        "at": [0, 0, 90, 110],
    },
    {"step": "scale_crop", "size_hw": [96, 128], "box": [0, 0, 96, 128], "at": [11, 5, 67, 90]},
    {"step": "perspective", "corners": [[-0.05, 0.04], [0.97, -0.06], [1.05, 0.93], [0.06, 1.04]]},
    {"step": "elastic", "seed": 5, "amount": 0.03, "spacing": 0.5},
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o["step"])
def test_markers_stay_aligned_to_half_a_pixel(operation):
    scene = marked(96, 128, [(30, 40), (48, 64), (60, 80)])
    made = apply(scene, operation, None, 255)
    for number in (1, 2, 3):
        disc = made.mask == number
        assert disc.sum() > 20
        spot = made.pixels[..., number - 1].astype(float)
        spot[spot < 40] = 0  # the soft spot's core, well within its disc
        apart = np.subtract(center_of_mass(spot), center_of_mass(disc))
        assert np.hypot(*apart) < 0.5, f"marker {number} is off by {apart}"


def test_exact_moves_are_tensorflows():
    image, _ = coordinates(9, 14)
    for turns in range(4):
        expected = tf.image.rot90(image, turns).numpy()
        np.testing.assert_array_equal(geometry.quarter_turn(image, None, turns)[0], expected)
    sideways = tf.image.flip_left_right(image).numpy()
    np.testing.assert_array_equal(geometry.flip(image, None, "horizontal")[0], sideways)
    upside_down = tf.image.flip_up_down(image).numpy()
    np.testing.assert_array_equal(geometry.flip(image, None, "vertical")[0], upside_down)


def test_bilinear_is_tensorflows():
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    numbers = geometry.rotation((40, 50), 23.0)
    a, b, c, d, e, f, _, _ = numbers
    # TensorFlow counts from the middle of the first pixel
    shifted = [a, b, c - 0.5 + (a + b) / 2, d, e, f - 0.5 + (d + e) / 2, 0.0, 0.0]
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[np.newaxis].astype(np.float32),
        transforms=np.array([shifted], np.float32),
        output_shape=[40, 50],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0].numpy()
    made, inside = geometry.project(image, np.ones((40, 50), np.uint8), numbers, 0)
    assert np.abs(made - expected)[inside == 1].max() <= 0.52
