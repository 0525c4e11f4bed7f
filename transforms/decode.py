"""Encoded bytes to uint8 RGB pixels: one decoder (Pillow), one policy, every failure named.

The policy: a strict and full load; the first frame of many; EXIF orientation applied; 16-bit
grey scaled by 257, never clipped; alpha dropped, or composited on a colour when asked. Pillow
itself keeps the high byte of 16-bit colour channels, at most one grey level below scaling.
"""

import dataclasses
import io
import math
import re
import struct
import warnings
import zlib
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from transforms.failures import Failure
from transforms.georeference import Georeference, georeference_of

MAX_PIXELS = 100_000_000
_BRIGHT_VALUES = 1024
Alpha = Literal["drop", "white", "black"]
_RARE_TIFF_CODECS = ("webp",)


@dataclasses.dataclass(frozen=True)
class DecodePolicy:
    """How pixels are read.

    Attributes:
        max_pixels: pictures with more pixels, by their header, are refused before decoding.
        alpha: "drop" keeps the colours under transparent pixels; "white" and "black" composite.
        draft_px: when set, a JPEG may be decoded at 1/2, 1/4 or 1/8 size as long as neither side
            becomes smaller than this many pixels.
        ids: the picture is a mask: palette indices and grey values are class ids, 0 to 255, and
            all three channels hold them.
    """

    max_pixels: int = MAX_PIXELS
    alpha: Alpha = "drop"
    draft_px: int | None = None
    ids: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a picture besides its pixels.

    Attributes:
        size_hw: height and width of the decoded pixels.
        stored_hw: height and width as stored, before orientation and draft scaling.
        format: Pillow's name of the format, "JPEG".
        mode: Pillow's name of the stored pixel mode, "CMYK".
        orientation: EXIF orientation that was applied, 1 to 8; 1 when none.
        brightness: mean of all channels, of a large picture at 1,024 or more values; 0 to 255.
        georeference: where an upright TIFF lies on Earth; None when it does not say.
    """

    size_hw: tuple[int, int]
    stored_hw: tuple[int, int]
    format: str
    mode: str
    orientation: int
    brightness: float
    georeference: Georeference | None = None


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded picture: uint8 [H, W, 3], RGB, 0 to 255, upright; and the facts about it."""

    pixels: npt.NDArray[np.uint8]
    facts: Facts


def decode(data: bytes, policy: DecodePolicy) -> Picture:
    """Decodes one picture.

    Args:
        data: the encoded file, any format that Pillow reads.

    Raises:
        Failure: stage "decode", with the reason, for anything that is not a sound picture.
    """
    if not data:
        raise Failure("decode", "empty", "got 0 bytes, expected an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not make a picture a failure
            return _decode(data, policy)
    except Failure:
        raise
    except MemoryError as error:
        raise Failure("decode", "too_large", f"out of memory while decoding: {error}") from error
    # What Pillow's plugins raise for bad files: measured over its own 1,067 test images, plus
    # zlib, struct and index errors from fuzzed ones. Anything at all here means this one file.
    except Exception as error:
        raise Failure("decode", _reason(error, data), _message(error, data)) from error


def _decode(data: bytes, policy: DecodePolicy) -> Picture:
    # Some plugins (icons) decode while they open: then Pillow's own check, an error above twice
    # this number, is the only one in time. Ours below is exact, and comes first for all others.
    Image.MAX_IMAGE_PIXELS = policy.max_pixels
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "EPS":  # Pillow would run Ghostscript on a stranger's program
            raise Failure("decode", "unsupported", "PostScript is a program, not a picture")
        check_pixels(image.size, policy)
        width, height = image.size
        stored_mode, stored_hw = image.mode, (height, width)
        orientation, georeference = 1, georeference_of(image)
        if image.format == "TIFF":  # Pillow turns these upright while loading, size included
            orientation = _orientation(image)
            stored_hw = (width, height) if orientation >= 5 else (height, width)
        if policy.draft_px is not None and image.format == "JPEG":
            image.draft(None, (policy.draft_px, policy.draft_px))
        try:
            image.load()
        except OSError as error:
            if image.info.get("compression") not in _RARE_TIFF_CODECS:
                raise
            raise Failure(
                "decode",
                "unsupported",
                f"a TIFF of compression {image.info['compression']}, which this Pillow was built "
                f"without ({error}); save it with another",
            ) from error
        orientation = max(orientation, _orientation(image))
        upright = image if orientation == 1 else ImageOps.exif_transpose(image)
        pixels = _to_ids(upright) if policy.ids else _to_rgb(upright, policy.alpha)
        facts = Facts(
            size_hw=(pixels.shape[0], pixels.shape[1]),
            stored_hw=stored_hw,
            format=image.format or "unknown",
            mode=stored_mode,
            orientation=orientation,
            brightness=_brightness(pixels),
            georeference=georeference if orientation == 1 else None,
        )
        return Picture(pixels, facts)


def check_pixels(size: tuple[int, int], policy: DecodePolicy) -> None:
    """Raises a Failure when a (width, height) is larger than the policy allows."""
    width, height = size
    if width * height > policy.max_pixels:
        raise Failure(
            "decode",
            "too_large",
            f"the header says {width}x{height} = {width * height:,} pixels, "
            f"at most {policy.max_pixels:,} are allowed; raise --max_pixels if this is meant",
        )


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _brightness(pixels: npt.NDArray[np.uint8]) -> float:
    total, count = bright_sum(pixels, bright_step((pixels.shape[0], pixels.shape[1])))
    return total / count


def bright_step(size_hw: tuple[int, int]) -> int:
    """Every how many values of an RGB picture are looked at for its brightness: all of a small
    one, else 1,024 or more of them, spread over columns and channels evenly."""
    height, width = size_hw
    step = 3 * height * width // _BRIGHT_VALUES
    if step < 4:
        return 1
    while math.gcd(step, 3 * width) > 1:
        step -= 1
    return step


def bright_sum(pixels: npt.NDArray[np.uint8], step: int, before: int = 0) -> tuple[int, int]:
    """Sum and number of every step-th value of a picture, of a part [h, W, 3] of its rows.

    Python adds up so few in 12 us, and keeps its lock: numpy would wait for it again.

    Args:
        before: values of the rows above.
    """
    values = pixels.reshape(-1).data[-before % step :: step].tobytes()
    return sum(values), len(values)


def _to_rgb(image: Image.Image, alpha: Alpha) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _grey_to_uint8(image)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if alpha == "drop":
            return np.asarray(rgba)[:, :, :3].copy()
        ground = Image.new("RGBA", rgba.size, alpha)
        return np.asarray(Image.alpha_composite(ground, rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _to_ids(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
        raise Failure(
            "decode",
            "mask_format",
            f"got a picture of mode {image.mode}, expected class ids in one channel (L, P, 1 or 16 "
            "bit); if the masks are in another feature of the shards, name it by --image_feature",
        )
    ids = np.asarray(image)
    if ids.max() > 255 or ids.min() < 0:
        raise Failure("decode", "id_range", f"the mask has the id {ids.max()}, expected 0 to 255")
    return np.repeat(ids.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def _grey_to_uint8(image: Image.Image) -> npt.NDArray[np.uint8]:
    values = np.asarray(image)
    if image.mode == "F":
        raise Failure(
            "decode",
            "unsupported",
            "a picture of floating point values has no agreed range; convert it to 8 or 16 bit",
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise Failure(
            "decode",
            "unsupported",
            f"grey values from {low} to {high} do not fit 16 bits; convert it to 8 or 16 bit",
        )
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _reason(error: Exception, data: bytes) -> str:
    text = str(error).lower()
    if isinstance(error, Image.DecompressionBombError) or "too large" in text:
        return "too_large"
    if "truncated" in text or isinstance(error, EOFError):
        return "truncated"
    if isinstance(error, UnidentifiedImageError):
        return "corrupt" if _looks_like_image(data) else "unsupported"
    if isinstance(error, NotImplementedError):  # Pillow's word for variants that it cannot read
        return "unsupported"
    if "decoder error -2" in text or isinstance(error, zlib.error | struct.error):
        return "corrupt"
    if any(
        hint in text
        for hint in ("no decoder", "not available", "cannot find loader", "webp", "compression")
    ):
        return "unsupported"
    return "corrupt"


_MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_PNM = tuple(b"P%d" % n for n in range(1, 8))


def _looks_like_image(data: bytes) -> bool:
    return data.startswith(_MAGICS) or data[:2] in _PNM or data[1:4] == b"PNG"


def _message(error: Exception, data: bytes) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:200]  # the same every run
    if isinstance(error, UnidentifiedImageError):
        text = f"no decoder recognises its {len(data)} bytes, which begin with {data[:8]!r}"
    return f"{type(error).__name__}: {text}"
