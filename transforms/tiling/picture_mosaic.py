"""A picture in the making, of the pictures that a model made of windows."""

from collections.abc import Callable

import numpy as np

from models.generator import Made
from transforms.decode import Facts
from transforms.failures import Failure
from transforms.records import Result
from transforms.tiling.canvas import Canvas
from transforms.tiling.windows import Axis


class PictureMosaic:
    """One picture, larger by the factor by which the model makes its windows larger.

    Where windows overlap, their grey levels are averaged. The picture is held whole, as uint8.
    """

    def __init__(self, grid: tuple[Axis, Axis], encode: Callable[[Facts, Made], Result]) -> None:
        """Args: encode: makes the result of the whole picture."""
        self._grid = grid
        self._encode = encode
        self._canvas: Canvas | None = None
        self._pixels = np.zeros((0, 0, 1), np.uint8)
        self._finite, self._clipped = True, 0.0

    def add(self, row: int, column: int, answer: Made) -> None:
        """Raises Failure for a window that did not become larger by a whole factor."""
        made = answer.pixels if answer.pixels.ndim == 3 else answer.pixels[..., np.newaxis]
        if self._canvas is None:
            down, across = (axis.scaled(self._factor(made.shape)) for axis in self._grid)
            self._canvas = Canvas(down, across)
            self._pixels = np.zeros((down.size, across.size, made.shape[2]), np.uint8)
        rows, columns = self._canvas.rows, self._canvas.columns
        (top, left), values = self._canvas.add(row, column, made[: rows.window, : columns.window])
        height, width = values.shape[:2]
        levels = values if values.dtype == np.uint8 else np.clip(np.rint(values), 0, 255)
        self._pixels[top : top + height, left : left + width] = levels
        self._finite &= answer.finite
        self._clipped += answer.clipped * height * width / (rows.size * columns.size)

    def _factor(self, shape: tuple[int, ...]) -> int:
        window_hw = self._grid[0].window, self._grid[1].window
        factor = shape[0] // window_hw[0]
        if factor < 1 or shape[:2] != (factor * window_hw[0], factor * window_hw[1]):
            raise Failure(
                "model",
                "model_error",
                f"the model made {shape[1]}x{shape[0]} of a window of {window_hw[1]}x"
                f"{window_hw[0]}, no whole multiple; leave --tile_px out",
            )
        return factor

    def result(self, facts: Facts) -> Result:
        """Raises Failure when it is no picture."""
        pixels = self._pixels[..., 0] if self._pixels.shape[2] == 1 else self._pixels
        return self._encode(facts, Made(pixels, self._finite, min(1.0, self._clipped)))
