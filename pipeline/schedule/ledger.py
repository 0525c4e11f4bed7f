"""The ledger: what was made of which source, in files that are created once and never changed.

    ledger/<run>.intent.json      before a partition is begun: which sources it is to be made of
    ledger/<run>.manifest.json    when it is complete: what was made of each

There is no other truth. A partition with an intent and no manifest is open: its run is at work, or
has died, and the next run goes on with it.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from models.errors import UserError
from pipeline.schedule.sources import Known, Source
from transforms import storage
from transforms.commits import METRICS
from transforms.shard_report import FileEntry, ShardReport

FOLDER = "ledger"
_INTENT, _MANIFEST = ".intent.json", ".manifest.json"
_FORMAT = 1
_PICTURES = "images/"
_THREADS = 16


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A source as it is now, and what is to be made of it.

    Attributes:
        name, version: see sources.Source.
        work: digest of all else that decides the bytes: recipe, models, validation data.
    """

    name: str
    version: str
    work: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """What was made of one source shard.

    Attributes:
        wanted: of which source, by which work.
        mark: see sources.Source.
        partition: its folder, "dt=2026-11-25/run=20261125T020000Z-1a2b3c".
        files: the pictures, relative to the partition.
        read, written: numbers of records.
        bytes_in, bytes_out: of the source, and of all files written.
    """

    wanted: Wanted
    mark: str
    partition: str
    files: tuple[FileEntry, ...]
    read: int = 0
    written: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    @staticmethod
    def of(wanted: Wanted, mark: str, partition: str, report: ShardReport) -> "Entry":
        """The entry of a committed shard."""
        pictures = tuple(file for file in report.files if file.path.startswith(_PICTURES))
        sizes = (report.read, report.written, report.bytes_in, report.bytes_out)
        return Entry(wanted, mark, partition, pictures, *sizes)

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files, relative to the place of publication."""
        return tuple(f"{self.partition}/{file.path}" for file in self.files)

    def to_fields(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return {**fields.pop("wanted"), **fields}

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> "Entry":
        rest = dict(fields)
        wanted = Wanted(*(rest.pop(name) for name in ("name", "version", "work")))
        files = tuple(FileEntry(**file) for file in rest.pop("files"))
        return Entry(wanted=wanted, files=files, **rest)


@dataclasses.dataclass(frozen=True)
class Intent:
    """A partition that was begun.

    Attributes:
        run: "20261125T020000Z-1a2b3c", unique and in the order of time.
        date: "2026-11-25", what the partition is filed under.
        plan: digest of the plan that it is made by (see inputs.Plan).
        sources: (what is wanted, its mark), in the order of the plan.
    """

    run: str
    date: str
    plan: str
    sources: tuple[tuple[Wanted, str], ...]

    @property
    def partition(self) -> str:
        return f"dt={self.date}/run={self.run}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A complete partition.

    Attributes:
        whole: every source of the intent was made. Else its sources had changed when a run that
            died was to be continued; what is there is listed, the partition has no _SUCCESS.
        seconds: that the work took, of the last run that worked on it.
    """

    run: str
    date: str
    entries: tuple[Entry, ...]
    whole: bool
    seconds: float

    @property
    def partition(self) -> str:
        return f"dt={self.date}/run={self.run}"


@dataclasses.dataclass(frozen=True)
class Ledger:
    """All that is known, in the order of runs.

    Attributes:
        open: partitions that were begun and are not complete.
        complete: the others.
    """

    open: tuple[Intent, ...] = ()
    complete: tuple[Manifest, ...] = ()

    @property
    def entries(self) -> Iterator[Entry]:
        """All that was ever made and is not deleted; the newest last."""
        for manifest in self.complete:
            yield from manifest.entries

    def known(self) -> dict[str, Known]:
        """The newest version of each source that can be told by its mark."""
        found = {e.name: Known(e.mark, e.wanted.version) for e in self.entries if e.mark}
        for intent in self.open:
            found |= {w.name: Known(mark, w.version) for w, mark in intent.sources if mark}
        return found


def wanted(sources: Iterable[Source], work: str) -> dict[str, Wanted]:
    """What is wanted of each source, by its name."""
    return {source.name: Wanted(source.name, source.version, work) for source in sources}


def read(place: str) -> Ledger:
    """The ledger of a place of publication.

    Raises:
        UserError: a file of it is damaged or of another version.
        OSError: the storage failed.
    """
    folder = os.path.join(place, FOLDER)
    if not storage.is_folder(folder):
        return Ledger()
    names = [name for name, _ in storage.list_files(folder)]
    runs = {name.removesuffix(_MANIFEST) for name in names if name.endswith(_MANIFEST)}
    begun = {name.removesuffix(_INTENT) for name in names if name.endswith(_INTENT)}
    with ThreadPoolExecutor(_THREADS) as pool:
        manifests = list(pool.map(lambda run: _read_manifest(place, run), sorted(runs)))
        intents = list(pool.map(lambda run: _read_intent(place, run), sorted(begun - runs)))
    return Ledger(
        tuple(intent for intent in intents if intent is not None),
        tuple(manifest for manifest in manifests if manifest is not None),
    )


def begin(place: str, intent: Intent) -> None:
    """Makes a partition known before anything of it is made. Raises OSError."""
    rows = [[*dataclasses.astuple(wanted), mark] for wanted, mark in intent.sources]
    fields = {"run": intent.run, "date": intent.date, "plan": intent.plan, "sources": rows}
    storage.create_once(place, _path(intent.run, _INTENT), to_bytes(fields))


def complete(place: str, manifest: Manifest) -> Manifest:
    """Makes a partition complete: once. Returns the manifest that counts, perhaps another's."""
    fields = dataclasses.asdict(manifest)
    fields["entries"] = [entry.to_fields() for entry in manifest.entries]
    if storage.create_once(place, _path(manifest.run, _MANIFEST), to_bytes(fields)):
        return manifest
    return _read_manifest(place, manifest.run) or manifest


def forget(place: str, run: str) -> None:
    """Deletes a partition. Raises OSError.

    First what says that it is complete, then what says that a shard of it is; the intent last:
    while it is there, the next run sees an open partition without shards, and deletes the rest.
    """
    intent = _read_intent(place, run)
    storage.delete(os.path.join(place, _path(run, _MANIFEST)))
    if intent is not None:
        out = os.path.join(place, intent.partition)
        storage.delete_tree(os.path.join(out, METRICS))
        storage.delete_tree(out)
    storage.delete(os.path.join(place, _path(run, _INTENT)))


def to_bytes(fields: Mapping[str, Any]) -> bytes:
    """JSON of one of the files here, with its format."""
    return json.dumps({"format": _FORMAT, **fields}, indent=1).encode() + b"\n"


def from_bytes(path: str, data: bytes) -> dict[str, Any]:
    """The fields that to_bytes wrote. Raises UserError."""
    try:
        fields: dict[str, Any] = json.loads(data)
        if fields.pop("format") != _FORMAT:
            raise UserError(f"{path} is of another version of pixelmill")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise damaged(path, error) from error
    return fields


def damaged(path: str, error: Exception) -> UserError:
    """What is said of a file that cannot be understood."""
    return UserError(
        f"{path} cannot be read: {error!r}; it is never changed by pixelmill, so something else "
        "has: bring it back, or delete it, and what it tells of is made again"
    )


def _read_manifest(place: str, run: str) -> Manifest | None:
    path = os.path.join(place, _path(run, _MANIFEST))
    try:
        fields = from_bytes(path, storage.read_bytes(path))
        entries = tuple(Entry.from_fields(row) for row in fields.pop("entries"))
        return Manifest(**fields, entries=entries)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise damaged(path, error) from error


def _read_intent(place: str, run: str) -> Intent | None:
    path = os.path.join(place, _path(run, _INTENT))
    try:
        fields = from_bytes(path, storage.read_bytes(path))
        rows: Sequence[Sequence[str]] = fields.pop("sources")
        return Intent(**fields, sources=tuple((Wanted(*row[:3]), row[3]) for row in rows))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, IndexError) as error:
        raise damaged(path, error) from error


def _path(run: str, extension: str) -> str:
    return f"{FOLDER}/{run}{extension}"
