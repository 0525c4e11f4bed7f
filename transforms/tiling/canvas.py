"""Adding up windows in the order in which they come, and giving away what is finished.

Only what a later window still adds to is kept: below, the overlap of two rows of windows across
the picture; to the right, the overlap of two neighbours. With windows that are cropped it is
nothing.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.tiling.windows import Axis

Scores = npt.NDArray[Any]


class Block(NamedTuple):
    """A finished part of the picture: its top left corner, and values [h, w, C]."""

    offset_yx: tuple[int, int]
    values: Scores


class Canvas:
    """One picture that windows are added to: row by row, each from left to right."""

    def __init__(self, rows: Axis, columns: Axis) -> None:
        self.rows, self.columns = rows, columns
        self._below: Scores | None = None
        self._right: Scores | None = None

    def add(self, row: int, column: int, values: Scores) -> Block:
        """Adds a window.

        Args:
            row, column: of the window, in their order.
            values: [h, w, C] of the whole window; floats, or with cropped windows anything.

        Returns:
            What is finished by it. The blocks of a picture cover it without overlapping; those of
            one row of windows have the same rows of pixels.

        Raises:
            ValueError: the values are of another size than the window.
        """
        if values.shape[:2] != (self.rows.window, self.columns.window):
            raise ValueError(
                f"a window of {self.columns.window}x{self.rows.window} px has values of "
                f"{values.shape[1]}x{values.shape[0]}"
            )
        down, across = self.rows.spans[row], self.columns.spans[column]
        part = values[
            down.first - down.start : down.end - down.start,
            across.first - across.start : across.end - across.start,
        ]
        if not ((down.weights == 1).all() and (across.weights == 1).all()):  # else it is alone
            part = part * (down.weights[:, np.newaxis] * across.weights)[..., np.newaxis]
        if column > 0 and self._right is not None:
            part[:, : self._right.shape[1]] += self._right
        width = across.done - across.first
        self._right = part[:, width:].copy() if part.shape[1] > width else None
        part = part[:, :width]
        self._carry(row, slice(across.first, across.done), part)
        return Block((down.first, across.first), part[: down.done - down.first])

    def _carry(self, row: int, columns: slice, part: Scores) -> None:
        """Adds what the row of windows above has left for these columns, and leaves the rest."""
        spans = self.rows.spans
        above = spans[row - 1].end - spans[row].first if row > 0 else 0
        if above > 0 and self._below is not None:
            part[:above] += self._below[:above, columns]
        rest = part[spans[row].done - spans[row].first :]
        if not len(rest):
            return
        if self._below is None:
            most = max(span.end - span.done for span in spans)
            self._below = np.zeros((most, self.columns.size, part.shape[-1]), part.dtype)
        self._below[: len(rest), columns] = rest
