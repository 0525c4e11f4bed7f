"""What a scheduled run has come to: a word, an exit code, and one line of JSON for logs."""

import dataclasses
import json
from typing import Any

from pipeline.schedule.differences import Difference

PUBLISHED, NOTHING_NEW, WAITING, LAUNCHED = "published", "nothing_new", "waiting", "launched"
FAILED, HELD, BUSY, OVERTAKEN = "failed", "held", "busy", "overtaken"
DRY_RUN, ERROR, INTERRUPTED = "dry_run", "error", "interrupted"
EXIT_CODES = {
    PUBLISHED: 0,
    NOTHING_NEW: 0,
    WAITING: 0,
    LAUNCHED: 0,
    DRY_RUN: 0,
    FAILED: 1,
    ERROR: 2,
    HELD: 3,
    BUSY: 75,  # EX_TEMPFAIL of sysexits.h: try again later
    OVERTAKEN: 75,
    INTERRUPTED: 130,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run has come to.

    Attributes:
        status: published; nothing_new; launched: shards are made elsewhere, the next run publishes
            them; waiting: shards of an older recipe are left, so nothing is published yet; failed:
            shards or too many records failed; held: a gate did not pass; busy: another run is at
            work; overtaken: another has taken over; dry_run; error; interrupted.
        reasons: of what was not done.
        shards: how many are in the source, were new, changed, reworked (by another recipe),
            removed, made, failed, and are left.
        records, bytes: that were read and written by this run, of the shards made.
        snapshot, live: number of what is published, and its source shards.
        deleted: partitions, by --keep.
        estimate: of a dry run.
    """

    status: str
    run: str = ""
    date: str = ""
    reasons: tuple[str, ...] = ()
    shards: dict[str, int] = dataclasses.field(default_factory=dict)
    records: dict[str, int] = dataclasses.field(default_factory=dict)
    bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    partitions: tuple[str, ...] = ()
    snapshot: int = 0
    live: int = 0
    deleted: tuple[str, ...] = ()
    estimate: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    @property
    def failed(self) -> int:
        """How many shards failed."""
        return self.shards.get("failed", 0)

    def to_line(self) -> str:
        """One line of JSON, without what is empty."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if v not in ("", (), {}, 0.0)}
        return json.dumps({"pixelmill": "augment", "exit_code": self.exit_code, **fields})


def counts(found: Difference, sources: int) -> dict[str, int]:
    """The counts of a differences.Difference, by name."""
    return {
        "source": sources,
        "new": found.new,
        "changed": found.changed,
        "reworked": found.reworked,
        "removed": len(found.removed),
    }
