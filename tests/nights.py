"""A small world for scheduled runs: sources that come, change and go, and nights that may die.

The work is cheap here: a shard's output is its source's bytes and the recipe. It takes the very
steps of the ledger, the lease and the publication, on a real storage.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline import run_files
from pipeline.schedule import publication
from pipeline.schedule.lease import Holder, acquire
from pipeline.schedule.nightly import Night, Request, Task, new_run
from pipeline.schedule.outcome import BUSY, OVERTAKEN, Outcome
from transforms import storage
from transforms.commits import commit_path, committed_names, committed_totals
from transforms.inputs import Shard, plan_input
from transforms.listing import read_list
from transforms.shard_report import FileEntry, ShardReport

DAY_S = 86400.0
START_S = 1_790_000_000.0
_CHANGING = ("create_once", "write", "exchange", "delete", "delete_tree")


class Crash(BaseException):
    """The process has died."""


@dataclasses.dataclass
class World:
    """Sources in one folder, what is made of them in another, and a clock.

    Attributes:
        computed: how often each (source, its bytes, recipe) was committed.
        during: called before each shard that is made.
        launches: the work is done elsewhere, and nobody waits for it.
    """

    folder: Path
    place: str
    recipe: str = "a"
    now_s: float = START_S
    computed: Counter[tuple[str, bytes, str]] = dataclasses.field(default_factory=Counter)
    during: Callable[[Shard], None] = lambda _: None
    faults: Callable[[Mapping[str, Any]], list[str]] = lambda _: []
    launches: bool = False

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def put(self, name: str, content: str) -> None:
        """A source shard is there, or has another content, from now on."""
        self.source.mkdir(parents=True, exist_ok=True)
        path = self.source / f"{name}.tfrecord"
        path.write_text(content)
        os.utime(path, (self.now_s - 60, self.now_s - 60))

    def drop(self, name: str) -> None:
        (self.source / f"{name}.tfrecord").unlink()

    def task(self) -> Task:
        def make(shards: Sequence[Shard], out: str) -> int | None:
            code = self.make(shards, out)
            return None if self.launches else code

        return Task(
            lambda: plan_input(f"{self.source}/*.tfrecord").shards,
            self.recipe,
            make,
            self.faults,
        )

    def make(self, shards: Sequence[Shard], out: str) -> int:
        """As the usual machine does it: committed shards are not done again."""
        recipe = self.recipe
        storage.create_once(out, "run.json", b"{}")
        for shard in shards:
            if shard.name in committed_names(out):
                continue
            self.during(shard)
            content = Path(shard.root).read_bytes()
            if content.startswith(b"broken"):
                continue
            data = made_of(content, recipe)
            path = f"images/{shard.name}.tfrecord"
            storage.write(out, path, data)
            report = ShardReport(
                shard.name,
                read=10,
                written=9 if b"poor" in content else 10,
                failed_by_reason={"truncated": 1} if b"poor" in content else {},
                bytes_in=len(content),
                bytes_out=len(data),
                files=(FileEntry(path, len(data), storage.crc32c(data)),),
            )
            if storage.create_once(out, commit_path(shard.name), report.to_json()):
                self.computed[shard.name, content, recipe] += 1
        totals = committed_totals(out, committed_names(out), 1.0)
        metrics = run_files.metrics_of(totals, len(shards), None)
        metrics["records"]["over_budget"] = False
        storage.write(out, "metrics.json", run_files.json_lines(metrics))
        if totals.shards == len(shards):
            storage.write(out, "_SUCCESS", b"")
        return 0 if totals.shards == len(shards) else 1

    def night(self, keep: int | None = None, **asked: Any) -> Outcome:
        """One scheduled run, as the command does it."""
        os.makedirs(self.folder, exist_ok=True)
        run = new_run(self.now_s)
        lease = acquire(self.place, run, clock=lambda: self.now_s)
        if isinstance(lease, Holder):
            return Outcome(BUSY)
        request = Request(date="2026-11-25", keep=keep, **asked)
        try:
            return Night(self.place, self.task(), request, lease, lambda: self.now_s).run()
        except publication.Overtaken:
            return Outcome(OVERTAKEN)
        finally:
            lease.release()

    def published(self) -> dict[str, bytes]:
        """What a reader sees: the content of every live file by the name of its shard."""
        files = read_list(os.path.join(self.place, publication.POINTER))
        names = [os.path.basename(path) for path in files]
        assert len(set(names)) == len(names), "a shard is published twice"
        return {n: storage.read_bytes(path) for n, path in zip(names, files, strict=True)}

    def clean(self) -> dict[str, bytes]:
        """What one clean run over all that is there now publishes."""
        fresh = dataclasses.replace(
            self,
            place=f"{self.folder}/clean-{self.now_s}",
            computed=Counter(),
            during=lambda _: None,
        )
        assert fresh.night().status == "published"
        return fresh.published()


def made_of(content: bytes, recipe: str) -> bytes:
    return recipe.encode() + b" of " + content


@contextmanager
def crash_at(number: int, before: bool) -> Iterator[list[int]]:
    """The process dies before or after the number-th change of the storage; 0 for never.

    Yields:
        A list whose only number is how many changes there were.
    """
    count, dead = [0], False

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal dead
            count[0] += 1
            if dead or (count[0] == number and before):
                dead = True
                raise Crash
            answer = call(*args, **kwargs)
            if count[0] == number:
                dead = True
                raise Crash
            return answer

        return step

    changed = {name: dying(getattr(storage, name)) for name in _CHANGING}
    with mock.patch.multiple(storage, **changed):
        yield count
