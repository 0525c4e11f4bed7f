"""The commit protocol, broken at every step: docs/storage.md says what must hold."""

import errno
import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import faults
import pytest
from gcs_server import CUT, LOST, Fault, GcsServer
from support import content

from pipeline import cli
from pipeline.checks import clean, verify
from transforms import storage

# All steps where it is slow; else enough of them to see that the test works.
EVERY = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 9])
MANY = pytest.mark.parametrize("every", [pytest.param(3, marks=pytest.mark.slow), 9])
KINDS = pytest.mark.parametrize("as_files", [False, True], ids=["shards", "files"])


@pytest.fixture
def source(tmp_path: Path) -> str:
    return faults.make_source(tmp_path)


def tree(out: Path) -> dict[str, str]:
    """What must be equal, and the names of all files that are there."""
    names = {str(p.relative_to(out)): "" for p in out.rglob("*") if p.is_file()}
    return names | content(out)


def tree_of(out: Path) -> dict[str, str]:
    """The files of a run of pack."""
    return {
        str(path.relative_to(out)): storage.file_crc32c(str(path))
        for folder in ("images", "records")
        for path in (out / folder).rglob("*.*")
    }


def committed(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "metrics").glob("*.json")}


@EVERY
@KINDS
def test_killed_before_every_step_a_local_run_ends_as_if_never_killed(
    source: str, tmp_path: Path, as_files: bool, every: int
) -> None:
    notes = tmp_path / "steps"
    process = faults.start(faults.run, source, str(tmp_path / "usual"), as_files, None, str(notes))
    process.join()
    expected = tree(tmp_path / "usual")
    steps = notes.read_text().splitlines()
    assert {step.split()[0] for step in steps} >= {"link", "replace", "unlink", "mkdir", "fsync"}
    for number, step in [*enumerate(steps, 1)][::every]:
        out = tmp_path / "out"
        process = faults.start(faults.run, source, str(out), as_files, number)
        process.join()
        assert process.exitcode == -signal.SIGKILL, step
        before = committed(out)
        faults.protocol_run(source, str(out), as_files)
        assert before.items() <= committed(out).items(), f"killed before {step}: done again"
        assert tree(out) == expected, f"killed before {step}"
        assert verify(str(out)) == []
        shutil.rmtree(out)


@EVERY
@KINDS
def test_when_no_step_succeeds_any_more_nothing_is_lost(
    source: str, tmp_path: Path, as_files: bool, every: int
) -> None:
    """A disk that is full from any step on; there is room again for the next run."""
    notes, room = tmp_path / "steps", errno.ENOSPC
    faults.start(faults.run, source, str(tmp_path / "usual"), as_files, None, str(notes)).join()
    expected = tree(tmp_path / "usual")
    for number, step in [*enumerate(notes.read_text().splitlines(), 1)][::every]:
        out = tmp_path / "out"
        process = faults.start(faults.run, source, str(out), as_files, number, "", "", room)
        process.join()
        assert process.exitcode is not None and process.exitcode >= 0, step
        before = committed(out)
        assert not [path for path in out.rglob("_tmp/*") if path.is_file()], step
        faults.protocol_run(source, str(out), as_files)
        assert before.items() <= committed(out).items(), f"full before {step}: done again"
        assert tree(out) == expected, f"full before {step}"
        shutil.rmtree(out)


def test_cleaning_while_runs_are_at_work_takes_nothing_of_theirs(
    source: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    faults.protocol_run(source, str(tmp_path / "usual"))
    expected = tree(tmp_path / "usual")
    for number in range(3):
        runs = [faults.start(_run_slowly, source, str(out), "", number, i) for i in range(2)]
        cleaned = 0
        while any(process.is_alive() for process in runs):
            if (out / "plan.jsonl").exists():
                clean(str(out))
                cleaned += 1
        assert cleaned > 3
        for process in runs:
            process.join()
            assert process.exitcode == 0
        assert tree(out) == expected
        shutil.rmtree(out)


@pytest.mark.slow
@KINDS
def test_killed_twice_and_cleaned_between(source: str, tmp_path: Path, as_files: bool) -> None:
    """The second attempt dies as well, three steps later; --clean in between takes nothing."""
    notes = tmp_path / "steps"
    faults.start(faults.run, source, str(tmp_path / "usual"), as_files, None, str(notes)).join()
    expected = tree(tmp_path / "usual")
    for number in range(12, len(notes.read_text().splitlines()), 5):
        out = tmp_path / "out"
        faults.start(faults.run, source, str(out), as_files, number).join()
        if (out / "plan.jsonl").exists():
            clean(str(out))
            assert not any((out / "_tmp").iterdir()) if (out / "_tmp").exists() else True
        faults.start(faults.run, source, str(out), as_files, 9).join()
        faults.protocol_run(source, str(out), as_files)
        assert tree(out) == expected, f"killed at step {number}"
        shutil.rmtree(out)


def run_there(gcs: GcsServer, as_files: bool) -> dict[str, str]:
    """The run in this process; what is in the bucket afterwards."""
    faults.protocol_run("gs://bucket/in", "gs://bucket/out", as_files)
    return there(gcs)


def run_again(gcs: GcsServer, as_files: bool) -> dict[str, str]:
    """The same from the beginning; only its requests are in the log."""
    gcs.delete_all("out/")
    gcs.log.clear()
    return run_there(gcs, as_files)


def there(gcs: GcsServer) -> dict[str, str]:
    found = {}
    for name in gcs.names("out/"):
        data = gcs.get(name)
        if name.endswith(".json"):
            fields = json.loads(data)
            fields.pop("clock", None)
            data = json.dumps(fields).encode()
        if not name.endswith(".html"):
            found[name] = storage.crc32c(data)
    return found


def commits_there(gcs: GcsServer) -> dict[str, int]:
    return {name: gcs.generation(name) for name in gcs.names("out/metrics/")}


@EVERY
@KINDS
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_request_a_run_on_gs_ends_as_if_never_killed(
    gcs: GcsServer, source: str, as_files: bool, when: str, every: int
) -> None:
    gcs.upload(source, "in")
    run_there(gcs, as_files)
    expected = run_again(gcs, as_files)
    requests = list(gcs.log)
    died = 0
    for number, request in [*enumerate(requests, 1)][::every]:
        gcs.delete_all("out/")
        gcs.log.clear()
        found = gcs.kill_at(number, when)
        arguments = ("gs://bucket/in", "gs://bucket/out", as_files, None, "", gcs.url)
        found.append(faults.start(faults.run, *arguments))
        found[0].join()
        gcs.hook = None
        assert found[0].exitcode in (-signal.SIGKILL, 0), request
        died += found[0].exitcode != 0
        before = commits_there(gcs)
        assert run_there(gcs, as_files) == expected, f"killed {when} {request}"
        assert before.items() <= commits_there(gcs).items(), f"{request}: done again"
    assert died > 0.8 * len(requests) / every  # one looks for a wish to stop by the clock
    assert verify("gs://bucket/out") == []


FAULTS = {
    "refused": Fault(status=503),
    "cut": CUT,
    "stored, answer lost": LOST,
    "stored, answer 503": Fault(status=503, stored=True),
    "answer truncated": Fault(truncate=True),
}


@MANY
@KINDS
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_request_changes_nothing(
    gcs: GcsServer,
    source: str,
    as_files: bool,
    fault: str,
    every: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also the answer to a stored request: the repeated one meets what the first one made."""
    from transforms import gcs_calls

    monkeypatch.setattr(gcs_calls, "_FIRST_WAIT_S", 0.001)
    gcs.upload(source, "in")
    run_there(gcs, as_files)
    expected = run_again(gcs, as_files)
    met, requests = 0, len(gcs.log)
    for number in range(0, requests, every):
        gcs.delete_all("out/")
        gcs.at(number, FAULTS[fault])
        assert run_there(gcs, as_files) == expected, f"request {number}"
        met += gcs.faulty
    assert met > 0.8 * requests / every  # one looks for a wish to stop by the clock


def test_two_runs_at_once_both_end_and_every_shard_is_committed_once(
    source: str, tmp_path: Path
) -> None:
    faults.protocol_run(source, str(tmp_path / "usual"))
    expected = tree(tmp_path / "usual")
    for number in range(3):
        out = tmp_path / f"out{number}"
        both = [faults.start(_run_slowly, source, str(out), "", number, i) for i in range(3)]
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0, 0]
        assert tree(out) == expected
        assert verify(str(out)) == []


def test_two_runs_at_once_on_gs(gcs: GcsServer, source: str) -> None:
    gcs.upload(source, "in")
    expected = run_there(gcs, as_files=False)
    for number in range(3):
        gcs.delete_all("out/")
        arguments = ("gs://bucket/in", "gs://bucket/out", gcs.url, number)
        both = [faults.start(_run_slowly, *arguments, i) for i in range(3)]
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0, 0]
        assert there(gcs) == expected
        assert verify("gs://bucket/out") == []


def _run_slowly(source: str, out: str, url: str, seed: int, which: int) -> None:
    faults.environment(url)
    pause_s = random.Random(f"{seed} {which}").uniform(0.0, 0.02)
    totals = faults.protocol_run(source, out, pause_s=pause_s)
    assert (totals.shards, totals.read, totals.shards_failed) == (2, 6, 0)


class Zombie:
    """An attempt at the first shard that has been stopped, and goes on when it is told to."""

    def __init__(self, source: str, out: str, work: str, as_files: bool) -> None:
        import pyarrow as pa

        from pipeline import run_files
        from transforms.clock import Clock
        from transforms.inputs import plan_input
        from transforms.records import Encoded, Record, Result
        from transforms.sink import Sink

        plan = plan_input(source, 3, out)
        run = run_files.Run("segment", {"input": plan.digest(), "work": work})
        run_files.begin(out, run, plan, overwrite=False)
        self._open = Sink(
            out, "masks", "folder" if as_files else "tfrecord", pa.schema([]), run.digest
        ).open(plan.shards[0], Clock())
        self.writer = self._open.__enter__()
        for file in plan.shards[0].files:
            record = Record(0, file.path, file.path, output_name=file.output_name)
            self.writer.write(record, Result({"masks": Encoded(b"zombie's", "png")}, {}, {}))

    def wake(self) -> Any:
        """Goes on to commit; whether that was refused."""
        try:
            with self._open_ended():
                return self.writer.commit()
        except OSError as error:
            return error

    def _open_ended(self) -> Any:
        from contextlib import ExitStack

        stack = ExitStack()
        stack.push(self._open.__exit__)
        return stack


@KINDS
@pytest.mark.parametrize("place", ["local", "gs"])
@pytest.mark.parametrize("moment", ["overwritten", "overwritten and done", "done"])
def test_a_zombie_changes_nothing(
    gcs: GcsServer, source: str, tmp_path: Path, as_files: bool, place: str, moment: str
) -> None:
    """It belongs to the run, or to one that was overwritten by another configuration."""
    out = "gs://bucket/out" if place == "gs" else str(tmp_path / "out")
    if place == "gs":
        gcs.upload(source, "in")
        source = "gs://bucket/in"
    work = "usual" if moment == "done" else "old"
    if moment == "done":
        faults.protocol_run(source, out, as_files)
        reference = [*storage.list_files(out)]
        (first, *_) = [name for name, _ in reference if name.startswith("metrics/")]
        record = storage.read_bytes(f"{out}/{first}")
        storage.delete(f"{out}/{first}")  # not committed yet, when the zombie looks
        zombie = Zombie(source, out, work, as_files=False)
        assert storage.create_once(out, first, record)
    else:
        zombie = Zombie(source, out, work, as_files)
        if moment == "overwritten and done":
            faults.protocol_run(source, out, as_files, work="new", overwrite=True)
        else:
            _begin_only(source, out)
    answer = zombie.wake()
    if moment == "done":
        assert answer.shard  # the report of the one that was first
    else:
        assert isinstance(answer, OSError) and answer.strerror
    faults.protocol_run(source, out, as_files, work="new" if moment != "done" else "usual")
    assert verify(out) == []
    names = [name for name, _ in storage.list_files(out) if name.startswith("masks/")]
    assert names and all(b"zombie's" not in storage.read_bytes(f"{out}/{n}") for n in names)


def _begin_only(source: str, out: str) -> None:
    from pipeline import run_files
    from transforms.inputs import plan_input

    plan = plan_input(source, 3, out)
    run = run_files.Run("segment", {"input": plan.digest(), "work": "new"})
    run_files.begin(out, run, plan, overwrite=True)


def test_a_full_disk_damages_nothing_and_the_run_goes_on_when_there_is_room(
    photos: str, tmp_path: Path
) -> None:
    """Shards of one large picture each would fit; the second one does not."""
    source = tmp_path / "in"
    source.mkdir()
    sizes = [1, 40, 1]
    pictures = sorted(Path(photos).rglob("*.png"))
    for index, count in enumerate(sizes):
        for number, picture in enumerate(pictures[:count]):
            shutil.copy(picture, source / f"{index}{number:02d}.png")
    said, out = tmp_path / "said", tmp_path / "out"
    arguments = ["pack", "--input", str(source), "--images_per_shard=14", "--output", str(out)]
    process = faults.start(faults.run_command_with_little_room, arguments, 30_000, str(said))
    process.join()
    text = said.read_text()
    assert process.exitcode == 1, text
    assert "Traceback" not in text and "File too large" in text
    assert "NOT COMPLETE" in text or "goes on" in text
    before = committed(out)
    assert not any("missing, the shard" not in problem for problem in verify(str(out)))
    assert cli.main(arguments) == 0
    assert before.items() <= committed(out).items()
    assert cli.main(["pack", *arguments[1:-1], str(tmp_path / "usual")]) == 0
    assert tree_of(out) == tree_of(tmp_path / "usual")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@KINDS
@pytest.mark.parametrize("place", ["local", "gs"])
def test_random_kills(
    gcs: GcsServer, source: str, tmp_path: Path, as_files: bool, place: str
) -> None:
    out = "gs://bucket/out" if place == "gs" else str(tmp_path / "out")
    if place == "gs":
        gcs.upload(source, "in")
        source = "gs://bucket/in"
    faults.protocol_run(source, out, as_files)
    expected = there(gcs) if place == "gs" else tree(Path(out))
    rng = random.Random(6)
    kills = 0
    while kills < 25:  # a hundred with the four kinds of run
        storage.delete_tree(out)
        while True:
            arguments = (source, out, as_files, None, "", gcs.url)
            process = faults.start(faults.run, *arguments)
            process.join(rng.uniform(0.02, 0.4) if kills < 25 else None)
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            process.kill()
            process.join()
            kills += 1
        assert (there(gcs) if place == "gs" else tree(Path(out))) == expected
        assert verify(out) == []
