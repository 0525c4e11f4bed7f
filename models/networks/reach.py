"""Which pixels of the picture a position of a feature map depends on, along one axis, exactly.

The picture has no borders here: what a layer pads is outside of it and is not counted apart.
Then a network of windows (convolution, pooling, upsampling) treats position j + P as it treats j,
P * step pixels further on, so the ranges of P positions say all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

Range = tuple[int, int]
"""First and last pixel of the picture, both included."""


@dataclass(frozen=True)
class Reach:
    """What the positions of one axis of a feature map see of the picture.

    step:    pixels from one position to the next; 2 after a stride of 2, 1/2 after upsampling by 2
    ranges:  of the positions 0 to P - 1; None of a position that sees nothing of the picture, as
             transposed convolution makes them where its kernel is smaller than its stride
    size:    positions on this axis, None if pictures of any size go in
    """

    step: Fraction
    ranges: tuple[Range | None, ...]
    size: int | None

    @classmethod
    def of_picture(cls, size: int | None) -> Reach:
        """Every pixel sees itself."""
        return cls(Fraction(1), ((0, 0),), size)

    def at(self, position: int) -> Range | None:
        """The pixels that `position` (any whole number) sees."""
        turns, place = divmod(position, len(self.ranges))
        found = self.ranges[place]
        if found is None:
            return None
        shift = turns * self.period_px
        return found[0] + shift, found[1] + shift

    def through(
        self, rate: Fraction, taps: Callable[[int], Iterable[int]], size: int | None
    ) -> Reach:
        """After a layer whose output j depends on the positions taps(j) of this map.

        Args:
            rate: positions of this map from one output to the next: a convolution's stride, or one
                over the factor of upsampling. taps(j + 1 / rate) is taps(j), one further on.
            taps: positions, of any sign.
            size: outputs along this axis, None if unknown.
        """
        period = (Fraction(len(self.ranges)) / rate).numerator
        ranges = tuple(_union([self.at(tap) for tap in taps(j)]) for j in range(period))
        return Reach(self.step * rate, ranges, size)

    def merged(self, other: Reach) -> Reach:
        """After a layer that joins position j of this map and position j of a map of equal step."""
        if self.step != other.step:
            raise ValueError(f"maps of steps {self.step} and {other.step} have no common grid")
        period = math.lcm(len(self.ranges), len(other.ranges))
        ranges = tuple(_union([self.at(j), other.at(j)]) for j in range(period))
        return Reach(self.step, ranges, self.size if other.size is None else other.size)

    @property
    def window_px(self) -> int:
        """Pixels from the first to the last that a position sees: the most of all positions."""
        return max((last - first + 1 for first, last in filter(None, self.ranges)), default=0)

    @property
    def period_px(self) -> int:
        """A picture moved by so many pixels gives the same map, moved."""
        return int(len(self.ranges) * self.step)

    @property
    def margins_px(self) -> tuple[int, int]:
        """The most pixels seen before and after those that lie under a position."""
        seen = [(j, found) for j, found in enumerate(self.ranges) if found is not None]
        before = [math.floor(j * self.step) - first for j, (first, _) in seen]
        after = [last + 1 - math.ceil((j + 1) * self.step) for j, (_, last) in seen]
        return max([0, *before]), max([0, *after])


def _union(ranges: Sequence[Range | None]) -> Range | None:
    """The smallest range that holds all."""
    found = [each for each in ranges if each is not None]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None
