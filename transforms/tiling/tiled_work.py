"""The work of an operator that shows a model windows of pictures.

read > decode by rows (threads) > windows > batch by shape > model (a thread for each device)
     > add up by rows > encode

Windows of one picture and of its neighbours share batches. What fails is bisected to the window,
which costs its picture. Of a picture there are in memory: its encoded bytes, the rows of one row of
windows, what the mosaic keeps; small pictures are decoded ahead as a whole.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from models.loading import first_line
from transforms.clock import Clock
from transforms.decode import Facts
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.picture_work import Settings, at_most, batch_size_for, of_batch_size
from transforms.records import Item, Record, Result, Stream
from transforms.replicas import Replicas
from transforms.sources import Load, read_shard
from transforms.streams import (
    Ahead,
    Window,
    attempt,
    batches_by_shape,
    in_order,
    in_thread,
    ordered_map,
)
from transforms.survive import Model, Survivor, is_out_of_memory
from transforms.tiling.rows import Rows, open_rows
from transforms.tiling.windows import Axis, Tiling

A = TypeVar("A")
Pixels = npt.NDArray[np.uint8]

_AHEAD_ITEMS, _AHEAD_BYTES = 64, 64 << 20  # of pictures that are decoded
_WAITING = Window(items=64, size_bytes=256 << 20)
_ANSWER_BYTES = 64 << 20  # of what the model answers to one batch


class Mosaic(Protocol[A]):  # type: ignore[misc]  # A is taken, never given
    """One picture's answer in the making. Its methods raise Failure when there is none."""

    def add(self, row: int, column: int, answer: A) -> None:
        """Takes the answer for a window: row by row, each from left to right."""

    def result(self, facts: Facts) -> Result:
        """After the last window."""


@dataclasses.dataclass
class _Job(Generic[A]):
    """A picture under way."""

    record: Record
    rows: Rows | None = None
    grid: tuple[Axis, Axis] | None = None
    mosaic: Mosaic[A] | None = None
    failure: Failure | None = None


@dataclasses.dataclass(frozen=True)
class WindowRecord(Record):
    """Which window of which picture; counted through the shard."""

    job: "_Job | None" = None  # type: ignore[type-arg]
    row: int = 0
    column: int = 0
    last: bool = True


@dataclasses.dataclass(frozen=True)
class Cut:
    """What the model is shown, uint8 [h, w, 3]; and where it lies in its picture, for messages."""

    pixels: Pixels
    offset_yx: tuple[int, int]
    picture_hw: tuple[int, int]


class TiledWork(Generic[A]):
    """The work of one process: a model and the threads around it."""

    def __init__(
        self,
        settings: Settings,
        tiling: Tiling | None,
        load: Callable[[], Model[A]],
        mosaic: Callable[[tuple[Axis, Axis], Facts], Mosaic[A]],
        channels: int = 3,
    ) -> None:
        """Loads the model.

        Args:
            tiling: how pictures are cut; None for one window, the picture.
            mosaic: makes what takes the answers for the windows of one picture.
            channels: numbers that the model answers for a pixel that it sees.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._settings = settings
        self._tiling = tiling
        self._mosaic = mosaic
        self._channels = channels
        self._threads = settings.threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "codec")
        self._model: Replicas[Cut, A] = Replicas(
            load, lambda load: cut_survivor(load, settings.batch_timeout_s, self._batch_size_for)
        )
        self._binding = self._model.binding
        if self._binding.size_hw is not None:  # before a clock runs: the first call builds graphs
            black = np.zeros((*self._binding.size_hw, 3), np.uint8)
            self._model.warm_up([(Record(0, "", ""), Cut(black, (0, 0), black.shape[:2]))])

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        ahead = Ahead(_AHEAD_ITEMS, _AHEAD_BYTES, 1)

        def load(load: Load) -> Rows:
            with clock("read"):
                data = load()
            with clock("decode"):
                rows = open_rows(data, self._settings.policy)
            height, width = rows.facts.size_hw
            ahead.saw(height * width * 3)  # also of one that is not decoded yet: its bytes are here
            return rows

        def answer(batch: list[Item[Cut]]) -> list[Item[A]]:
            with clock("model"):
                return self._model(batch)

        records = clock.iterate("read", read_shard(shard, self._settings.features))
        pictures = ordered_map(
            self._pool, attempt(load), records, ahead, waiting=lambda: clock("wait")
        )
        with ThreadPoolExecutor(1, "windows") as thread:
            windows = in_thread(thread, self._windows(pictures, clock), 2 * self._model.batch_size)
            batches = batches_by_shape(
                windows,
                lambda cut: self._binding.model_size_hw(cut.pixels.shape[:2]),
                lambda size_hw: self._batch_size_for(size_hw, self._model.batch_size),
                lambda cut: cut.pixels.nbytes,
                _WAITING,
            )
            answers = ordered_map(self._model.pool, answer, batches, self._model.ahead)
            yield from joined(in_order(answers), clock)

    def _batch_size_for(self, size_hw: tuple[int, int], batch_size: int) -> int:
        answer_bytes = 4 * size_hw[0] * size_hw[1] * max(3, self._channels)
        return at_most(batch_size_for(size_hw, batch_size), _ANSWER_BYTES // answer_bytes)

    def _windows(self, pictures: Iterable[Item[Rows]], clock: Clock) -> Iterator[Item[Cut]]:
        """All windows of all pictures, and a failure for a picture that cannot be read to its end.

        A picture is let go before the next one is asked for.
        """
        numbers = itertools.count()
        items = iter(pictures)
        while (item := next(items, None)) is not None:
            job: _Job[A] = _Job(item[0])
            if isinstance(item[1], Failure):
                yield _window(next(numbers), job), item[1]
                continue
            job.rows = item[1]
            del item
            try:
                job.grid = self._grid(job.rows.facts.size_hw)
                job.mosaic = self._mosaic(job.grid, job.rows.facts)
                for row, column, cut in cuts(job.rows, job.grid, clock):
                    last = (row, column) == tuple(len(axis.spans) - 1 for axis in job.grid)
                    yield _window(next(numbers), job, row, column, last), cut
            except Failure as failure:
                yield _window(next(numbers), job), failure

    def _grid(self, size_hw: tuple[int, int]) -> tuple[Axis, Axis]:
        tiling = self._tiling or Tiling(size_hw, (0, 0), "crop")
        fixed = self._tiling is not None and self._binding.size_hw is not None
        return tiling.grid(size_hw, fixed)


def _window(
    index: int, job: _Job[A], row: int = 0, column: int = 0, last: bool = True
) -> WindowRecord:
    return WindowRecord(index, job.record.key, "", job=job, row=row, column=column, last=last)


def cuts(rows: Rows, grid: tuple[Axis, Axis], clock: Clock) -> Iterator[tuple[int, int, Cut]]:
    """The windows of a picture, (row, column, pixels), read from top to bottom.

    One that is larger than the picture is filled with the picture's mirror image, at the bottom
    and the right.

    Raises:
        Failure: the picture is damaged.
    """
    size_hw = rows.facts.size_hw
    down, across = grid
    held, first = np.zeros((0, size_hw[1], 3), np.uint8), 0
    for row, span in enumerate(down.spans):
        end = min(down.size, span.start + down.window)
        with clock("decode"):
            fresh = rows.read(end - first - len(held))
        held = np.concatenate([held[span.start - first :], fresh]) if len(held) else fresh
        first = span.start
        del fresh
        for column, beside in enumerate(across.spans):
            part = held[:, beside.start : beside.start + across.window]
            lacking = down.window - part.shape[0], across.window - part.shape[1]
            if lacking == (0, 0):
                pixels = part.copy()  # not a view, which would keep all of the rows
            else:
                pixels = np.pad(part, ((0, lacking[0]), (0, lacking[1]), (0, 0)), "symmetric")
            yield row, column, Cut(pixels, (span.start, beside.start), size_hw)


def joined(answers: Iterable[Item[A]], clock: Clock) -> Iterator[Item[Result]]:
    """Adds up the answers for windows in their order, and gives each picture's result."""
    for record, answer in answers:
        assert isinstance(record, WindowRecord) and record.job is not None
        job = record.job
        with clock("encode"):
            try:
                if isinstance(answer, Failure):
                    raise answer
                if job.failure is None and job.mosaic is not None:
                    job.mosaic.add(record.row, record.column, answer)
                    if record.last and job.rows is not None:
                        result = job.mosaic.result(job.rows.facts)
            except Failure as failure:
                job.failure, job.mosaic = job.failure or failure, None
        if record.last:
            job.rows = job.mosaic = None  # the record may be held on to
            yield job.record, job.failure or result


def cut_survivor(
    load: Callable[[], Model[A]],
    timeout_s: float,
    batch_size_for: Callable[[tuple[int, int], int], int],
) -> Survivor[Cut, A]:
    """A Survivor that takes windows. Raises ModelError."""
    return Survivor(
        lambda: of_batch_size(load(), batch_size_for), lambda cut: cut.pixels, _cut_text, timeout_s
    )


def _cut_text(cut: Cut) -> str:
    (height, width), (picture_h, picture_w) = cut.pixels.shape[:2], cut.picture_hw
    if (height, width) == (picture_h, picture_w):
        return f"picture of {width}x{height}"
    (top, left) = cut.offset_yx
    return f"window of {width}x{height} at x {left}, y {top} of a {picture_w}x{picture_h} picture"


def guarded(step: Callable[[], A], size_hw: Sequence[int]) -> A:
    """What a step gives that runs a graph on the picture; its errors are the picture's Failures."""
    try:
        return step()
    except Failure:
        raise
    except Exception as error:  # out of memory, or an answer of a wrong shape
        reason = "out_of_memory" if is_out_of_memory(error) else "model_error"
        what = f"the answers for a picture of {size_hw[1]}x{size_hw[0]} cannot be joined"
        raise Failure("model", reason, f"{what}: {first_line(error)}") from error
