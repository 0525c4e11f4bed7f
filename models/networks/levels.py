"""What segmenters share: levels of resolution, each half the one above."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Levels:
    """What decides a network of levels.

    Attributes:
        classes: how many it tells apart.
        depth: how often the resolution is halved; sides must be multiples of 2^depth.
        width: channels of the first level.
    """

    classes: int
    depth: int = 4
    width: int = 16

    @property
    def multiple_px(self) -> int:
        """Of what both sides of its input must be multiples."""
        return int(2**self.depth)

    def check(self) -> None:
        """Raises ValueError: a number is out of range."""
        if self.classes < 2 or self.depth < 1 or self.width < 1:
            raise ValueError(
                f"got {self.classes} classes, depth {self.depth}, width {self.width}; expected at "
                "least 2, 1 and 1"
            )
