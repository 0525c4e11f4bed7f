"""How masks of the field encode classes, and reading them: values as files hold them, then codes.

encoding    values                            class id
ids         grey, palette or 1-bit            the value itself; also of RGB with equal channels
binary      0, and 1 or 255 (65535)           0, and 1
inverted    0, and 1 or 255 (65535)           1, and 0
rgb         colours                           of the legend
instances   numbers of objects, up to 16 bit  value // divisor; without one 0 is 0, others are 1
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from transforms.decode import MAX_PIXELS
from transforms.evaluation.counting import IGNORED, OUT_OF_RANGE, Codes, Values
from transforms.failures import Failure
from transforms.masks import is_grey, read_mask

Encoding = Literal["ids", "binary", "inverted", "rgb", "instances"]
_WHITE = {"binary": 1, "inverted": 0}


@dataclasses.dataclass(frozen=True)
class Coding:
    """What the values of a mask mean.

    Attributes:
        classes: C, of the space in which is compared.
        encoding: see above.
        ignore_ids: class ids, in the mask's own space, that are not compared.
        class_map: (id in the mask's own space, class id or -1 for "ignore"); others stay.
        colors: (red * 65536 + green * 256 + blue, class id), for "rgb".
        divisor: of instances; 0 for none.
    """

    classes: int
    encoding: Encoding = "ids"
    ignore_ids: tuple[int, ...] = ()
    class_map: tuple[tuple[int, int], ...] = ()
    colors: tuple[tuple[int, int], ...] = ()
    divisor: int = 0

    def __call__(self, values: Values) -> Codes:
        """Codes of values (see joint_counts), of the same shape."""
        if values.dtype == np.uint32:
            return self._of(values)
        return np.asarray(_table(self, values.dtype.itemsize)[values])

    def _of(self, values: Values) -> Codes:
        ids = self._ids(values.astype(np.int64))
        codes = np.where((ids >= 0) & (ids < self.classes), ids, self.classes + OUT_OF_RANGE)
        for old, new in self.class_map:
            code = self.classes + (IGNORED if new < 0 else OUT_OF_RANGE)
            codes[ids == old] = new if 0 <= new < self.classes else code
        for ignored in self.ignore_ids:
            codes[ids == ignored] = self.classes + IGNORED
        return codes.astype(np.uint8 if self.classes < 254 else np.uint16)

    def _ids(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Class ids in the mask's own space; -1 for what is none."""
        if self.encoding in _WHITE:
            white = _WHITE[self.encoding]
            ids = np.where(values == 0, 1 - white, -1)
            ids[np.isin(values, (1, 255, 65535))] = white
            ids[np.isin(values, self.ignore_ids)] = values[np.isin(values, self.ignore_ids)]
            return ids
        if self.encoding == "rgb":
            known = np.array(sorted(self.colors), np.int64).reshape(-1, 2)
            if not len(known):
                return np.full_like(values, -1)
            at = np.searchsorted(known[:, 0], values).clip(max=len(known) - 1)
            return np.where(known[at, 0] == values, known[at, 1], -1)
        if self.encoding == "instances":
            if not self.divisor:
                return (values > 0).astype(np.int64)
            return np.where(values >= self.divisor, values // self.divisor, values)
        return values


@functools.lru_cache(64)
def _table(coding: Coding, itemsize: int) -> Codes:
    """Codes of all values of uint8 or uint16."""
    values = np.arange(1 << (8 * itemsize))
    return coding._of(values.astype(np.uint8) if itemsize == 1 else values.astype(np.uint16))


def decode_values(
    data: bytes, encoding: Encoding, name: str, max_pixels: int = MAX_PIXELS
) -> Values:
    """Reads the values of a mask.

    Args:
        data: an encoded picture.
        encoding: how classes are encoded.
        name: for messages.
        max_pixels: larger ones are refused by their header.

    Returns:
        [H, W] of uint8 or, from 16 bit, uint16; for "rgb" uint32, red * 65536 + green * 256 + blue.

    Raises:
        Failure: it cannot be read, or is no mask of this encoding.
    """

    def check(size: tuple[int, int]) -> None:
        if size[0] * size[1] > max_pixels:
            raise Failure(
                "decode",
                "too_large",
                f"the header of mask {name} says {size[0]}x{size[1]} pixels, at most "
                f"{max_pixels:,} are allowed; raise --max_pixels if this is meant",
            )

    if (Image.MAX_IMAGE_PIXELS or max_pixels) < max_pixels:  # Pillow's own, which is far lower
        Image.MAX_IMAGE_PIXELS = max_pixels
    mode, values = read_mask(data, name, check, "RGB" if encoding == "rgb" else "")
    if encoding == "rgb":
        return _colors(values)
    if is_grey(mode):
        if mode.startswith("I"):
            return values.astype(np.uint16)
        return values.astype(np.uint8, copy=False)
    if mode in ("RGB", "RGBA", "LA") and _is_grey(values[..., : 3 if mode != "LA" else 1]):
        return np.ascontiguousarray(values[..., 0])
    raise Failure(
        "decode",
        "mask_format",
        f"mask {name} has mode {mode}, expected class ids in one channel (L, P, 1 or 16 bit); if "
        "its colours stand for classes give the encoding rgb, and a legend with their colours",
    )


def _colors(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    wide = pixels.astype(np.uint32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], np.uint32)


def _is_grey(channels: npt.NDArray[np.uint8]) -> bool:
    return bool((channels == channels[..., :1]).all())


def centres(new: int, old: int) -> npt.NDArray[np.int64]:
    """Which of `old` pixels in a line lie at the centres of `new` ones."""
    return np.minimum((np.arange(new) * 2 + 1) * old // (2 * new), old - 1)


def resize_nearest(values: Values, size_hw: tuple[int, int]) -> Values:
    """A mask brought to another size; each pixel takes the value at its centre, none is blended."""
    rows, columns = (centres(new, old) for new, old in zip(size_hw, values.shape, strict=True))
    resized: Values = values[rows[:, np.newaxis], columns]
    return resized
