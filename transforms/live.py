"""What launcher and workers share when they are one process: progress, and the wish to stop.

With workers in other processes or on other machines this stays silent, and progress comes from
the commit records alone.
"""

import threading


class Interrupted(Exception):
    """A person asked to stop. What is committed stays; the rest is done by the next run."""


class Live:
    """Records done in shards that are not committed yet, and a flag to stop. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: dict[str, tuple[int, int]] = {}
        self.stop = threading.Event()

    def update(self, shard: str, done: int, failed: int) -> None:
        """Notes how far a shard is. Raises Interrupted when a stop was asked for."""
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
