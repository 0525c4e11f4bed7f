"""What nobody needs any more: snapshots beyond --keep, and partitions that none of them names."""

from collections.abc import Collection

from pipeline.schedule import ledger, publication
from pipeline.schedule.ledger import Ledger


def retain(place: str, found: Ledger, needed: Collection[str], keep: int, run: str) -> list[str]:
    """Deletes all but the newest `keep` snapshots, and partitions that these do not need.

    A partition is deleted as a whole: as long as one of its shards is needed, all stay.

    Args:
        needed: partitions that stay, though they may not be published yet.

    Returns:
        The partitions that were deleted.

    Raises:
        Overtaken: another run has taken over. Nothing was deleted.
        OSError: the storage failed.
    """
    published = publication.read(place)
    numbers = publication.snapshot_numbers(place)
    older = [number for number in numbers if number < published.number]
    kept = older[-(keep - 1) :] if keep > 1 else []
    named = {entry.partition for entry in published.entries}
    for number in kept:
        named |= {entry.partition for entry in publication.read_snapshot(place, number)}
    dead = [m for m in found.complete if m.partition not in named and m.partition not in needed]
    gone = [n for n in numbers if n != published.number and n not in kept]
    if not dead and not gone:
        return []
    # One that has lost its lease may be about to publish what is deleted here: now it cannot.
    publication.point(place, published, run)
    for number in gone:
        publication.delete_snapshot(place, number)
    for manifest in dead:
        ledger.forget(place, manifest.run)
    return [manifest.partition for manifest in dead]
