"""Scenes with exact masks: real handwritten digits over crops of real photographs.

Both sources lie inside the scikit-learn wheel, so nothing is downloaded: the 1797 digits of
`load_digits` (8x8, 0..16) and the two photographs of `load_sample_image` (427x640 RGB).
A scene depends on (seed, index) alone, so any worker can make any scene in any order.
"""

from __future__ import annotations

import colorsys
import functools
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "demo"]
ImageU8 = NDArray[np.uint8]
"""uint8 [H, W, 3] RGB in 0..255."""
MaskU8 = NDArray[np.uint8]
"""uint8 [H, W] of class ids in 0..10."""

CLASS_NAMES = (
    "background", "zero", "one", "two", "three", "four",
    "five", "six", "seven", "eight", "nine",
)  # fmt: skip
"""Class id is the position: 0 is background, d + 1 is digit d."""

PHOTO_CREDITS = {
    "china.jpg": "danielbuechele, CC BY 2.0, https://www.flickr.com/photos/danielbuechele/6061409035",
    "flower.jpg": "vultilion, CC BY 2.0, https://www.flickr.com/photos/vultilion/6056698931",
}
"""Author, licence and page of each photograph: show them wherever scenes are shown."""

MAX_DIGITS = 4
MIN_SIZE_PX = 16
INK_HEIGHT_PX = (30, 50)  # shrunk for scenes too small to hold it
_TRAIN_FRACTION = 0.8
_EDGE_LEVEL = 0.5  # ink level, as a share of the digit's darkest pixel, at the stroke's edge
_MIN_ALPHA = 0.25  # fainter than this a pixel stays background: changed pixels == mask
_PLACEMENT_TRIES = 40
_MIN_GAP_PX = 2


def digit_indices(split: Split) -> NDArray[np.int64]:
    """Positions in `load_digits` that a split may use; "train" and "demo" share none.

    The cut is contiguous (first 4/5 train, last 1/5 demo): neighbours in the data set are
    alike, so picking every fifth digit would make the held-out part too easy.

    Returns:
        int64 [K], increasing, each in 0..1796.
    """
    if split not in get_args(Split):
        raise ValueError(f"split is {split!r}, expected one of {get_args(Split)}")
    count = len(_digits()[1])
    cut = int(count * _TRAIN_FRACTION)
    return np.arange(cut) if split == "train" else np.arange(cut, count)


def photo_crop(rng: np.random.Generator, size_hw: tuple[int, int]) -> ImageU8:
    """A random crop of a random photograph, maybe mirrored, resized to `size_hw` pixels.

    Returns:
        uint8 [H, W, 3] RGB in 0..255.
    """
    height, width = size_hw
    photo = _photos()[rng.integers(len(_photos()))]
    photo_h, photo_w = photo.shape[:2]
    most = min(2.5, photo_h / height, photo_w / width)  # photo pixels per scene pixel
    scale = rng.uniform(min(0.9, most), most)
    crop_h, crop_w = max(1, int(height * scale)), max(1, int(width * scale))
    top = rng.integers(photo_h - crop_h + 1)
    left = rng.integers(photo_w - crop_w + 1)
    crop = photo[top : top + crop_h, left : left + crop_w]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    resized = Image.fromarray(np.ascontiguousarray(crop)).resize(
        (width, height), Image.Resampling.LANCZOS
    )
    return np.array(resized, dtype=np.uint8)


def digit_alpha(
    glyph: NDArray[np.float32], ink_height_px: float, stretch: float, tilt_deg: float
) -> NDArray[np.float32]:
    """Enlarges one 8x8 digit to a smooth-edged stencil, cut to its ink.

    Args:
        glyph: float32 [8, 8], ink level in 0..16.
        ink_height_px: height of the 8 enlarged rows, in pixels.
        stretch: width over height, 1.0 keeps the digit's own shape.
        tilt_deg: counter-clockwise rotation in degrees.

    Returns:
        float32 [h, w]: 0 outside the stroke, else opacity in 0.25..1.
    """
    padded = np.pad(glyph / max(float(glyph.max()), 1.0), 2)  # room for tilt and soft edges
    rows_px = ink_height_px * padded.shape[0] / glyph.shape[0]
    big = (
        Image.fromarray(padded.astype(np.float32))
        .resize(
            (max(1, round(rows_px * stretch)), max(1, round(rows_px))), Image.Resampling.BICUBIC
        )
        .rotate(tilt_deg, Image.Resampling.BICUBIC)
    )
    edge_width = 5.0 / ink_height_px  # the level changes about this much over one pixel
    alpha = np.clip((np.asarray(big) - _EDGE_LEVEL) / edge_width + 0.5, 0.0, 1.0)
    alpha[alpha < _MIN_ALPHA] = 0.0
    inked = alpha > 0
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    cut = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(cut, dtype=np.float32)


def scene(
    seed: int, index: int, *, split: Split = "demo", size_hw: tuple[int, int] = (128, 128)
) -> tuple[ImageU8, MaskU8]:
    """Scene number `index` of the endless series `seed`: 1 to 4 digits over a photograph.

    Digits never touch one another and lie fully inside the scene. A pixel differs from
    `photo_crop(np.random.default_rng([seed, index]), size_hw)` only where the mask is not 0.

    Args:
        seed: names the series, 0 or more.
        index: position in the series, 0 or more; order of calls does not matter.
        split: which digits may appear, see `digit_indices`.
        size_hw: height and width in pixels, each at least 16.

    Returns:
        image: uint8 [H, W, 3] RGB in 0..255.
        mask: uint8 [H, W] of class ids in 0..10, see `CLASS_NAMES`.

    Raises:
        ValueError: on an unknown split or a size below 16 pixels.
    """
    if min(size_hw) < MIN_SIZE_PX:
        raise ValueError(f"size_hw is {size_hw}, each side must be at least {MIN_SIZE_PX} pixels")
    choices = digit_indices(split)
    rng = np.random.default_rng([seed, index])
    image = photo_crop(rng, size_hw)
    mask = np.zeros(size_hw, np.uint8)
    for _ in range(rng.integers(1, MAX_DIGITS + 1)):
        _add_digit(rng, image, mask, int(rng.choice(choices)))
    return image, mask


def scenes(
    seed: int,
    indices: range,
    *,
    split: Split = "demo",
    size_hw: tuple[int, int] = (128, 128),
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Several scenes of one series, stacked.

    Returns:
        images: uint8 [N, H, W, 3] RGB in 0..255.
        masks: uint8 [N, H, W] of class ids in 0..10.
    """
    pairs = [scene(seed, index, split=split, size_hw=size_hw) for index in indices]
    images, masks = zip(*pairs, strict=True)
    return np.stack(images), np.stack(masks)


def _add_digit(rng: np.random.Generator, image: ImageU8, mask: MaskU8, digit: int) -> None:
    """Draws one digit into `image` and `mask` in place, or nothing when no free place is found."""
    glyphs, labels = _digits()
    low, high = INK_HEIGHT_PX
    room = 0.62 * min(mask.shape)  # tilted and stretched, the ink still fits in the scene
    ink_height_px = rng.uniform(min(low, 0.6 * room), min(high, room))
    alpha = digit_alpha(glyphs[digit], ink_height_px, rng.uniform(0.85, 1.2), rng.uniform(-12, 12))
    place = _free_place(rng, mask, alpha)
    if place is None:
        return
    view = image[place]
    colour = _contrasting_colour(rng, view.reshape(-1, 3).mean(0))
    opacity = alpha[..., None]
    view[:] = np.rint(view * (1 - opacity) + colour * opacity).astype(np.uint8)
    mask[place][alpha > 0] = labels[digit] + 1


def _free_place(
    rng: np.random.Generator, mask: MaskU8, alpha: NDArray[np.float32]
) -> tuple[slice, slice] | None:
    """A random window of alpha's size whose ink keeps a gap to all earlier ink."""
    height, width = alpha.shape
    for _ in range(_PLACEMENT_TRIES):
        top = int(rng.integers(mask.shape[0] - height + 1))
        left = int(rng.integers(mask.shape[1] - width + 1))
        near = mask[
            max(0, top - _MIN_GAP_PX) : top + height + _MIN_GAP_PX,
            max(0, left - _MIN_GAP_PX) : left + width + _MIN_GAP_PX,
        ]
        if not near.any():
            return slice(top, top + height), slice(left, left + width)
    return None


def _contrasting_colour(
    rng: np.random.Generator, surround: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A vivid RGB colour, float64 [3] in 0..255, that stands out from the surround's mean."""
    candidates = np.array(
        [
            colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.8, 1.0))
            for _ in range(6)
        ]
    )
    luma = np.array([0.299, 0.587, 0.114])
    offsets = candidates * 255.0 - surround
    distance = np.linalg.norm(offsets, axis=1) + 1.5 * np.abs(offsets @ luma)
    best: NDArray[np.float64] = candidates[np.argmax(distance)] * 255.0
    return best


@functools.cache
def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All digits: float32 [1797, 8, 8] in 0..16 and their values, int64 [1797] in 0..9."""
    from sklearn.datasets import load_digits

    data = load_digits()
    glyphs, labels = data.images.astype(np.float32), data.target.astype(np.int64)
    glyphs.flags.writeable = labels.flags.writeable = False
    return glyphs, labels


@functools.cache
def _photos() -> tuple[ImageU8, ...]:
    """The photographs: uint8 [427, 640, 3] each."""
    from sklearn.datasets import load_sample_image

    photos = tuple(np.array(load_sample_image(name), np.uint8) for name in sorted(PHOTO_CREDITS))
    for photo in photos:
        photo.flags.writeable = False
    return photos
