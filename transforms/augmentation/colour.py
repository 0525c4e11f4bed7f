"""Colour and camera: what changes pixels where they are. Masks stay.

Hue and saturation are tf.image's, noise and contrast are our own: tf.image's mean may add up in
another order on another machine, and its random numbers are not told in what it returns.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from PIL import ImageFilter

from models.loading import import_tensorflow
from transforms.augmentation.draws import normal_field, uniform_field
from transforms.augmentation.geometry import smooth
from transforms.augmentation.scene import Image

tf = import_tensorflow()

_NIGHT_TINT = np.array([0.8, 0.9, 1.1], np.float32)  # moonlight is seen as blue
_NIGHT_NOISE = 8.0  # grey levels of 255, in full darkness
_FOG_GREY = 225.0


def colour(
    image: Image, brightness: float, contrast: float, saturation: float, hue: float
) -> Image:
    """In another light.

    Args:
        brightness: added, in parts of 255.
        contrast: factor about each channel's mean.
        saturation: factor of HSV's saturation.
        hue: turn in degrees.
    """
    pixels = image.astype(np.float32) / 255
    if hue:
        pixels = tf.image.adjust_hue(pixels, hue / 360).numpy()
    if saturation != 1:
        pixels = tf.image.adjust_saturation(pixels, saturation).numpy()
    if contrast != 1:
        mean = pixels.mean((0, 1), dtype=np.float64).astype(np.float32)
        pixels = (pixels - mean) * np.float32(contrast) + mean
    return to_bytes((pixels + np.float32(brightness)) * 255)


def gamma(image: Image, exponent: float) -> Image:
    """Every value v of 0 to 255 becomes 255 (v / 255) ** exponent."""
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return np.asarray(table[image])


def noise(image: Image, sigma: float, seed: int) -> Image:
    """With Gaussian noise of a standard deviation of `sigma` grey levels."""
    return to_bytes(image + sigma * normal_field(seed, image.shape))


def blur(image: Image, radius_px: float) -> Image:
    """Blurred by a Gaussian of this standard deviation (Pillow's, of three boxes)."""
    return np.asarray(Pictures.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)))


def jpeg(image: Image, quality: int) -> Image:
    """As it comes back from a JPEG of a quality of 1 to 100."""
    buffer = io.BytesIO()
    Pictures.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Pictures.open(buffer) as back:
        return np.asarray(back.convert("RGB"))


def night(image: Image, darkness: float, seed: int) -> Image:
    """As at night: a part `darkness` of the light is gone, what is left is blue and noisy."""
    light = image.astype(np.float32) * (1 - darkness) * (1 + (_NIGHT_TINT - 1) * darkness)
    return to_bytes(light + _NIGHT_NOISE * darkness * normal_field(seed, image.shape))


def fog(image: Image, density: float, seed: int) -> Image:
    """As in fog: a veil that covers up to `density` of the contrast, at the bottom half of it."""
    height, width = image.shape[:2]
    clouds = np.clip(smooth(uniform_field(seed, (4, 4)), (height, width)), 0, 1)
    depth = np.linspace(1.0, 0.5, height, dtype=np.float32)[:, np.newaxis]
    veil = (density * depth * (0.6 + 0.4 * clouds))[..., np.newaxis]
    return to_bytes(image * (1 - veil) + _FOG_GREY * veil)


def to_bytes(values: npt.NDArray[np.floating]) -> Image:
    """Rounded, within 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
