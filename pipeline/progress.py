"""One line that says how far a run is: from the commit records, and from inside the process."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from transforms import storage
from transforms.commits import committed_names, read_commits
from transforms.inputs import Plan
from transforms.live import LIVE

_EVERY_S = {True: 0.5, False: 10.0}  # on a terminal, and elsewhere
_REMOTE_EVERY_S = 5.0  # where each look is some requests
_LOOK_SHARE = 10  # times as long between two looks as one takes: each lists all commit records


class Progress:
    """Follows a run by its commit records; each is read once."""

    def __init__(self, out: str, plan: Plan, what: str) -> None:
        self._out = out
        self._usual_s = _REMOTE_EVERY_S if storage.is_remote(out) else 0.0
        self.least_s = self._usual_s  # until the next look
        self._what = what
        self._sizes = {shard.name: shard.size_bytes for shard in plan.shards}
        self._images = plan.records
        self._records: dict[str, tuple[int, int]] = {}  # read and failed of committed shards
        self._begin = time.monotonic()
        self.poll()
        self._before = self._counts()

    def poll(self) -> None:
        """Reads the commit records that have come since."""
        begin = time.monotonic()
        with contextlib.suppress(OSError):  # verify tells; progress only watches
            new = committed_names(self._out) - self._records.keys()
            for report in read_commits(self._out, new, skip_bad=True):
                self._records[report.shard] = (report.read, report.failed)
        self.least_s = max(self._usual_s, _LOOK_SHARE * (time.monotonic() - begin))

    def line(self) -> str:
        """`segment  12/64 shards  3,072/16,384 images  210 images/s  3 failed  1:02 left`."""
        read, failed, size = self._counts()
        took = max(1e-9, time.monotonic() - self._begin)
        rate = (read - self._before[0]) / took
        total = f"/{self._images:,}" if self._images else ""
        parts = [
            f"{self._what}  {len(self._records)}/{len(self._sizes)} shards",
            f"{read:,}{total} images",
            f"{rate:,.0f} images/s",
            f"{failed:,} failed",
        ]
        if (left := self._seconds_left(size, read, took)) is not None:
            parts.append(f"{minutes_text(left)} left")
        return "  ".join(parts)

    def _counts(self) -> tuple[int, int, int]:
        """Records read, records failed, and bytes of committed shards."""
        live = {n: c for n, c in LIVE.snapshot().items() if n not in self._records}
        counts = [*self._records.values(), *live.values()]
        size = sum(self._sizes.get(name, 0) for name in self._records)
        return sum(c[0] for c in counts), sum(c[1] for c in counts), size

    def _seconds_left(self, size: int, read: int, took: float) -> float | None:
        if self._images:
            done, total, before = read, self._images, self._before[0]
        else:
            done, total, before = size, sum(self._sizes.values()), self._before[2]
        return took * (total - done) / (done - before) if done > before else None


@contextmanager
def show_progress(progress: Progress) -> Iterator[None]:
    """Keeps the line up to date while the block runs: in place on a terminal, else line by line."""
    stream = sys.stderr
    terminal = stream.isatty()
    over = threading.Event()

    def show() -> None:
        while not over.wait(max(_EVERY_S[terminal], progress.least_s)):
            progress.poll()
            stream.write(f"\r\x1b[K{progress.line()}" if terminal else f"{progress.line()}\n")
            stream.flush()

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        progress.poll()
        stream.write(f"\r\x1b[K{progress.line()}\n" if terminal else f"{progress.line()}\n")
        stream.flush()


def minutes_text(seconds: float) -> str:
    """A duration for reading: 0:05, 1:02:03."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
