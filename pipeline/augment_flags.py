"""Flags of `pixelmill augment`."""

import argparse
import datetime

from pipeline.flag_values import fraction, positive, seconds
from pipeline.schedule import LEASE_S

DESCRIPTION = f"""\
The additional examples that a recipe asks for, of what is new, published whole or not at all.

  pixelmill augment nightly.yaml --check      the recipe in words
  pixelmill augment nightly.yaml --dry_run    what there is to do, and how long it may take
  pixelmill augment nightly.yaml --keep 7     does it; for a schedule

Sources that are new or have changed, or all of them when the recipe has, are made into a partition
PUBLISH/dt=DATE/run=ID. Then PUBLISH/latest.list is moved, which names the examples of all sources
there are: `--input PUBLISH/latest.list` reads them. A run that died is finished by the next; one
that was missed is made up for. The last line is JSON, for logs.

Exit codes: 0 published, or nothing is new; 1 shards or too many records failed, nothing is
published; 2 cannot start; 3 a gate of the recipe stops publication; 75 another run is at work
(its lease ends {LEASE_S / 60:g} minutes after it last gave a sign of life); 130 interrupted."""


def add_flags(command: argparse.ArgumentParser) -> None:
    """All but those that every command has."""
    command.add_argument("recipe", metavar="RECIPE", help="YAML file")
    group = command.add_argument_group("looking")
    group.add_argument("--check", action="store_true", help="explain the recipe in words, no more")
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="say what would be done: shards, bytes, and time by the rate of the last run",
    )
    group = command.add_argument_group("what to do")
    group.add_argument(
        "--since",
        type=moment,
        metavar="DATE",
        help="leave new sources that were written before, 2026-11-25 or 2026-11-25T02:00 (UTC)",
    )
    group.add_argument(
        "--max_shards", type=positive, metavar="N", help="leave more than these to later runs"
    )
    group.add_argument(
        "--date",
        type=date,
        metavar="DATE",
        help="that the partition is filed under, 2026-11-25; default today (UTC)",
    )
    group.add_argument(
        "--keep",
        type=positive,
        metavar="N",
        help="of published lists; older ones are deleted, and partitions that none of the N needs. "
        "Default: all",
    )
    group.add_argument(
        "--lease_s",
        type=seconds,
        default=LEASE_S,
        metavar="S",
        help="after which a run that gives no sign of life is taken for dead, default "
        f"{LEASE_S:g}; one that died on this machine is seen at once",
    )
    group = command.add_argument_group("work")
    group.add_argument(
        "--max_failed_fraction",
        type=fraction,
        default=0.01,
        metavar="F",
        help="of a shard's records, and of all new ones, that may fail; default 0.01",
    )
    group.add_argument("--max_pixels", type=positive, help="larger pictures fail")
    group.add_argument("--threads", type=positive, help="default one a core; changes no result")


def date(text: str) -> str:
    """A day, "2026-11-25". Raises ArgumentTypeError."""
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a day like 2026-11-25") from error


def moment(text: str) -> float:
    """A day or a time in UTC, in seconds since 1970. Raises ArgumentTypeError."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time like 2026-11-25 or 2026-11-25T02:00"
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
