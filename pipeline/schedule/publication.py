"""What readers see: a list of live shards, and a pointer to the newest list that is moved last.

    latest.list                      names the newest snapshot's list; the only file that changes
    snapshot-00000012.list           the live shards, one a line
    ledger/snapshot-00000012.json    the same with sources, sizes and checksums

`--input PLACE/latest.list` reads the union (see listing.read_list).
"""

import dataclasses
import os
import re

from models.errors import UserError
from pipeline.schedule import ledger
from pipeline.schedule.ledger import Entry
from transforms import storage

POINTER = "latest.list"
_NUMBER = re.compile(r"^snapshot-(\d{8,})\.(?:list|json)$", re.MULTILINE)
_MOST_TRIES = 1000


class Overtaken(Exception):
    """Another run has taken over; what this one made stays in the ledger."""


@dataclasses.dataclass(frozen=True)
class Published:
    """What is published.

    Attributes:
        number: of the snapshot; 0 for none yet.
        pointer: content of latest.list; None when there is none yet.
    """

    number: int = 0
    entries: tuple[Entry, ...] = ()
    pointer: bytes | None = None


def read(place: str) -> Published:
    """What is published now. Raises UserError for damaged files, OSError."""
    path = os.path.join(place, POINTER)
    try:
        pointer = storage.read_bytes(path)
    except FileNotFoundError:
        return Published()
    found = _NUMBER.search(pointer.decode("utf-8", "replace"))
    if found is None:
        raise UserError(f"{path} names no snapshot; expected a line like {_list_name(12)}")
    number = int(found[1])
    return Published(number, read_snapshot(place, number), pointer)


def read_snapshot(place: str, number: int) -> tuple[Entry, ...]:
    """The entries of a snapshot. Raises UserError for a damaged one, OSError."""
    path = os.path.join(place, _json_name(number))
    try:
        fields = ledger.from_bytes(path, storage.read_bytes(path))
        return tuple(Entry.from_fields(row) for row in fields["entries"])
    except (KeyError, TypeError) as error:
        raise ledger.damaged(path, error) from error


def publish(place: str, before: Published, entries: tuple[Entry, ...], run: str) -> Published:
    """Makes entries what readers see, in one step.

    Args:
        before: what was published when this run began.

    Raises:
        Overtaken: another run has published meanwhile.
        OSError: the storage failed.
    """
    content = ledger.to_bytes({"run": run, "entries": [entry.to_fields() for entry in entries]})
    for number in range(before.number + 1, before.number + _MOST_TRIES):
        if storage.create_once(place, _json_name(number), content):
            break  # others are of runs that died or were overtaken
    else:
        raise UserError(f"{place}/{ledger.FOLDER} holds {_MOST_TRIES} snapshots that nobody uses")
    lines = [path for entry in entries for path in entry.paths]
    text = "".join(f"{line}\n" for line in [f"# {len(lines)} files", *lines])
    storage.write(place, _list_name(number), text.encode())
    return point(place, dataclasses.replace(before, number=number, entries=entries), run)


def point(place: str, published: Published, run: str) -> Published:
    """Moves the pointer to a snapshot, in the name of a run; others under way then fail to.

    Raises:
        Overtaken: it is not as `published` says any more.
        OSError: the storage failed.
    """
    new = f"# by run {run}\n{_list_name(published.number)}\n".encode()
    if published.pointer is None:
        moved = storage.create_once(place, POINTER, new)
    else:
        moved = storage.exchange(place, POINTER, published.pointer, new)
    if not moved:
        raise Overtaken(f"another run has moved {POINTER} meanwhile")
    return dataclasses.replace(published, pointer=new)


def snapshot_numbers(place: str) -> list[int]:
    """Numbers of all snapshots, also of those that never were published, in order."""
    names = (name for name, _ in storage.list_files(os.path.join(place, ledger.FOLDER)))
    return sorted(int(found[1]) for found in map(_NUMBER.search, names) if found is not None)


def delete_snapshot(place: str, number: int) -> None:
    """Deletes a snapshot, but nothing that it names. Raises OSError."""
    storage.delete(os.path.join(place, _list_name(number)))
    storage.delete(os.path.join(place, _json_name(number)))


def _list_name(number: int) -> str:
    return f"snapshot-{number:08d}.list"


def _json_name(number: int) -> str:
    return f"{ledger.FOLDER}/snapshot-{number:08d}.json"
