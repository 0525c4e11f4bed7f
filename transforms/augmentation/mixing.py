"""Mixing: what covers parts of a picture, or puts another picture's parts there.

Pictures meet along hard edges, so that each pixel is of one picture and its id is that pixel's.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from scipy.ndimage import find_objects, label

from models.generator import resized_ids
from transforms.augmentation.colour import to_bytes
from transforms.augmentation.scene import Image, Pair, Scene
from transforms.masks import Ids

_GREY = 127
_NEIGHBOURS = np.ones((3, 3), np.uint8)  # diagonal ones too


def cutout(image: Image, mask: Ids | None, boxes: list[list[int]], ignore_id: int) -> Pair:
    """With grey rectangles, [top, left, height, width] each; nobody can know what is below."""
    pixels, ids = image.copy(), None if mask is None else mask.copy()
    for top, left, height, width in boxes:
        place = (slice(top, top + height), slice(left, left + width))
        pixels[place] = _GREY
        if ids is not None:
            ids[place] = ignore_id
    return pixels, ids


def cutmix(scene: Scene, other: Scene, box: list[int]) -> tuple[Image, Ids | None, float]:
    """A rectangle of another picture in this one, with its mask.

    Args:
        box: [top, left, height, width] in this picture; the other is brought to its size.

    Returns:
        Picture, mask, and the part of the picture that is the other's.
    """
    top, left, height, width = box
    place = (slice(top, top + height), slice(left, left + width))
    fitted, ids = fit(other, scene.pixels.shape[:2])
    pixels = scene.pixels.copy()
    pixels[place] = fitted[place]
    mask = None
    if scene.mask is not None and ids is not None:
        mask = scene.mask.astype(np.promote_types(scene.mask.dtype, ids.dtype))
        mask[place] = ids[place]
    return pixels, mask, height * width / (scene.pixels.shape[0] * scene.pixels.shape[1])


def mixup(scene: Scene, other: Scene, weight: float) -> Image:
    """Both pictures blended, `weight` of it the other. Raises ValueError for pictures with masks:
    a blend of two pictures has no one class id at a pixel."""
    if scene.mask is not None or other.mask is not None:
        raise ValueError("mixup of pictures with masks: class ids cannot be blended")
    fitted, _ = fit(other, scene.pixels.shape[:2])
    return to_bytes(scene.pixels * (1 - weight) + fitted * weight)


class Instance(NamedTuple):
    """A connected region of one class id: its rows and columns, and where in them it is."""

    class_id: int
    rows: slice
    columns: slice
    where: npt.NDArray[np.bool_]

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.where.shape[0], self.where.shape[1]


def instances(mask: Ids, classes: tuple[int, ...], min_pixels: int) -> list[Instance]:
    """The instances of some classes in a mask: by class, then in the order of their first pixel."""
    found = []
    for class_id in classes:
        regions, _ = label(mask == class_id, _NEIGHBOURS)
        for number, (rows, columns) in enumerate(find_objects(regions), 1):
            where = regions[rows, columns] == number
            if where.sum() >= min_pixels:
                found.append(Instance(class_id, rows, columns, where))
    return found


def instance_at(mask: Ids, class_id: int, row: int, column: int) -> Instance:
    """The instance that has a pixel."""
    regions, _ = label(mask == class_id, _NEIGHBOURS)
    number = regions[row, column]
    rows, columns = find_objects(regions)[number - 1]
    return Instance(class_id, rows, columns, regions[rows, columns] == number)


def paste(
    image: Image, mask: Ids, other: Scene, instance: Instance, *, top: int, left: int
) -> tuple[Image, Ids]:
    """An instance of another picture in this one; what is beyond its edges is cut off.

    Args:
        top, left: where the instance's box begins in this picture; may be negative.
    """
    assert other.mask is not None
    height, width = instance.size_hw
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(image.shape[0], top + height), min(image.shape[1], left + width)
    pixels = image.copy()
    ids = mask.astype(np.promote_types(mask.dtype, other.mask.dtype))
    if y0 >= y1 or x0 >= x1:
        return pixels, ids
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    here = instance.where[part]
    source = other.pixels[instance.rows, instance.columns][part]
    pixels[y0:y1, x0:x1][here] = source[here]
    ids[y0:y1, x0:x1][here] = instance.class_id
    return pixels, ids


def fit(scene: Scene, size_hw: tuple[int, int]) -> Pair:
    """A picture and its mask brought to a size: bilinear, and nearest neighbour."""
    if scene.pixels.shape[:2] == size_hw:
        return scene.pixels, scene.mask
    bilinear = Pictures.Resampling.BILINEAR
    pixels = np.asarray(Pictures.fromarray(scene.pixels).resize(size_hw[::-1], bilinear))
    if scene.mask is None:
        return pixels, None
    return pixels, resized_ids(scene.mask, size_hw)
