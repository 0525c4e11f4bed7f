"""Augmentation while training: the same picture, seen a little differently each time.

Random numbers come from TensorFlow's stateless generators and a seed for each example, so that a
training that is resumed, or repeated, sees the same. Geometry is drawn once and applied to picture
and mask alike; masks move by nearest neighbour, so that ids never blend, and what comes in from
outside of the picture is the ignore id.
"""

import math
from collections.abc import Collection
from typing import Any, Literal

from models.loading import import_tensorflow
from models.networks.export import resized

tf = import_tensorflow()

Op = Literal["flip", "turn", "scale", "shift", "colour"]
OPS = {
    "flip": "left becomes right",
    "turn": "by quarter turns, and upside down: for microscopes and views from above",
    "scale": "crops: 0.7 to 1.4 times as large; whole pictures: 0.85 to 1.15 times",
    "shift": "moved by up to an eighth of the side",
    "colour": "brightness, contrast and saturation",
}
_SCALES = (0.7, 1.4)
_WHOLE_SCALES = (0.85, 1.15)
_SHIFT = 1 / 8


def augmented_crop(
    image: Any, mask: Any, seed: Any, *, crop_px: int, ops: Collection[str], ignore_id: int
) -> tuple[Any, Any]:
    """A random square of a picture with its mask.

    Args:
        image: uint8 [H, W, 3].
        mask: integer [H, W].
        seed: int32 [2].
        crop_px: side of what comes out. Smaller pictures are surrounded by black, and there the
            mask is `ignore_id`.
        ops: names in OPS.

    Returns:
        float32 [crop_px, crop_px, 3] in 0 to 255, and int32 [crop_px, crop_px].
    """
    seeds = _split(seed, 4)
    image, mask = tf.cast(image, tf.float32), tf.cast(mask, tf.int32)
    side = crop_px
    if "scale" in ops:
        low, high = (math.log(scale) for scale in _SCALES)
        scale = tf.exp(tf.random.stateless_uniform([], seeds[0], low, high))
        side = tf.maximum(1, tf.cast(tf.round(crop_px / scale), tf.int32))
        # a small picture is not made smaller: most of the square would be black
        side = tf.minimum(side, tf.maximum(crop_px, tf.reduce_min(tf.shape(mask))))
    size_hw = tf.shape(mask)
    short_hw = tf.maximum(0, side - size_hw)
    before_hw = short_hw // 2
    around = tf.stack([before_hw, short_hw - before_hw], axis=1)
    image = tf.pad(image, tf.concat([around, [[0, 0]]], 0))
    mask = tf.pad(mask, around, constant_values=ignore_id)
    room_hw = tf.shape(mask) - side
    place = tf.random.stateless_uniform([2], seeds[1])
    top_left = tf.cast(place * tf.cast(room_hw + 1, tf.float32), tf.int32)
    top_left = tf.minimum(top_left, room_hw)
    image = tf.slice(image, tf.concat([top_left, [0]], 0), tf.stack([side, side, 3]))
    mask = tf.slice(mask, top_left, tf.stack([side, side]))
    if "scale" in ops:
        image = tf.image.resize(image, (crop_px, crop_px))
        mask = tf.image.resize(mask[..., tf.newaxis], (crop_px, crop_px), "nearest")[..., 0]
    image = tf.ensure_shape(image, (crop_px, crop_px, 3))
    mask = tf.ensure_shape(mask, (crop_px, crop_px))
    both = tf.concat([image, tf.cast(mask, tf.float32)[..., tf.newaxis]], -1)
    both = _turned(both, seeds[2], ops)
    image, mask = both[..., :3], tf.cast(both[..., 3], tf.int32)
    return (coloured(image, seeds[3]) if "colour" in ops else image), mask


def augmented_picture(image: Any, seed: Any, size_hw: tuple[int, int], ops: Collection[str]) -> Any:
    """A picture at one size, changed at random.

    Args:
        image: uint8 [H, W, 3].
        seed: int32 [2].
        size_hw: (height, width) of what comes out.
        ops: names in OPS; "turn" needs a square.

    Returns:
        float32 [*size_hw, 3] in 0 to 255.
    """
    seeds = _split(seed, 3)
    image = resized(image[tf.newaxis], size_hw)
    if "shift" in ops or "scale" in ops:
        image = _moved(image, seeds[0], size_hw, ops)
    image = _turned(image[0], seeds[1], ops)
    return coloured(image, seeds[2]) if "colour" in ops else image


def coloured(image: Any, seed: Any) -> Any:
    """float32 [H, W, 3] in 0 to 255, in another light: brightness by up to 12 % of the range,
    contrast and saturation by up to a quarter."""
    seeds = _split(seed, 3)
    image = tf.image.stateless_random_brightness(image, 30.0, seeds[0])
    image = tf.image.stateless_random_contrast(image, 0.75, 1.25, seeds[1])
    saturation = tf.random.stateless_uniform([], seeds[2], 0.75, 1.25)
    grey = tf.reduce_sum(image * [0.299, 0.587, 0.114], -1, keepdims=True)  # ITU-R BT.601
    return tf.clip_by_value(grey + (image - grey) * saturation, 0.0, 255.0)


def _moved(image: Any, seed: Any, size_hw: tuple[int, int], ops: Collection[str]) -> Any:
    """[1, h, w, 3] shifted and scaled about its middle; the border continues outwards."""
    seeds = _split(seed, 2)
    scale = tf.constant(1.0)
    if "scale" in ops:
        low, high = (math.log(scale) for scale in _WHOLE_SCALES)
        scale = tf.exp(tf.random.stateless_uniform([], seeds[0], low, high))
    shift = tf.zeros([2])
    if "shift" in ops:
        shift = tf.random.stateless_uniform([2], seeds[1], -_SHIFT, _SHIFT) * tf.constant(
            [float(size_hw[0]), float(size_hw[1])]
        )
    middle = tf.constant([(size_hw[0] - 1) / 2, (size_hw[1] - 1) / 2], tf.float32)
    offset = middle - middle / scale - shift
    zero = tf.constant(0.0)
    # rows of the transform from output to input coordinates, x before y
    transform = tf.stack([1 / scale, zero, offset[1], zero, 1 / scale, offset[0], zero, zero])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=transform[tf.newaxis],
        output_shape=tf.constant(size_hw, tf.int32),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _turned(image: Any, seed: Any, ops: Collection[str]) -> Any:
    """[h, w, c] flipped or turned."""
    seeds = _split(seed, 2)
    if "turn" in ops:
        quarters = tf.random.stateless_uniform([], seeds[0], 0, 4, tf.int32)
        shape = image.shape
        image = tf.ensure_shape(tf.image.rot90(image, quarters), shape)
    if "flip" in ops or "turn" in ops:
        flip = tf.random.stateless_uniform([], seeds[1]) < 0.5
        image = tf.where(flip, tf.reverse(image, [1]), image)
    return image


def _split(seed: Any, parts: int) -> list[Any]:
    """Independent seeds from one."""
    return list(tf.unstack(tf.random.experimental.stateless_split(seed, parts)))
