"""Small forms of pictures and masks of many megapixels: they are read by rows, never held whole."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from transforms.evaluation.encodings import centres
from transforms.tiling.rows import StreamedRows

_Pixels = npt.NDArray[np.uint8]


def small_picture(rows: StreamedRows, size_hw: tuple[int, int]) -> _Pixels:
    """A picture at a smaller size, uint8 [h, w, 3]: each pixel is the mean of its part.

    Raises:
        Failure: the picture is damaged.
    """
    parts = [
        np.asarray(Image.fromarray(band).resize((size_hw[1], 1), Image.Resampling.BOX))
        for _, band in _bands(rows, size_hw[0])
    ]
    return np.concatenate(parts)


def small_mask(rows: StreamedRows, size_hw: tuple[int, int]) -> _Pixels:
    """A mask at a smaller size, uint8 [h, w]: what resize_nearest makes of it. Raises Failure."""
    height, width = rows.facts.size_hw
    middles, columns = centres(size_hw[0], height), centres(size_hw[1], width)
    parts = [
        band[middle - first, columns, 0]
        for middle, (first, band) in zip(middles, _bands(rows, size_hw[0]), strict=True)
    ]
    return np.stack(parts)


def _bands(rows: StreamedRows, count: int) -> Iterator[tuple[int, _Pixels]]:
    """A picture in so many bands of rows, each with its first row; at most half as many as it has,
    so that the centre of a band is within it."""
    height = rows.facts.size_hw[0]
    edges = [i * height // count for i in range(count + 1)]
    for first, end in itertools.pairwise(edges):
        yield first, rows.read(end - first)
