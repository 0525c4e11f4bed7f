"""Windows along one axis of a picture, and what each of them says of the whole.

    picture   |---------------------------------------------|
    windows   |--------------|                                  the first begins at its edge
                       |--------------|                         evenly spread
                                      |--------------|          wrong: past the edge
                               |--------------|...
                                            ...|------------|   the last ends at its edge

Windows of a network with strides begin at multiples of its period, so that its grids lie on those
of the whole picture; their size is as long as the picture's, modulo the period, so that the last
one does so too and padding falls the same ("SAME" of TensorFlow depends on the size).
"""

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

Blend = Literal["gaussian", "hann", "uniform", "crop"]
BLENDS: tuple[Blend, ...] = ("gaussian", "hann", "uniform", "crop")
Weights = npt.NDArray[np.float32]

_SIGMA = 0.125  # of a window, as in nnU-Net and MONAI
_FLOOR = 1e-3  # of the largest weight, as in MONAI: positive, so that every pixel is covered


@dataclasses.dataclass(frozen=True)
class Span:
    """One window along one axis, in pixels of the picture.

    Attributes:
        start: its first pixel.
        first, end: the pixels for which it counts, [first, end), within it.
        done: up to here, exclusive, no later window counts.
        weights: float32 [end - first]; those of all windows add up to 1 at every pixel.
    """

    start: int
    first: int
    end: int
    done: int
    weights: Weights


@dataclasses.dataclass(frozen=True)
class Axis:
    """The windows of one axis.

    Attributes:
        size: of the picture, in pixels.
        window: of every window; larger than the picture only where the model's size is fixed.
        spans: the windows, by their start.
    """

    size: int
    window: int
    spans: tuple[Span, ...]

    def scaled(self, factor: int) -> "Axis":
        """The same windows over what a model makes larger by a whole factor."""
        return Axis(
            self.size * factor,
            self.window * factor,
            tuple(
                Span(
                    span.start * factor,
                    span.first * factor,
                    span.end * factor,
                    span.done * factor,
                    np.repeat(span.weights, factor),
                )
                for span in self.spans
            ),
        )


def window_starts(size: int, window: int, overlap: int, period: int = 1) -> tuple[int, list[int]]:
    """Where windows lie that cover a picture.

    Args:
        size: of the picture, at least 1.
        window: the largest size of a window.
        overlap: pixels that neighbours share at least.
        period: of which starts are multiples.

    Returns:
        Size of the windows, at most `window`, and their starts: evenly spread, from 0 to where
        the last one ends with the picture.

    Raises:
        ValueError: the overlap leaves no room for a step of the period.
    """
    if size <= window:
        return size, [0]
    window -= (window - size) % period
    step = (window - overlap) // period * period
    if step < 1:
        raise ValueError(
            f"windows of {window} px cannot overlap by {overlap} px at steps of {period} px"
        )
    last = size - window
    steps = -(-last // step)
    return window, [i * (last // period) // steps * period for i in range(steps + 1)]


def axis_of(
    size: int, window: int, overlap: int, blend: Blend, *, period: int = 1, fixed: bool = False
) -> Axis:
    """The windows of one axis with their weights.

    Args:
        size, window, overlap, period: as for `window_starts`.
        blend: how windows count where they overlap. crop: each for what is nearer to its middle,
            cut at a multiple of the period, from where a network sees least beyond;
            uniform: alike; gaussian, hann: the more, the nearer to its middle.
        fixed: windows are as long as `window` always; a smaller picture is made larger.

    Raises:
        ValueError: the overlap is too large.
    """
    if fixed and size <= window:
        whole = np.ones(size, np.float32)
        return Axis(size, window, (Span(0, 0, size, size, whole),))
    window, starts = window_starts(size, window, overlap, period)
    ends = [start + window for start in starts]
    firsts = starts
    if blend == "crop":
        cuts = [_cut(start, end, period) for end, start in zip(ends, starts[1:], strict=False)]
        firsts, ends = [0, *cuts], [*cuts, size]
    profile = _profile(window, blend)
    parts = [
        profile[first - start : end - start]
        for start, first, end in zip(starts, firsts, ends, strict=True)
    ]
    total = np.zeros(size)
    for first, end, part in zip(firsts, ends, parts, strict=True):
        total[first:end] += part
    done = [*firsts[1:], size]
    spans = tuple(
        Span(start, first, end, until, (part / total[first:end]).astype(np.float32))
        for start, first, end, until, part in zip(starts, firsts, ends, done, parts, strict=True)
    )
    return Axis(size, window, spans)


def _cut(start: int, end: int, period: int) -> int:
    """The multiple of the period that is nearest to the middle of [start, end], and within it."""
    cut = (start + end + period) // (2 * period) * period
    return min(max(cut, start), end)


def _profile(window: int, blend: Blend) -> npt.NDArray[np.float64]:
    """How a window counts along itself: float64 [window], positive."""
    place = (np.arange(window) + 0.5) / window - 0.5
    if blend == "gaussian":
        profile = np.exp(-(place**2) / (2 * _SIGMA**2))
    elif blend == "hann":
        profile = np.cos(np.pi * place) ** 2
    else:
        profile = np.ones(window)
    floor: float = _FLOOR * profile.max()
    return np.asarray(np.maximum(profile, floor), np.float64)


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How pictures are cut into windows. Pickled to the workers.

    Attributes:
        tile_hw: (height, width) of a window.
        overlap_hw: pixels that neighbours share at least, along each axis.
        blend: how they count where they overlap.
        period_px: of the model: windows begin at multiples of it. 1 where its size is fixed.
    """

    tile_hw: tuple[int, int]
    overlap_hw: tuple[int, int]
    blend: Blend
    period_px: int = 1

    def grid(self, size_hw: tuple[int, int], fixed: bool) -> tuple[Axis, Axis]:
        """The windows of a picture of `size_hw`: rows of them, columns of them.

        Args:
            fixed: the model takes pictures of one size only (see `axis_of`).
        """
        rows, columns = (
            axis_of(
                size_hw[i],
                self.tile_hw[i],
                self.overlap_hw[i],
                self.blend,
                period=self.period_px,
                fixed=fixed,
            )
            for i in (0, 1)
        )
        return rows, columns
