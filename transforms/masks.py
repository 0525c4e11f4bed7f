"""Masks as files hold them: class ids in one channel."""

import io

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
    try:
        with Image.open(io.BytesIO(data)) as mask:
            width, height = mask.size
            if (height, width) != size_hw:  # by its header: a huge one is never decoded
                raise Failure(
                    "decode",
                    "mask_size",
                    f"mask {name} is {width}x{height}, its image is {size_hw[1]}x{size_hw[0]}; "
                    "make them equal, without blending ids (nearest)",
                )
            mask.load()
            mode, ids = mask.mode, np.asarray(mask)
    except Failure:
        raise
    except Exception as error:  # as for images: whatever Pillow's plugins raise for bad files
        raise Failure("decode", "mask_format", f"mask {name}: {error}") from error
    if mode not in ("L", "P", "1") and not mode.startswith("I"):
        raise Failure(
            "decode",
            "mask_format",
            f"mask {name} has mode {mode}, expected class ids in one channel (L, P, 1 or 16 bit)",
        )
    if ids.min() < 0 or ids.max() > 65535:
        raise Failure("decode", "mask_format", f"mask {name} has ids outside 0 to 65535")
    return ids.astype(np.uint8) if mode in ("L", "P", "1") else ids.astype(np.uint16)
