"""The pixels of a picture from top to bottom, decoded as they are asked for where that is possible.

Pillow decodes all pictures, and all at once. Large ones of plain kinds are decoded by libvips
instead, row by row: PNG without interlacing, JPEG that is not progressive, TIFF in strips or tiles;
8 bit grey or RGB, upright. The pixels are the same (tests/transforms/tiling/test_rows.py). All
others are held whole, as uint8.
"""

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyvips
from PIL import ExifTags, Image

from transforms.decode import DecodePolicy, Facts, bright_step, bright_sum, check_pixels, decode
from transforms.failures import Failure
from transforms.georeference import georeference_of

STREAMED_PIXELS = 16_000_000  # from which on pictures are decoded by rows; 48 MB as uint8
_MOST_ROWS = 1_000_000  # libvips takes 14 us for each, however short it is
Pixels = npt.NDArray[np.uint8]

logging.getLogger("pyvips").setLevel(logging.ERROR)  # odd metadata does not matter

_LOADERS = {"PNG": "pngload", "JPEG": "jpegload", "TIFF": "tiffload"}
_PHOTOMETRIC, _GREY_OR_RGB = 262, (1, 2)
_PARTS_OF_TIFF = ((273, 279), (324, 325))  # offsets and sizes of strips, and of tiles


class Rows(Protocol):
    """A picture that is read once, from top to bottom."""

    @property
    def facts(self) -> Facts:
        """What is known of it; the brightness is that of the rows that were read."""

    def read(self, rows: int) -> Pixels:
        """The next rows, uint8 [rows, W, 3], RGB. Raises Failure when the file is damaged."""


class WholeRows:
    """A picture in memory."""

    def __init__(self, pixels: Pixels, facts: Facts) -> None:
        self.facts = facts
        self._pixels = pixels
        self._next = 0

    def read(self, rows: int) -> Pixels:
        self._next += rows
        return self._pixels[self._next - rows : self._next]


class StreamedRows:
    """A picture in its encoded form."""

    def __init__(self, data: bytes, facts: Facts) -> None:
        """Raises Failure when libvips cannot open it, or finds another kind of picture."""
        self._facts = facts
        self._next = 0
        self._bright, self._sampled = 0, 0
        kinds = [kind for kind, _ in _png_chunks(data)] if facts.format == "PNG" else []
        self._is_cut = bool(kinds) and kinds[-1] != b"IEND"  # libvips calls all of it a read error
        try:
            load = getattr(pyvips.Image, f"{_LOADERS[facts.format]}_buffer")
            image = load(data, access="sequential", fail_on="truncated")
            self._bands = image.bands
            self._region = pyvips.Region.new(image)
        except pyvips.Error as error:
            raise _failure(error) from error
        if (image.height, image.width, image.format) != (*facts.size_hw, "uchar"):
            raise Failure("decode", "unsupported", "libvips finds another kind of picture")

    @property
    def facts(self) -> Facts:
        brightness = self._bright / self._sampled if self._sampled else 0.0
        return dataclasses.replace(self._facts, brightness=brightness)

    def read(self, rows: int) -> Pixels:
        width = self._facts.size_hw[1]
        try:
            data = self._region.fetch(0, self._next, width, rows)
        except pyvips.Error as error:
            raise _failure(error, self._is_cut) from error
        pixels = np.frombuffer(data, np.uint8).reshape(rows, width, self._bands)
        if self._bands == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        step = bright_step(self._facts.size_hw)
        bright, sampled = bright_sum(pixels, step, 3 * width * self._next)
        self._bright += bright
        self._sampled += sampled
        self._next += rows
        return pixels


def open_rows(data: bytes, policy: DecodePolicy, streamed_pixels: int = STREAMED_PIXELS) -> Rows:
    """The rows of an encoded picture. Raises Failure for what is no sound picture."""
    streamed = open_streamed(data, policy, streamed_pixels)
    if streamed is not None:
        return streamed
    picture = decode(data, policy)
    return WholeRows(picture.pixels, picture.facts)


def open_streamed(
    data: bytes, policy: DecodePolicy, streamed_pixels: int = STREAMED_PIXELS
) -> StreamedRows | None:
    """The same of a large picture of a plain kind; None for all others. Raises Failure for one of
    more pixels than the policy allows."""
    facts = _streamable(data, policy, streamed_pixels)
    if facts is not None:
        with contextlib.suppress(Failure):  # of 16 bits, or unknown to libvips: Pillow decides
            return StreamedRows(data, facts)
    return None


def _streamable(data: bytes, policy: DecodePolicy, streamed_pixels: int) -> Facts | None:
    """What the header of a picture says that is large and of a plain kind; None for others."""
    Image.MAX_IMAGE_PIXELS = policy.max_pixels  # else Pillow's own, which is far lower
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height < streamed_pixels or policy.ids or policy.draft_px is not None:
                return None
            check_pixels(image.size, policy)
            if height > _MOST_ROWS:
                return None
            if image.format not in _LOADERS or image.mode not in ("L", "RGB"):
                return None
            if any(image.info.get(name) for name in ("interlace", "progressive", "transparency")):
                return None
            if image.format == "PNG":  # whose getexif() would decode it
                if any(_may_tell_more(kind, text) for kind, text in _png_chunks(data)):
                    return None
            elif image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                return None
            if image.format == "TIFF" and not _is_plain_tiff(image, len(data)):
                return None
            hw = height, width
            place = georeference_of(image)
            return Facts(hw, hw, image.format or "", image.mode, 1, 0.0, place)
    except Failure:
        raise
    except Exception:  # whatever Pillow raises for a bad header: it says so when it decodes
        return None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds of the chunks of a PNG, each with its first bytes."""
    place = 8
    while place + 8 <= len(data):
        yield data[place + 4 : place + 8], data[place + 8 : place + 32]
        place += 12 + int.from_bytes(data[place : place + 4], "big")


def _may_tell_more(kind: bytes, text: bytes) -> bool:
    """Whether a chunk holds EXIF data, of which the orientation matters, as such or as a text."""
    return kind == b"eXIf" or (
        kind in (b"tEXt", b"zTXt", b"iTXt") and text.startswith((b"Raw profile", b"XML:com.adobe"))
    )


def _is_plain_tiff(image: Any, size_bytes: int) -> bool:
    """Whether it holds grey levels or RGB, all of them: libvips does not mind missing strips."""
    tags = image.tag_v2
    parts = [
        (offset, size)
        for offsets, sizes in _PARTS_OF_TIFF
        for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=True)
    ]
    whole = parts and all(offset + size <= size_bytes for offset, size in parts)
    return bool(whole) and tags.get(_PHOTOMETRIC) in _GREY_OR_RGB


def _failure(error: pyvips.Error, is_cut: bool = False) -> Failure:
    text = " ".join(str(error).split())[:200]
    short = is_cut or any(
        word in text.lower() for word in ("truncated", "premature", "end of", "eof")
    )
    return Failure("decode", "truncated" if short else "corrupt", f"libvips: {text}")
