"""Regions of a mask as runs of pixels, as COCO counts them: down the columns, from the left.

A region is int64 [n, 2]: from and to (exclusive) of each run, ascending, within [0, H * W].
The rules of polygons and of both kinds of RLE are pycocotools' (cocoapi, common/maskApi.c), and
tests hold them to it. Here sizes and coordinates are looked at before memory is taken: annotations
come from strangers, and C code that believes them does not end well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.failures import Failure

Runs = npt.NDArray[np.int64]
_SCALE = 5.0  # polygons are walked on a grid so much finer
_MOST_POINTS = 20_000_000  # of a polygon's border on that grid
_MOST_DIGITS = 12  # of a number in a compressed RLE, five bits each


def polygon_runs(points: Sequence[float], size_hw: tuple[int, int]) -> Runs:
    """The pixels that a polygon covers.

    Args:
        points: x, y, x, y, ... of its corners, in pixels from the picture's upper left corner.

    Raises:
        Failure: it is no polygon, or far out of the picture.
    """
    height, width = size_hw
    try:
        corners = np.asarray(points, np.float64)
    except (TypeError, ValueError) as error:
        raise _bad("a polygon is no list of numbers") from error
    if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2:
        raise _bad(f"a polygon has {corners.size} numbers, expected x, y of three corners or more")
    limit = 2 * max(size_hw)
    if not (np.abs(corners) <= limit).all():  # NaN as well
        raise _bad(f"a corner of a polygon is beyond {limit}, twice the picture's side")
    fine = (_SCALE * corners.reshape(-1, 2) + 0.5).astype(np.int64)
    u, v = _border(fine, np.roll(fine, -1, 0))
    u0, u1, v0, v1 = u[:-1], u[1:], v[:-1], v[1:]
    moved = u0 != u1  # to the next column
    x = (np.where(u1 < u0, u1, u1 - 1)[moved] + 0.5) / _SCALE - 0.5
    y = (np.minimum(v0, v1)[moved] + 0.5) / _SCALE - 0.5
    inside = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    columns, rows = x[inside].astype(np.int64), np.ceil(y[inside].clip(0, height)).astype(np.int64)
    crossings = np.sort(columns * height + rows)
    if len(crossings) % 2:
        crossings = np.append(crossings, height * width)
    return _joined(crossings.reshape(-1, 2))


def _border(
    start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """x and y of all grid points on the edges, in their order."""
    delta = np.abs(end - start)
    steps = delta.max(1)
    if (total := int(steps.sum()) + len(steps)) > _MOST_POINTS:
        raise _bad(f"a polygon's border has {total:,} points, at most {_MOST_POINTS:,} are taken")
    steep = delta[:, 0] < delta[:, 1]
    along = np.where(steep, 1, 0)
    edges = np.arange(len(steps))
    flip = start[edges, along] > end[edges, along]
    low, high = (np.where(flip[:, None], a, b) for a, b in ((end, start), (start, end)))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (high - low)[edges, 1 - along] / steps
    edge = np.repeat(edges, steps + 1)
    at = np.arange(total) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    at = np.where(flip[edge], steps[edge] - at, at)
    # a point has no slope, and is itself
    rise = np.where(at > 0, slope[edge] * at, 0.0)
    main = low[edge, along[edge]] + at
    other = (low[edge, 1 - along[edge]] + rise + 0.5).astype(np.int64)
    return np.where(steep[edge], other, main), np.where(steep[edge], main, other)


def rle_runs(counts: Any, size_hw: tuple[int, int]) -> Runs:
    """The pixels of an RLE: a list of counts, of zeros first, or COCO's compressed text.

    Raises:
        Failure: it is none, or not of that many pixels.
    """
    if isinstance(counts, str):
        counts = _uncompressed(counts.encode("utf-8", "replace"))
    try:
        numbers = np.asarray(counts, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _bad("an RLE's counts are no integers") from error
    pixels = size_hw[0] * size_hw[1]
    if numbers.ndim != 1 or (numbers < 0).any() or (numbers > pixels).any():
        raise _bad(f"an RLE's counts are not all within 0 and {pixels}")
    ends = np.cumsum(numbers)
    if (total := int(ends[-1]) if len(ends) else 0) != pixels:
        raise _bad(f"an RLE covers {total} pixels, expected {pixels} ({size_hw[0]}x{size_hw[1]})")
    ones = ends[: len(ends) // 2 * 2].reshape(-1, 2)
    return _joined(ones)


def _uncompressed(text: bytes) -> list[int]:
    counts: list[int] = []
    value = digit = 0
    for code in text:
        bits = code - 48
        if not 0 <= bits < 64 or digit >= _MOST_DIGITS:
            raise _bad("a compressed RLE holds characters that none has")
        value |= (bits & 31) << 5 * digit
        digit += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << 5 * digit
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = digit = 0
    if digit:
        raise _bad("a compressed RLE is cut")
    return counts


def union(regions: Sequence[Runs]) -> Runs:
    """The pixels of any of the regions."""
    if len(regions) == 1:
        return regions[0]
    edges = np.concatenate([r.ravel() for r in regions] or [np.zeros(0, np.int64)])
    steps = np.tile(np.array([1, -1]), len(edges) // 2)
    order = np.lexsort((-steps, edges))  # at one place begins before ends
    depth = np.cumsum(steps[order])
    edges, steps = edges[order], steps[order]
    starts = edges[(depth == 1) & (steps == 1)]
    return np.stack([starts, edges[depth == 0]], 1)


def area(runs: Runs) -> int:
    """Its pixels."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def _joined(runs: Runs) -> Runs:
    """Without runs of nothing, and runs that touch as one."""
    runs = runs[runs[:, 0] < runs[:, 1]]
    if not len(runs):
        return runs
    apart = runs[1:, 0] > runs[:-1, 1]
    first, last = np.append(True, apart), np.append(apart, True)
    return np.stack([runs[first, 0], runs[last, 1]], 1)


def _bad(message: str) -> Failure:
    return Failure("decode", "mask_format", message)
