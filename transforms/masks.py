"""Masks as files hold them: class ids in one channel."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from transforms.failures import Failure

Ids = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def decode_mask(data: bytes, size_hw: tuple[int, int], name: str) -> Ids:
    """Decodes a mask: palette indices, 1-bit and grey values are ids as they are.

    Args:
        data: encoded mask of mode L, P, 1, or 16-bit grey.
        size_hw: height and width that it must have, upright.
        name: for messages.

    Returns:
        uint8 or, from 16 bits, uint16 [H, W].

    Raises:
        Failure: it cannot be read, has colours, or has another size.
    """
    height, width = size_hw

    def check(found: tuple[int, int]) -> None:
        if found != (width, height):  # by its header: a huge one is never decoded
            raise Failure(
                "decode",
                "mask_size",
                f"mask {name} is {found[0]}x{found[1]}, its image is {width}x{height}; "
                "make them equal, without blending ids (nearest)",
            )

    mode, ids = read_mask(data, name, check)
    if not is_grey(mode):
        raise Failure(
            "decode",
            "mask_format",
            f"mask {name} has mode {mode}, expected class ids in one channel (L, P, 1 or 16 bit)",
        )
    return ids.astype(np.uint8) if mode in ("L", "P", "1") else ids.astype(np.uint16)


def read_mask(
    data: bytes, name: str, check: Callable[[tuple[int, int]], None], convert: str = ""
) -> tuple[str, npt.NDArray[Any]]:
    """Pillow's mode and the values of a mask, [H, W] or [H, W, channels].

    Args:
        check: is given width and height, before anything is decoded; may raise a Failure.
        convert: to this mode; "" for none.

    Raises:
        Failure: it cannot be read, or holds numbers that no id can be.
    """
    try:
        with Image.open(io.BytesIO(data)) as mask:
            check(mask.size)
            mask.load()
            picture = mask.convert(convert) if convert else mask
            mode, values = picture.mode, np.asarray(picture)
    except Failure:
        raise
    except Exception as error:  # as for images: whatever Pillow's plugins raise for bad files
        raise Failure("decode", "mask_format", f"mask {name}: {error}") from error
    if mode.startswith("I") and values.size and (values.min() < 0 or values.max() > 65535):
        raise Failure("decode", "mask_format", f"mask {name} has ids outside 0 to 65535")
    return mode, values


def is_grey(mode: str) -> bool:
    """Whether a picture of this mode has one channel that can hold ids."""
    return mode in ("L", "P", "1") or mode.startswith("I")
