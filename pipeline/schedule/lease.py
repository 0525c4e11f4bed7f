"""One run at a time: a lease that its holder renews, and that a dead holder loses.

The lease saves double work, no more: that two runs damage nothing rests on files that are created
once and on the pointer, which is exchanged only as it was when a run began.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.schedule import LEASE_S
from pipeline.schedule.publication import Overtaken
from transforms import storage

FILE = "lease.json"
_BEATS = 4  # renewals in the time of a lease


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who works, and until when.

    Attributes:
        run: its id; "" for nobody.
        machine: boot and process namespace, within which a process id means something.
        process: id and start of the process.
        expires_s: seconds since 1970; then others may take over.
    """

    run: str
    machine: str
    process: str
    expires_s: float

    def to_bytes(self) -> bytes:
        # the nonce makes every content another one, so that an exchange cannot mistake one for one
        return json.dumps({**dataclasses.asdict(self), "nonce": secrets.token_hex(8)}).encode()

    @staticmethod
    def from_bytes(data: bytes) -> "Holder":
        """One that cannot be read is nobody."""
        try:
            fields = json.loads(data)
            return Holder(
                **{field.name: fields[field.name] for field in dataclasses.fields(Holder)}
            )
        except (ValueError, KeyError, TypeError):
            return Holder("", "", "", 0.0)

    def is_gone(self, now_s: float) -> bool:
        """Whether others may take over: it has let go, its time is up, or its process is dead."""
        if not self.run or now_s >= self.expires_s:
            return True
        return self.machine == _machine() and not _is_alive(self.process)


class Lease:
    """A lease that is held. Made by `acquire`."""

    def __init__(
        self, place: str, run: str, lease_s: float, content: bytes, clock: Callable[[], float]
    ) -> None:
        self._place, self._run, self._lease_s = place, run, lease_s
        self._content, self._clock = content, clock
        self._lock = threading.Lock()
        self._lost = False

    @property
    def run(self) -> str:
        """The id of the run that holds it."""
        return self._run

    def renew(self) -> None:
        """Holds it for a further time. Raises Overtaken when another has it, OSError."""
        with self._lock:
            new = _of(self._run, self._clock() + self._lease_s).to_bytes()
            if self._lost or not storage.exchange(self._place, FILE, self._content, new):
                self._lost = True
                raise Overtaken(f"{FILE} was taken over by another run; was this one asleep?")
            self._content = new

    def release(self) -> None:
        """Lets go, if it is still held."""
        with self._lock:
            if not self._lost:
                storage.exchange(self._place, FILE, self._content, _of("", 0.0).to_bytes())
                self._lost = True

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renews it now and then while the block runs, and lets go at its end."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._lease_s / _BEATS):
                with contextlib.suppress(OSError):  # the next beat tries again
                    try:
                        self.renew()
                    except Overtaken:
                        return  # the run is told at its next step

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()


def acquire(
    place: str, run: str, lease_s: float = LEASE_S, clock: Callable[[], float] = time.time
) -> Lease | Holder:
    """Takes the lease of a place.

    Returns:
        The lease, or who holds it.

    Raises:
        OSError: the storage failed.
    """
    mine = _of(run, clock() + lease_s).to_bytes()
    path = os.path.join(place, FILE)
    if storage.create_once(place, FILE, mine):
        return Lease(place, run, lease_s, mine, clock)
    theirs = storage.read_bytes(path)
    holder = Holder.from_bytes(theirs)
    if holder.is_gone(clock()) and storage.exchange(place, FILE, theirs, mine):
        return Lease(place, run, lease_s, mine, clock)
    return Holder.from_bytes(storage.read_bytes(path))


def _of(run: str, expires_s: float) -> Holder:
    pid = os.getpid()
    return Holder(run, _machine(), f"{pid} {_started(pid)}", round(expires_s, 3))


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: only time tells
        return secrets.token_hex(8)


def _is_alive(process: str) -> bool:
    pid, _, started = process.partition(" ")
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process was started, in the system's ticks; "" when there is none, or it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
