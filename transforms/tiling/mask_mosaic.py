"""A mask in the making: windows are added up, finished rows become ids and go into the file."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.answers import Segmentation
from transforms.decode import Facts
from transforms.records import Encoded, Result
from transforms.tiling.canvas import Canvas, Scores
from transforms.tiling.tiled_work import guarded
from transforms.tiling.windows import Axis


class RowsFile(Protocol):
    """A grey picture that is written from top to bottom: PngRows or TiffRows."""

    format: str

    def write(self, rows: npt.NDArray[Any]) -> None: ...

    def finish(self) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class JoinedMask:
    """A whole mask, encoded, and its confidence; the rest is as in Segmentation.

    Attributes:
        size_hw: (height, width) of the mask.
    """

    size_hw: tuple[int, int]
    mask: Encoded
    confidence: Encoded | None
    class_pixels: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64] | None
    finite: bool
    in_range: bool


class MaskMosaic:
    """One picture's mask. Takes what PixelScores answers for its windows."""

    def __init__(
        self,
        grid: tuple[Axis, Axis],
        finish: Callable[[Scores], Segmentation],
        with_confidence: bool,
        new_file: Callable[[tuple[int, int], npt.DTypeLike], RowsFile],
        encode: Callable[[Facts, JoinedMask], Result],
    ) -> None:
        """Begins a picture.

        Args:
            finish: models.pixel_scores.block_finisher.
            new_file: begins a file of (height, width) and dtype.
            encode: makes the result of it all.
        """
        self._canvas = Canvas(*grid)
        self._size_hw = grid[0].size, grid[1].size
        self._finish, self._new_file, self._encode = finish, new_file, encode
        self._with_confidence = with_confidence
        self._band: dict[str, npt.NDArray[Any]] = {}  # of one row of windows
        self._files: dict[str, RowsFile] = {}
        self._total: Segmentation | None = None

    def add(self, row: int, column: int, answer: Scores) -> None:
        """Raises Failure when it cannot be finished."""
        rows, columns = self._canvas.rows, self._canvas.columns
        answer = answer[: rows.window, : columns.window]
        block = self._canvas.add(row, column, answer)
        found = guarded(lambda: self._finish(block.values), self._size_hw)
        self._total = found if self._total is None else _added(self._total, found)
        pixels: dict[str, Any] = {"mask": found.mask}
        if self._with_confidence and found.confidence is not None:
            pixels["confidence"] = found.confidence
        for name, part in pixels.items():
            if column == 0:
                self._band[name] = np.empty((len(part), self._size_hw[1]), part.dtype)
            left = block.offset_yx[1]
            self._band[name][:, left : left + part.shape[1]] = part
            if column == len(columns.spans) - 1:
                if row == 0:
                    self._files[name] = self._new_file(self._size_hw, part.dtype)
                self._files[name].write(self._band.pop(name))

    def result(self, facts: Facts) -> Result:
        """Raises Failure when the answers are no mask."""
        assert self._total is not None, "a picture has a window"
        files = {n: Encoded(file.finish(), file.format) for n, file in self._files.items()}
        joined = JoinedMask(
            self._size_hw,
            files["mask"],
            files.get("confidence"),
            self._total.class_pixels,
            self._total.histograms,
            self._total.finite,
            self._total.in_range,
        )
        return self._encode(facts, joined)


def _added(a: Segmentation, b: Segmentation) -> Segmentation:
    """The sums of both; the pixels are the second's, and not looked at."""
    has_scores = a.histograms is not None and b.histograms is not None
    return dataclasses.replace(
        b,
        class_pixels=a.class_pixels + b.class_pixels,
        histograms=a.histograms + b.histograms if has_scores else None,  # type: ignore[operator]
        finite=a.finite and b.finite,
        in_range=a.in_range and b.in_range,
    )
