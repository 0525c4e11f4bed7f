"""Test-time augmentation: a picture is shown in several ways, and the answers are undone.

flips    as it is, and mirrored left to right
turns    as it is, and by one, two and three quarter turns; with flips all eight
scales   as it is, and at 3/4 and 5/4 of its size
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from models.binding import Size

KINDS = ("flips", "turns", "scales")
_SCALES = (1.0, 0.75, 1.25)


@dataclasses.dataclass(frozen=True)
class View:
    """A way to show a picture.

    Attributes:
        flip: mirrored left to right.
        turns: then turned counterclockwise by so many quarters, 0 to 3.
        scale: then resized by this factor.
    """

    flip: bool = False
    turns: int = 0
    scale: float = 1.0

    def size_hw(self, size_hw: Size) -> Size:
        """The (height, width) of what is shown, before it is resized."""
        return size_hw if self.turns % 2 == 0 else (size_hw[1], size_hw[0])

    def show(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The picture as it is shown; uint8 [H, W, 3] both."""
        shown = np.rot90(image[:, ::-1] if self.flip else image, self.turns)
        if self.scale != 1.0:
            size = [max(1, round(side * self.scale)) for side in shown.shape[1::-1]]
            pillow = Pillow.fromarray(np.ascontiguousarray(shown))
            shown = np.asarray(pillow.resize((size[0], size[1]), Pillow.Resampling.BILINEAR))
        return np.ascontiguousarray(shown)

    def undo(self, answer: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An answer for what was shown, [h, w, C] of `size_hw`, as one for the picture."""
        turned = np.rot90(answer, -self.turns)
        return turned[:, ::-1] if self.flip else turned


PLAIN = View()


def views_of(kinds: Sequence[str]) -> tuple[View, ...]:
    """All views of some of KINDS, the plain one first. Raises ValueError for another word."""
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"{sorted(unknown)[0]!r} is none of {', '.join(KINDS)}")
    flips = (False, True) if "flips" in kinds else (False,)
    turns = (0, 1, 2, 3) if "turns" in kinds else (0,)
    scales = _SCALES if "scales" in kinds else (1.0,)
    return tuple(View(*each) for each in itertools.product(flips, turns, scales))
