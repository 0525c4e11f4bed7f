"""Writing grey TIFFs that have a place on Earth: masks and maps of confidence for a GIS."""

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from transforms.georeference import Georeference
from transforms.png import ZLIB_LEVEL

_STRIP_BYTES = 256 << 10


def encode_tiff(pixels: npt.NDArray[Any], georeference: Georeference) -> bytes:
    """A grey GeoTIFF of uint8 or uint16 [H, W]. Raises TypeError for any other dtype."""
    height, width = pixels.shape
    rows = TiffRows((height, width), pixels.dtype, georeference)
    rows.write(pixels)
    return rows.finish()


class TiffRows:
    """A grey GeoTIFF that is written from top to bottom; only compressed strips are held.

    Beyond 4 GB it is a BigTIFF.
    """

    format = "tif"

    def __init__(
        self, size_hw: tuple[int, int], dtype: npt.DTypeLike, georeference: Georeference
    ) -> None:
        """Begins a picture of (height, width). Raises TypeError for another dtype than uint8/16."""
        if dtype not in (np.uint8, np.uint16):
            raise TypeError(f"a mask of {dtype} cannot be written, expected uint8 or uint16")
        self._size_hw = size_hw
        self._type = np.dtype(dtype).newbyteorder("<")
        self._georeference = georeference
        self._strip_rows = max(1, _STRIP_BYTES // (size_hw[1] * self._type.itemsize))
        self._strips: list[bytes] = []
        self._waiting = np.zeros((0, size_hw[1]), self._type)
        self._rows = 0

    def write(self, rows: npt.NDArray[Any]) -> None:
        """Adds rows, [n, W]."""
        self._rows += len(rows)
        self._waiting = np.concatenate([self._waiting, rows.astype(self._type, copy=False)])
        while len(self._waiting) >= self._strip_rows:
            self._compress(self._waiting[: self._strip_rows])
            self._waiting = self._waiting[self._strip_rows :]

    def finish(self) -> bytes:
        """The file. Raises ValueError when rows are missing."""
        if self._rows != self._size_hw[0]:
            raise ValueError(f"got {self._rows} rows of a mask of {self._size_hw[0]}")
        if len(self._waiting):
            self._compress(self._waiting)
        file = io.BytesIO()
        tifffile.imwrite(
            file,
            iter(self._strips),
            shape=self._size_hw,
            dtype=self._type,
            byteorder="<",
            photometric="minisblack",
            compression="zlib",
            rowsperstrip=self._strip_rows,
            metadata=None,
            software=False,
            extratags=[
                (tag, kind, len(value), value.encode("latin-1"), True)  # as Pillow has read it
                if isinstance(value, str)
                else (tag, kind, len(value), value, True)
                for tag, kind, value in self._georeference
            ],
        )
        return file.getvalue()

    def _compress(self, rows: npt.NDArray[Any]) -> None:
        packer = zlib.compressobj(ZLIB_LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        data = np.ascontiguousarray(rows).data
        self._strips.append(packer.compress(data) + packer.flush())
