"""Geometry: what moves pixels. Drawn once, and done to picture and mask alike.

Pictures move by bilinear interpolation, masks by nearest neighbour, on one grid: the middle of the
pixel in row i is at i + 0.5. What comes in from outside is black, and in masks the ignore id.
Pillow does the maps that are given by few numbers, scipy those given at every pixel.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from scipy.ndimage import map_coordinates

from transforms.augmentation.draws import uniform_field
from transforms.augmentation.scene import Image, Pair, as_ids
from transforms.masks import Ids

Mask = Ids | None
_BILINEAR, _NEAREST = Pictures.Resampling.BILINEAR, Pictures.Resampling.NEAREST


def flip(image: Image, mask: Mask, axis: str) -> Pair:
    """Mirrored: "horizontal" exchanges left and right, "vertical" top and bottom."""
    way = (slice(None), slice(None, None, -1)) if axis == "horizontal" else slice(None, None, -1)
    return _same(image[way]), None if mask is None else _same(mask[way])


def quarter_turn(image: Image, mask: Mask, turns: int) -> Pair:
    """Turned counterclockwise by 90 degrees, `turns` times."""
    return _same(np.rot90(image, turns)), None if mask is None else _same(np.rot90(mask, turns))


def rotate(image: Image, mask: Mask, degrees: float, ignore_id: int) -> Pair:
    """Turned counterclockwise about the middle; the size stays."""
    return project(image, mask, rotation(image.shape[:2], degrees), ignore_id)


def rotation(size_hw: tuple[int, ...], degrees: float) -> tuple[float, ...]:
    """The eight numbers of `project` for a turn about the middle."""
    height, width = size_hw
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = width / 2, height / 2
    return (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0.0, 0.0)


def perspective(image: Image, mask: Mask, corners: list[list[float]], ignore_id: int) -> Pair:
    """Seen from another side.

    Args:
        corners: (x, y) in the source, in parts of width and height, of the corners of what comes
            out: top left, top right, bottom right, bottom left.
    """
    return project(image, mask, homography(image.shape[:2], corners), ignore_id)


def homography(size_hw: tuple[int, ...], corners: list[list[float]]) -> tuple[float, ...]:
    """The eight numbers of `project` by which the corners of a picture come from `corners`."""
    height, width = size_hw
    rows, values = [], []
    ends = ((0, 0), (width, 0), (width, height), (0, height))
    for (x, y), (across, down) in zip(ends, corners, strict=True):
        u, v = across * width, down * height
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved = np.linalg.solve(np.array(rows, np.float64), np.array(values, np.float64))
    return tuple(map(float, solved))


def project(image: Image, mask: Mask, numbers: tuple[float, ...], ignore_id: int) -> Pair:
    """Takes the pixel at (x, y) from ((ax + by + c) / w, (dx + ey + f) / w), w = gx + hy + 1.

    Args:
        numbers: a to h; x goes right and y down, in pixels, from the top left corner.
    """
    how, size = Pictures.Transform.PERSPECTIVE, (image.shape[1], image.shape[0])
    pixels = np.empty_like(image)
    for channel in range(3):  # as floats, for Pillow cuts bytes off instead of rounding them
        plane = Pictures.fromarray(image[..., channel].astype(np.float32))
        moved = np.asarray(plane.transform(size, how, numbers, _BILINEAR, fillcolor=0))
        pixels[..., channel] = np.clip(np.rint(moved), 0, 255)
    if mask is None:
        return pixels, None
    ids = Pictures.fromarray(mask).transform(size, how, numbers, _NEAREST, fillcolor=ignore_id)
    return pixels, as_ids(ids, mask)


def scale_crop(
    image: Image,
    mask: Mask,
    *,
    size_hw: list[int],
    box: list[float],
    at: list[int],
    ignore_id: int,
) -> Pair:
    """A part of the picture, scaled, on a ground of black and the ignore id.

    Args:
        size_hw: of what comes out.
        box: [top, left, height, width] in the source, in pixels, within it.
        at: [top, left, height, width] where it comes to lie.
    """
    top, left, height, width = box
    edges = (left, top, left + width, top + height)
    y, x, rows, columns = at
    place = (slice(y, y + rows), slice(x, x + columns))
    scaled = Pictures.fromarray(image).resize((columns, rows), _BILINEAR, box=edges)
    pixels = np.zeros((*size_hw, 3), np.uint8)
    pixels[place] = np.asarray(scaled)
    if mask is None:
        return pixels, None
    ids = np.full(size_hw, ignore_id, mask.dtype)
    ids[place] = np.asarray(Pictures.fromarray(mask).resize((columns, rows), _NEAREST, box=edges))
    return pixels, ids


def elastic(
    image: Image, mask: Mask, *, seed: int, amount: float, spacing: float, ignore_id: int
) -> Pair:
    """Bent: each pixel is taken from elsewhere, by `bends`."""
    return gather(image, mask, bends(image.shape[:2], seed, amount, spacing), ignore_id)


def bends(
    size_hw: tuple[int, ...], seed: int, amount: float, spacing: float
) -> npt.NDArray[np.float32]:
    """float32 [2, H, W]: how far (down, right) from each pixel its source lies, in pixels.

    Points of a coarse grid move at random, between them it is interpolated bicubically.
    """
    height, width = size_hw
    short = min(size_hw)
    grid_hw = tuple(2 + round(side / max(1.0, spacing * short)) for side in size_hw)
    moves = (2 * uniform_field(seed, (2, *grid_hw)) - 1) * amount * short
    return np.stack([smooth(each, (height, width)) for each in moves])


def smooth(coarse: npt.NDArray[Any], size_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A coarse field [h, w] as float32 [H, W], by bicubic interpolation."""
    field = Pictures.fromarray(coarse.astype(np.float32))
    return np.asarray(field.resize((size_hw[1], size_hw[0]), Pictures.Resampling.BICUBIC))


def gather(image: Image, mask: Mask, moves: npt.NDArray[np.float32], ignore_id: int) -> Pair:
    """Takes each pixel from its own place plus `moves`, float32 [2, H, W]."""
    height, width = image.shape[:2]
    source = np.indices((height, width), np.float32) + moves
    rows, columns = (np.floor(each + 0.5).astype(np.int32) for each in source)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = np.empty_like(image)
    for channel in range(3):
        plane = image[..., channel].astype(np.float32)
        moved = map_coordinates(plane, source, order=1, mode="nearest")
        pixels[..., channel] = np.where(inside, np.clip(np.rint(moved), 0, 255), 0)
    if mask is None:
        return pixels, None
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    ids = np.where(inside, mask[rows, columns], mask.dtype.type(ignore_id))
    return pixels, as_ids(ids, mask)


def _same(array: npt.NDArray[Any]) -> Any:
    return np.ascontiguousarray(array)
