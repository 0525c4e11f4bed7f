"""Augmentation keeps picture and mask together, invents no ids, and is the same for one seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.networks.augment import OPS, augmented_crop, augmented_picture, coloured
from pipeline.flag_values import AUGMENTATIONS

IGNORE = 255
GEOMETRY = ("flip", "turn", "scale")


def pair(height, width, seed=0):
    """A picture whose red is its mask times 20: where they go, they must go together."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 6, (-(-height // 8), -(-width // 8)))
    mask = np.kron(mask, np.ones((8, 8), int))[:height, :width].astype(np.int32)
    image = np.stack([mask * 20 + 50] * 3, -1).astype(np.uint8)
    return image, mask


def crop(image, mask, seed, ops, crop_px=32):
    found = augmented_crop(image, mask, [seed, 1], crop_px=crop_px, ops=ops, ignore_id=IGNORE)
    return [np.asarray(part) for part in found]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 2**31 - 1),
    st.sets(st.sampled_from(sorted(OPS))),
)
def test_shapes_and_ids(height, width, seed, ops):
    image, mask = pair(height, width)
    pixels, ids = crop(image, mask, seed, ops)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.float32
    assert ids.shape == (32, 32) and ids.dtype == np.int32
    assert set(np.unique(ids)) <= {*np.unique(mask), IGNORE}
    assert pixels.min() >= 0 and pixels.max() <= 255


@pytest.mark.parametrize("seed", range(8))
def test_picture_and_mask_move_together(seed):
    image, mask = pair(64, 96)
    pixels, ids = crop(image, mask, seed, GEOMETRY)
    inside = np.abs(pixels[..., 0] - np.round(pixels[..., 0] / 10) * 10) < 1e-3  # not blended
    assert inside.mean() > 0.5
    agree = np.abs(pixels[..., 0] - (ids * 20 + 50))[inside] < 1e-3
    assert agree.mean() > 0.95  # at a border bilinear and nearest may part by half a pixel


def test_around_a_small_picture_nothing_is_known():
    image, mask = pair(10, 12)
    pixels, ids = crop(image, mask, 5, ())
    assert (ids != IGNORE).sum() == 10 * 12
    assert (pixels[ids == IGNORE] == 0).all()
    np.testing.assert_array_equal(ids[ids != IGNORE], mask.ravel())


def test_one_seed_gives_one_picture_and_another_another():
    image, mask = pair(80, 80)
    first, again, other = (crop(image, mask, seed, tuple(OPS))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_turns_give_all_eight_views():
    image, mask = pair(32, 32)
    image[0, 0] = 255  # no symmetry
    seen = {crop(image, mask, seed, ("turn",))[0].tobytes() for seed in range(60)}
    expected = set()
    for quarter in range(4):
        turned = np.rot90(image, quarter).astype(np.float32)
        expected |= {turned.tobytes(), turned[:, ::-1].tobytes()}
    assert seen == expected


@pytest.mark.parametrize("ops", [(), ("shift",), ("scale", "shift"), ("flip", "colour")])
def test_pictures_for_a_classifier(ops):
    image, _ = pair(40, 30)
    found = np.asarray(augmented_picture(image, [3, 4], (16, 16), ops))
    assert found.shape == (16, 16, 3)
    assert found.min() >= 0 and found.max() <= 255


def test_without_operations_a_picture_is_as_the_served_model_sees_it():
    image, _ = pair(16, 16)
    np.testing.assert_array_equal(augmented_picture(image, [0, 0], (16, 16), ()), image)


def test_a_shift_moves_by_whole_and_broken_pixels():
    image = np.zeros((17, 17, 3), np.uint8)
    image[8, 8] = 255
    centres = []
    for seed in range(40):
        found = np.asarray(augmented_picture(image, [seed, 0], (17, 17), ("shift",)))[..., 0]
        np.testing.assert_allclose(found.sum(), 255, rtol=1e-3)
        rows, columns = np.indices(found.shape)
        centres.append([(found * rows).sum() / found.sum(), (found * columns).sum() / found.sum()])
    moved = np.asarray(centres) - 8
    assert np.abs(moved).max() <= 17 / 8 + 1e-3
    assert moved.std(0).min() > 0.5 and np.abs(moved.mean(0)).max() < 0.7


def test_colours_keep_grey_grey():
    grey = np.repeat(np.random.default_rng(0).random((8, 8, 1), np.float32) * 255, 3, -1)
    found = np.asarray(coloured(grey, [1, 2]))
    np.testing.assert_allclose(found[..., 0], found[..., 2], atol=1e-3)


def test_the_command_line_knows_all_operations():
    assert tuple(OPS) == AUGMENTATIONS
