"""What launcher and workers share when they are one process: progress, and the wish to stop.

With workers in other processes progress comes from the commit records alone, and the wish to stop
from a file.
"""

import os
import threading
import time

from transforms import storage

STOP = f"{storage.TEMPORARY}/stop"  # below OUT; asks workers in other processes to stop
BEGUN = f"{storage.TEMPORARY}/begun"  # below OUT; the first worker in another process has begun
INTERRUPTED = "interrupted"  # the error of a shard that was left because of it
_LOOK_EVERY_S = {False: 1.0, True: 10.0}  # local, and where each look is a request


class Interrupted(Exception):
    """A person asked to stop. What is committed stays; the rest is done by the next run."""


def stop_path(out: str) -> str:
    """The file that asks all workers of a run to stop."""
    return os.path.join(out, STOP)


def begun_path(out: str) -> str:
    """The file by which the first worker of a run says that it has begun."""
    return os.path.join(out, BEGUN)


class Live:
    """Records done in shards that are not committed yet, and a flag to stop. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: dict[str, tuple[int, int]] = {}
        self._looked = 0.0
        self.stop = threading.Event()

    def update(self, out: str, shard: str, done: int, failed: int) -> None:
        """Notes how far a shard of OUT is. Raises Interrupted when a stop was asked for."""
        if time.monotonic() - self._looked > _LOOK_EVERY_S[storage.is_remote(out)]:
            self._looked = time.monotonic()
            if storage.is_file(stop_path(out)):
                self.stop.set()
        if self.stop.is_set():
            raise Interrupted
        with self._lock:
            self._done[shard] = (done, failed)

    def leave(self, shard: str) -> None:
        """Forgets a shard: it is committed, or its attempt is over."""
        with self._lock:
            self._done.pop(shard, None)

    def snapshot(self) -> dict[str, tuple[int, int]]:
        """Records done and failed by shard that is under way."""
        with self._lock:
            return dict(self._done)


LIVE = Live()
