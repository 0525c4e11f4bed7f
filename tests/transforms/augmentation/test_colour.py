"""Colours by their formulas and by the libraries that know them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import gaussian_filter

from transforms.augmentation import colour
from transforms.augmentation.draws import Draws, normal_field, uniform_field


@pytest.fixture
def picture():
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((80, 60), Image.Resampling.BICUBIC))


def test_contrast_and_brightness_are_tensorflows(picture):
    found = colour.colour(picture, brightness=0.1, contrast=1.2, saturation=1, hue=0)
    image = tf.image.adjust_contrast(picture.astype(np.float32) / 255, 1.2)
    expected = tf.image.adjust_brightness(image, 0.1).numpy() * 255
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.51


def test_hue_turns_by_degrees():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    made = colour.colour(red, brightness=0, contrast=1, saturation=1, hue=120)
    assert made[0, 0].tolist() == [0, 200, 0]
    grey = colour.colour(red, brightness=0, contrast=1, saturation=0.001, hue=0)
    assert np.ptp(grey) <= 1


def test_gamma_night_and_fog_by_their_formulas(picture):
    by_formula = 255 * (picture / 255.0) ** 1.7
    assert np.abs(colour.gamma(picture, 1.7) - by_formula).max() <= 0.5
    dark = colour.night(picture, 0.6, 3).astype(float)
    assert dark.mean() == pytest.approx(0.4 * picture.mean(), rel=0.08)
    assert (
        dark[..., 2].mean() / picture[..., 2].mean() > dark[..., 0].mean() / picture[..., 0].mean()
    )
    foggy = colour.fog(picture, 0.8, 3).astype(float)
    assert foggy[:10].std() < 0.5 * picture[:10].std()
    assert foggy[-10:].std() > foggy[:10].std()
    assert foggy.mean() > picture.mean()


def test_noise_has_its_deviation():
    grey = np.full((200, 200, 3), 128, np.uint8)
    apart = colour.noise(grey, 9.0, 5).astype(float) - 128
    assert apart.std() == pytest.approx(9.0, rel=0.02) and abs(apart.mean()) < 0.1


def test_blur_is_a_gaussian_and_jpeg_is_jpeg(picture):
    expected = gaussian_filter(picture.astype(float), (2, 2, 0), mode="nearest")
    assert np.abs(colour.blur(picture, 2.0)[8:-8, 8:-8] - expected[8:-8, 8:-8]).max() < 4
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=30)
    np.testing.assert_array_equal(colour.jpeg(picture, 30), np.asarray(Image.open(buffer)))


def test_draws_belong_to_their_names_and_are_even():
    a, b = Draws(1, "a.jpg", 0, "x"), Draws(1, "a.jpg", 0, "x")
    assert [a.uniform(), a.whole(3, 9), a.seed()] == [b.uniform(), b.whole(3, 9), b.seed()]
    numbers = [Draws(1, str(i)).uniform(2, 4) for i in range(2000)]
    assert 2 <= min(numbers) < 2.01 and 3.99 < max(numbers) <= 4
    assert np.mean(numbers) == pytest.approx(3, abs=0.04)
    wholes = np.bincount([Draws(2, str(i)).whole(0, 3) for i in range(2000)])
    assert len(wholes) == 4 and wholes.min() > 430


def test_fields_never_change():
    """These numbers are the promise that a copy can be made again by later versions."""
    assert uniform_field(7, (3,)).round(9).tolist() == [0.872073455, 0.295365382, 0.420097679]
    assert normal_field(7, (2, 2)).shape == (2, 2)
    assert Draws(7, "a.jpg", 0, 1, "rotate").uniform() == 0.524069
