"""Writing masks: grey PNGs whose pixel values are class ids."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# On masks of 1024x2048 level 1 takes 0.57 of the time of level 6, for 1.4 of its bytes.
_LEVEL = 1


def encode_png(pixels: npt.NDArray[Any]) -> bytes:
    """A grey PNG: uint8 [H, W] as mode L of 8 bit, uint16 [H, W] as 16 bit.

    Raises:
        TypeError: any other dtype, rather than wrapping ids around.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"a mask of {pixels.dtype} cannot be written, expected uint8 or uint16")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_LEVEL)
    return buffer.getvalue()
