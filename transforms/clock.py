"""Seconds by stage, measured where the work is done, in whatever thread."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

STAGES = ("read", "decode", "wait", "model", "check", "change", "encode", "write", "commit")


class Clock:
    """Adds up the time spent in each stage. Threads that overlap add up to more than the wall."""

    def __init__(self) -> None:
        self._nanoseconds = dict.fromkeys(STAGES, 0)
        self._lock = threading.Lock()
        self.started = time.time()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measures a block. `stage` is one of STAGES."""
        begin = time.perf_counter_ns()
        try:
            yield
        finally:
            took = time.perf_counter_ns() - begin
            with self._lock:
                self._nanoseconds[stage] += took

    def iterate(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with the time that producing them took measured."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]  # cannot be _END here

    def microseconds(self) -> dict[str, int]:
        """Whole microseconds by stage, so that they add up exactly."""
        with self._lock:
            return {stage: ns // 1000 for stage, ns in self._nanoseconds.items()}


_END = object()
