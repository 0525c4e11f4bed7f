"""Seconds by stage, and what each call of the model took, measured where the work is done, in
whatever thread."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from transforms import counters

T = TypeVar("T")

_SINGLY = {"model": counters.LATENCY, "wait": counters.QUEUE_WAIT}  # each time counts

STAGES = ("read", "decode", "wait", "model", "check", "change", "encode", "write", "commit")


class _Block:
    """A `with` block that is measured; several are entered for each record."""

    __slots__ = ("_begin", "_clock", "_stage")

    def __init__(self, clock: "Clock", stage: str) -> None:
        self._clock = clock
        self._stage = stage

    def __enter__(self) -> None:
        self._begin = time.perf_counter_ns()

    def __exit__(self, *error: object) -> None:
        self._clock.add(self._stage, time.perf_counter_ns() - self._begin)


class Clock:
    """Adds up the time spent in each stage. Threads that overlap add up to more than the wall."""

    def __init__(self) -> None:
        self._nanoseconds = dict.fromkeys(STAGES, 0)
        self._values: dict[str, list[int]] = {name: [] for name in counters.DISTRIBUTIONS}
        self._lock = threading.Lock()
        self.started = time.time()

    def __call__(self, stage: str) -> "_Block":
        """Measures a block. `stage` is one of STAGES."""
        return _Block(self, stage)

    def add(self, stage: str, took_ns: int) -> None:
        """Adds what a block took."""
        with self._lock:
            self._nanoseconds[stage] += took_ns
            if stage in _SINGLY:
                self._values[_SINGLY[stage]].append(took_ns // 1000)

    @contextlib.contextmanager
    def model(self, items: int) -> Iterator[None]:
        """Measures a call of the model with a batch of items; with none there is no call."""
        if not items:
            yield
            return
        with self("model"):
            yield
        with self._lock:
            self._values[counters.BATCH_SIZE].append(items)

    def iterate(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with the time that producing them took measured."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]  # cannot be _END here

    def values(self) -> dict[str, list[int]]:
        """All values of each of counters.DISTRIBUTIONS."""
        with self._lock:
            return {name: list(values) for name, values in self._values.items()}

    def distributions(self) -> dict[str, counters.Distribution]:
        """The same added up, without those that have no value."""
        found = {name: counters.distribution(v) for name, v in self.values().items()}
        return {name: some for name, some in found.items() if some is not None}

    def microseconds(self) -> dict[str, int]:
        """Whole microseconds by stage, so that they add up exactly."""
        with self._lock:
            return {stage: ns // 1000 for stage, ns in self._nanoseconds.items()}


_END = object()
