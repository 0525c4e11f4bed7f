"""How far a model looks around a pixel, and at which steps it treats pixels alike: by trying.

Two pictures of noise are alike in one corner only. Where in that corner the model's answers
differ, it has seen the rest of the picture; so far it looks. That is more than perturbing one
pixel shows, since every pixel of the rest may tell, at every phase of a network's strides.

A model whose answer moves with the picture, when that is moved by P pixels, has the period P. One
that looks at the whole picture (pooling over all of it, instance norm, attention), or whose answers
move with no picture, has no halo: windows of it cannot equal the whole.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Answers = npt.NDArray[Any]
Run = Callable[[Sequence[npt.NDArray[np.uint8]]], Sequence[Answers]]

PERIODS = (1, 2, 4, 8, 16, 32, 64, 3, 5, 6, 7, 10, 12, 14, 24, 28)
_SIDES = (192, 384, 768)
_SEEN = 2e-6  # of the largest answer: less is rounding
_ALIKE = 2e-5
_PHASES = 8  # at most so many places of the corner are tried


@dataclasses.dataclass(frozen=True)
class Halo:
    """How far a model looks.

    Attributes:
        pixels: beyond a pixel, to whichever side; None when it looks at all of the picture.
        period_px: pictures that are moved by so many pixels give the same answers, moved; None
            when no period was found.
    """

    pixels: int | None
    period_px: int | None

    @property
    def is_local(self) -> bool:
        """Whether windows can equal the whole picture."""
        return self.pixels is not None and self.period_px is not None

    @property
    def overlap_px(self) -> int | None:
        """What windows must share that are cut at the multiple of the period nearest to the middle
        of it, to equal the whole picture; None where nothing is enough."""
        if self.pixels is None or self.period_px is None:
            return None
        return 2 * self.pixels + (self.period_px if self.period_px > 1 else 0)


def measure_halo(run: Run, sides: Sequence[int] = _SIDES) -> Halo:
    """Measures a model that takes pictures of any size.

    Args:
        run: gives answers [H, W, C] for pictures uint8 [H, W, 3], in the same order; of a size
            that is a whole multiple of the picture's.
        sides: of the pictures to try, in pixels, rising. The model looks at all of the picture
            when even in the largest it looks further than a third.
    """
    found = Halo(None, None)
    for side in sides:
        period = _period(run, side)
        pixels = _reach(run, side, period or 1)
        found = Halo(pixels, period)
        if found.is_local:
            return found
    return found


def _noise(side: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def _period(run: Run, side: int) -> int | None:
    """The smallest period with which answers move in the middle of a picture."""
    large = _noise(side + max(PERIODS), seed=0)
    (still,) = run([large[:side, :side]])
    scale = still.shape[0] // side
    if not scale:
        return None
    slack = _ALIKE * float(np.abs(still).max())
    first, end = side // 2 - 8, side // 2 + 8  # of the answer to the picture that is not moved
    for period in PERIODS:
        (moved,) = run([large[period : period + side, period : period + side]])
        here = slice(first * scale, end * scale)
        there = slice((first - period) * scale, (end - period) * scale)
        if np.abs(still[here, here] - moved[there, there]).max() <= slack:
            return period
    return None


def _reach(run: Run, side: int, period: int) -> int | None:
    """Pixels beyond a pixel that decide it; None when they are more than a third of the side."""
    base, other = _noise(side, seed=1), 255 - _noise(side, seed=2) // 3
    (still,) = run([base])
    scale = still.shape[0] // side
    if not scale:
        return None
    slack = _SEEN * float(np.abs(still).max())
    middle = side // 2 // period * period
    step = -(-period // _PHASES)
    most = 0
    for edge in range(middle, middle + period, step):
        for after in (False, True):  # where the corner lies that stays: at the start, or the end
            corner = (slice(edge, None),) * 2 if after else (slice(edge),) * 2
            if after and edge != middle:
                continue  # windows begin at multiples of the period
            picture = other.copy()
            picture[corner] = base[corner]
            (answer,) = run([picture])
            changed = (np.abs(answer - still) > slack).any(axis=-1)
            far = slice(-2 * scale, None) if after else slice(2 * scale)
            seen = changed[:, far].any(axis=1) | changed[far].any(axis=0)
            inside = seen[edge * scale :] if after else seen[: edge * scale][::-1]
            reach = int(np.flatnonzero(inside).max(initial=-1)) + 1
            most = max(most, -(-reach // scale) + (0 if after else step - 1))
    return most if most <= side // 3 else None
