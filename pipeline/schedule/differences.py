"""What is to be made, and what may be published: set differences, without any storage."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from pipeline.schedule.ledger import Entry, Wanted, wanted
from pipeline.schedule.sources import Source


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a run has to do.

    Attributes:
        todo: sources of which nothing was made yet, by name.
        left: more of these, which this run was told to leave (--since, --max_shards).
        new, changed, reworked: how many of both have never been published; have another content;
            have another recipe.
        done: how many sources there is something of already.
        removed: names that are published, and whose source is gone.
    """

    todo: tuple[Source, ...]
    left: tuple[Source, ...]
    new: int
    changed: int
    reworked: int
    done: int
    removed: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Selection:
    """What readers are to see.

    Attributes:
        entries: by name of their sources; all of one recipe.
        left: names of sources of which nothing is there yet. One that has changed is in `entries`
            with what was made of it before.
        blocked: names of those that are published by another recipe. As long as there are any,
            nothing may be published, for that would mix recipes or take away most of a dataset.
    """

    entries: tuple[Entry, ...]
    left: tuple[str, ...]
    blocked: tuple[str, ...]


def difference(
    sources: Sequence[Source],
    work: str,
    made: Iterable[Entry],
    published: Iterable[Entry],
    *,
    since_s: float | None = None,
    max_shards: int | None = None,
) -> Difference:
    """What is to be made of sources, given all that was made and what of it is published.

    Args:
        work: see ledger.Wanted.
        since_s: sources that were written before are left.
        max_shards: more than these are left.
    """
    have = {entry.wanted for entry in made}
    names = wanted(sources, work)
    missing = [source for source in sources if names[source.name] not in have]
    fresh = [s for s in missing if since_s is None or s.modified_s >= since_s]
    todo = fresh if max_shards is None else fresh[:max_shards]
    chosen = {source.name for source in todo}
    before = {entry.name: entry.wanted for entry in published}
    kinds = {"new": 0, "changed": 0, "reworked": 0}
    for source in missing:
        old = before.get(source.name)
        same = old is not None and old.version == source.version
        kinds["new" if old is None else "reworked" if same else "changed"] += 1
    return Difference(
        todo=tuple(todo),
        left=tuple(source for source in missing if source.name not in chosen),
        **kinds,
        done=len(sources) - len(missing),
        removed=tuple(sorted(before.keys() - names.keys())),
    )


def select(
    names: Mapping[str, Wanted], made: Iterable[Entry], published: Sequence[Entry]
) -> Selection:
    """What readers are to see of sources, given all that was made and what is published now.

    A source that is gone is not in it. Where something was made twice, what is published stays,
    else the older one counts.
    """
    have: dict[Wanted, Entry] = {}
    for each in (*published, *made):
        have.setdefault(each.wanted, each)
    before = {entry.name: entry for entry in published}
    entries, left, blocked = [], [], []
    for name in sorted(names):
        if (entry := have.get(names[name])) is not None:
            entries.append(entry)
            continue
        left.append(name)
        if (old := before.get(name)) is not None:
            if old.wanted.work == names[name].work:
                entries.append(old)
            else:
                blocked.append(name)
    return Selection(tuple(entries), tuple(left), tuple(blocked))
