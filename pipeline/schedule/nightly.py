"""One scheduled run: finish what was begun, make what is new, judge it, publish it whole."""

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline import run_files
from pipeline.schedule import ledger, publication
from pipeline.schedule.differences import Difference, Selection, difference, select
from pipeline.schedule.judgement import judge
from pipeline.schedule.lease import Lease
from pipeline.schedule.ledger import Entry, Intent, Ledger, Manifest, Wanted, wanted
from pipeline.schedule.outcome import (
    FAILED,
    HELD,
    LAUNCHED,
    NOTHING_NEW,
    PUBLISHED,
    WAITING,
    Outcome,
    counts,
)
from pipeline.schedule.publication import Published
from pipeline.schedule.retention import retain
from pipeline.schedule.sources import Known, Source, look
from transforms.commits import committed_names, read_commits
from transforms.inputs import Plan, Shard

_SHOWN = 20  # reasons of one kind


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be made, of what, and how.

    Attributes:
        find: lists the source shards, now.
        work: digest of all that decides the bytes besides the source (see ledger.Wanted).
        make: makes a partition of shards in a folder, or goes on with it; returns an exit code, or
            None when it was only launched and is at work elsewhere. The next run goes on with it.
        faults: the gates that metrics do not pass, in words.
        max_failed_fraction: of records.
    """

    find: Callable[[], Sequence[Shard]]
    work: str
    make: Callable[[Sequence[Shard], str], int | None]
    faults: Callable[[Mapping[str, Any]], list[str]] = lambda _: []
    max_failed_fraction: float = 0.01


@dataclasses.dataclass(frozen=True)
class Request:
    """What a person asks of a run.

    Attributes:
        date: partitions are filed under it.
        since_s, max_shards: see differences.difference.
        keep: snapshots to keep; None to delete nothing.
    """

    date: str
    since_s: float | None = None
    max_shards: int | None = None
    keep: int | None = None


@dataclasses.dataclass(frozen=True)
class View:
    """All that a run starts from."""

    found: Ledger
    published: Published
    sources: tuple[Source, ...]

    def difference(self, work: str, request: Request) -> Difference:
        """What is to be made, see differences.difference."""
        return difference(
            self.sources,
            work,
            self.found.entries,
            self.published.entries,
            since_s=request.since_s,
            max_shards=request.max_shards,
        )


@dataclasses.dataclass(frozen=True)
class Made:
    """What a run has made: new entries of the ledger; names of sources that failed; and of those
    that are worked on elsewhere."""

    entries: tuple[Entry, ...] = ()
    failed: frozenset[str] = frozenset()
    launched: frozenset[str] = frozenset()

    def plus(self, other: "Made") -> "Made":
        return Made(
            self.entries + other.entries,
            self.failed | other.failed,
            self.launched | other.launched,
        )


def new_run(now_s: float) -> str:
    """An id that no other run has; ids are in the order of time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now_s))}-{secrets.token_hex(3)}"


def view(place: str, task: Task, now_s: float) -> View:
    """Reads ledger and source. Raises UserError, OSError."""
    found = ledger.read(place)
    return View(found, publication.read(place), tuple(look(task.find(), found.known(), now_s)))


@dataclasses.dataclass(frozen=True)
class Night:
    """A run under a lease. It may be killed at any moment, and is then finished by the next."""

    place: str
    task: Task
    request: Request
    lease: Lease
    now: Callable[[], float] = time.time

    def run(self) -> Outcome:
        """Does it.

        Raises:
            Overtaken: the lease was lost. What was made stays in the ledger.
            UserError: the recipe, the source or the place cannot be used.
            OSError: the storage failed.
        """
        began_s = self.now()
        seen = view(self.place, self.task, began_s)
        made = self._finish_open(seen)
        made = made.plus(self._make_new(seen, made))
        found = ledger.read(self.place)
        selection = select(
            wanted(seen.sources, self.task.work), found.entries, seen.published.entries
        )
        outcome = self._outcome(seen, made, selection)
        outcome = self._publish(found, seen, selection, outcome)
        if self.request.keep is not None and outcome.status in (PUBLISHED, NOTHING_NEW):
            outcome = self._retain(found, selection, outcome, self.request.keep)
        return dataclasses.replace(outcome, seconds=round(self.now() - began_s, 3))

    def _finish_open(self, seen: View) -> Made:
        """Goes on with partitions whose runs have died.

        Where the source or the recipe is another by now, what is there already is all that counts.
        """
        made = Made()
        names = wanted(seen.sources, self.task.work)
        by_name = {source.name: source for source in seen.sources}
        for intent in seen.found.open:
            self.lease.renew()
            sources = [by_name[w.name] for w, _ in intent.sources if names.get(w.name) == w]
            if _plan(sources) == intent.plan and len(sources) == len(intent.sources):
                try:
                    made = made.plus(self._make(intent, sources))
                    continue
                except run_files.RunError:  # another version of a library began it
                    pass
            self._close(intent, names, 0.0)
        return made

    def _make_new(self, seen: View, made: Made) -> Made:
        """Makes a partition of what is new, beside what was `made` of older ones."""
        taken = made.failed | made.launched
        request, done = self.request, len(made.entries) + len(taken)
        if request.max_shards is not None:
            request = dataclasses.replace(request, max_shards=max(0, request.max_shards - done))
        now = dataclasses.replace(seen, found=ledger.read(self.place))
        todo = now.difference(self.task.work, request).todo
        sources = [source for source in todo if source.name not in taken]
        if not sources:
            return Made()
        names = wanted(sources, self.task.work)
        rows = tuple((names[source.name], source.mark) for source in sources)
        intent = Intent(self.lease.run, request.date, _plan(sources), rows)
        self.lease.renew()
        ledger.begin(self.place, intent)
        return self._make(intent, sources)

    def _make(self, intent: Intent, sources: Sequence[Source]) -> Made:
        """Makes a partition, or goes on with it."""
        out = os.path.join(self.place, intent.partition)
        before, began_s = committed_names(out), self.now()
        shards = [source.shard for source in sources]
        if self.task.make(shards, out) is None:
            return Made(launched=frozenset(source.name for source in sources))
        self.lease.renew()
        known = {s.name: Known(s.mark, s.version) for s in sources if s.mark}
        still = wanted(look(shards, known, self.now()), self.task.work)
        entries = self._close(intent, still, round(self.now() - began_s, 3))
        failed = {w.name for w, _ in intent.sources if still.get(w.name) == w}
        failed -= {entry.name for entry in entries}
        return Made(tuple(e for e in entries if e.name not in before), frozenset(failed))

    def _close(
        self, intent: Intent, still: Mapping[str, Wanted], seconds: float
    ) -> tuple[Entry, ...]:
        """Makes a partition complete with what is committed in it; deletes it when that is nothing.

        Args:
            still: what is wanted of each source as it is now. One that changed while the partition
                was made may have been read before or after: nobody knows what was made of it.
        """
        out = os.path.join(self.place, intent.partition)
        asked = {w.name: (w, mark) for w, mark in intent.sources if still.get(w.name) == w}
        reports = read_commits(out, asked.keys() & committed_names(out))
        entries = tuple(
            Entry.of(*asked[report.shard], intent.partition, report) for report in reports
        )
        if not entries:
            ledger.forget(self.place, intent.run)
            return ()
        whole = len(entries) == len(intent.sources)
        made = Manifest(intent.run, intent.date, entries, whole, seconds)
        return ledger.complete(self.place, made).entries

    def _outcome(self, seen: View, made: Made, selection: Selection) -> Outcome:
        """What is to be said before anything is published."""
        found = seen.difference(self.task.work, self.request)
        entries, failed = made.entries, sorted(made.failed)
        return Outcome(
            LAUNCHED if made.launched else NOTHING_NEW,
            self.lease.run,
            self.request.date,
            tuple(f"{name}: failed" for name in failed[:_SHOWN])
            or tuple(f"{name}: of an older recipe" for name in selection.blocked[:_SHOWN]),
            counts(found, len(seen.sources))
            | {"made": len(entries), "failed": len(failed), "left": len(selection.left)},
            {"read": sum(e.read for e in entries), "written": sum(e.written for e in entries)},
            {"in": sum(e.bytes_in for e in entries), "out": sum(e.bytes_out for e in entries)},
            tuple(sorted({entry.partition for entry in entries})),
            seen.published.number,
            len(seen.published.entries),
        )

    def _publish(
        self, found: Ledger, seen: View, selection: Selection, outcome: Outcome
    ) -> Outcome:
        """Publishes what is selected, if all went well and the gates let it pass."""
        entries, old = selection.entries, set(seen.published.entries)
        if outcome.failed:
            return dataclasses.replace(outcome, status=FAILED)
        if selection.blocked:
            return dataclasses.replace(outcome, status=WAITING)
        if set(entries) == old:
            return outcome
        if added := [entry for entry in entries if entry not in old]:
            over, faults = judge(
                self.place, found, added, self.task.faults, self.task.max_failed_fraction
            )
            if over or faults:
                return dataclasses.replace(
                    outcome, status=FAILED if over else HELD, reasons=(*over, *faults)
                )
        self.lease.renew()
        published = publication.publish(self.place, seen.published, entries, self.lease.run)
        return dataclasses.replace(
            outcome, status=PUBLISHED, snapshot=published.number, live=len(entries)
        )

    def _retain(self, found: Ledger, selection: Selection, outcome: Outcome, keep: int) -> Outcome:
        """Deletes what --keep does not."""
        self.lease.renew()
        needed = {entry.partition for entry in selection.entries}
        deleted = retain(self.place, found, needed, keep, self.lease.run)
        return dataclasses.replace(outcome, deleted=tuple(deleted))


def _plan(sources: Sequence[Source]) -> str:
    """Digest of the plan that a partition of these sources is made by."""
    return Plan.of(tuple(source.shard for source in sources)).digest()
