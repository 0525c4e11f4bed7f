"""--retry_failed, broken at every step: the shard is always the old one or the new one, whole."""

import shutil
import signal
from pathlib import Path

import faults
import pyarrow as pa
import pytest
from gcs_server import CUT, LOST, Fault, GcsServer
from support import content

from pipeline.checks import clean, verify
from pipeline.run_files import read_plan
from transforms.commits import read_commit
from transforms.retry import RetryWriter
from transforms.shard_report import ShardReport
from transforms.shard_work import process_shard
from transforms.sink import Sink

# All steps with --slow; else enough of them to see that the test works.
EVERY = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 23])
MANY = pytest.mark.parametrize("every", [pytest.param(3, marks=pytest.mark.slow), 23])
KINDS = pytest.mark.parametrize("as_files", [False, True], ids=["shards", "files"])


@pytest.fixture
def source(tmp_path: Path) -> str:
    return faults.make_source(tmp_path)


def mend(source: str) -> None:
    Path(source, "4.png").write_bytes(b"mended")


def results(out: Path) -> dict[str, str]:
    """All that does not tell with which size the input was first seen, or where it lies."""
    found = content(out, places=False)
    names = (str(path.relative_to(out)) for path in out.rglob("*.*") if path.is_file())
    return found | {name: "" for name in names if not name.startswith("_tmp/")}


def shards(out: str) -> list[ShardReport]:
    found = [read_commit(out, shard.name) for shard in read_plan(out).shards]
    return [report for report in found if report is not None]


def damaged(out: str) -> list[str]:
    """Files that are not what the commit records say."""
    return [line for line in verify(out) if "committed w" in line or "missing; delete" in line]


@pytest.fixture
def before(source: str, tmp_path: Path) -> Path:
    """A run in which 4.png has failed; the file is mended since."""
    out = tmp_path / "before"
    faults.protocol_run(source, str(out), False)
    faults.protocol_run(source, str(tmp_path / "before_files"), True)
    mend(source)
    faults.protocol_run(source, str(tmp_path / "well"), False)
    faults.protocol_run(source, str(tmp_path / "well_files"), True)
    return out


def of_kind(path: Path, as_files: bool) -> Path:
    return path.with_name(f"{path.name}_files") if as_files else path


@KINDS
def test_the_result_is_that_of_a_run_with_all_records_well(
    source: str, before: Path, tmp_path: Path, as_files: bool
) -> None:
    out = of_kind(before, as_files)
    untouched = (out / "metrics/in-00000-of-00002.json").read_bytes()
    totals = faults.protocol_run(source, str(out), as_files, retry=True)
    assert (totals.written, totals.failed) == (6, 0)
    assert results(out) == results(of_kind(tmp_path / "well", as_files))
    assert verify(str(out)) == []
    assert (out / "metrics/in-00000-of-00002.json").read_bytes() == untouched
    after = (out / "metrics/in-00001-of-00002.json").read_bytes()
    faults.protocol_run(source, str(out), as_files)  # the same command goes on as always
    faults.protocol_run(source, str(out), as_files, retry=True)  # nothing is left to retry
    assert (out / "metrics/in-00001-of-00002.json").read_bytes() == after


@EVERY
@KINDS
def test_killed_before_every_step(
    source: str, before: Path, tmp_path: Path, as_files: bool, every: int
) -> None:
    notes, out = tmp_path / "steps", tmp_path / "out"
    shutil.copytree(of_kind(before, as_files), out)
    faults.start(faults.run, source, str(out), as_files, None, str(notes), retry=True).join()
    expected, steps = results(out), notes.read_text().splitlines()
    assert expected == results(of_kind(tmp_path / "well", as_files))
    seen = set()
    for number, step in [*enumerate(steps, 1)][::every]:
        shutil.rmtree(out)
        shutil.copytree(of_kind(before, as_files), out)
        process = faults.start(faults.run, source, str(out), as_files, number, retry=True)
        process.join()
        assert process.exitcode == -signal.SIGKILL, step
        assert damaged(str(out)) == [], f"killed before {step}"
        left = shards(str(out))[1]
        clean(str(out))  # takes nothing that somebody could need
        assert damaged(str(out)) == [], f"killed before {step}, cleaned"
        plain = tmp_path / "plain"
        shutil.copytree(out, plain)
        if left.failed == 0:  # committed: any run puts the files where they belong
            faults.protocol_run(source, str(plain), as_files)
            clean(str(plain))
            assert results(plain) == expected, f"killed before {step}"
        shutil.rmtree(plain)
        seen.add((left.failed, left.files[0].path.partition("/")[0]))
        faults.protocol_run(source, str(out), as_files, retry=True)
        clean(str(out))
        assert results(out) == expected, f"killed before {step}"
        assert verify(str(out)) == []
    if every == 1:
        assert seen == {(1, "masks"), (0, "retries"), (0, "masks")} or as_files


@EVERY
@KINDS
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_request_on_gs(
    gcs: GcsServer, source: str, before: Path, tmp_path: Path, as_files: bool, when: str, every: int
) -> None:
    expected = start_there(gcs, source, tmp_path, as_files)
    gcs.log.clear()
    faults.protocol_run(*there(as_files), retry=True)
    requests = list(gcs.log)
    for number, request in [*enumerate(requests, 1)][::every]:
        start_there(gcs, source, tmp_path, as_files)
        gcs.log.clear()
        found = gcs.kill_at(number, when)
        found.append(faults.start(faults.run, *there(as_files), url=gcs.url, retry=True))
        found[0].join()
        gcs.hook = None
        assert damaged("gs://bucket/out") == [], f"killed {when} {request}"
        faults.protocol_run(*there(as_files), retry=True)
        clean("gs://bucket/out")
        assert downloaded(gcs, tmp_path) == expected, f"killed {when} {request}"
        assert verify("gs://bucket/out") == []


@MANY
@pytest.mark.parametrize("fault", [CUT, LOST, Fault(status=503, stored=True)])
def test_a_fault_at_any_request_on_gs(
    gcs: GcsServer,
    source: str,
    before: Path,
    tmp_path: Path,
    fault: Fault,
    every: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to a stored exchange is lost: the repeated one meets its own work."""
    from transforms import gcs_calls

    monkeypatch.setattr(gcs_calls, "_FIRST_WAIT_S", 0.001)
    expected = start_there(gcs, source, tmp_path, False)
    gcs.log.clear()
    faults.protocol_run(*there(False), retry=True)
    for number in range(0, len(gcs.log), every):
        gcs.faults.clear()
        start_there(gcs, source, tmp_path, False)
        gcs.at(number, fault)
        faults.protocol_run(*there(False), retry=True)
        gcs.faults.clear()
        assert downloaded(gcs, tmp_path) == expected, f"request {number}"
        assert verify("gs://bucket/out") == []


def there(as_files: bool) -> tuple[str, str, bool]:
    return "gs://bucket/in", "gs://bucket/out", as_files


def start_there(gcs: GcsServer, source: str, tmp_path: Path, as_files: bool) -> dict[str, str]:
    """The run with the failure in the bucket, and the mended input; what is to come of it."""
    gcs.reset()
    gcs.upload(source, "in")
    gcs.put("in/4.png", b"bad")
    faults.protocol_run(*there(as_files))
    gcs.upload(source, "in")
    return results(of_kind(tmp_path / "well", as_files))


def downloaded(gcs: GcsServer, tmp_path: Path) -> dict[str, str]:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    gcs.download("out", copy)
    return results(copy)


@KINDS
@pytest.mark.parametrize("place", ["local", "gs"])
def test_two_at_once(
    gcs: GcsServer, source: str, before: Path, tmp_path: Path, as_files: bool, place: str
) -> None:
    expected = start_there(gcs, source, tmp_path, as_files)
    out = str(of_kind(before, as_files))
    arguments = (source, out, as_files) if place == "local" else there(as_files)
    for _ in range(2):
        both = [
            faults.start(faults.run, *arguments, url=gcs.url, retry=True, pause_s=0.02)
            for _ in range(2)
        ]
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
    assert verify(arguments[1]) == [] or clean(arguments[1])
    assert verify(arguments[1]) == []
    assert expected == (downloaded(gcs, tmp_path) if place == "gs" else results(Path(out)))


@KINDS
def test_a_zombie_of_a_retry_can_do_nothing(
    source: str, before: Path, as_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the file as it was half mended, and comes to commit after another retry."""
    out = str(of_kind(before, as_files))
    usual = RetryWriter.commit
    met = []

    def late(zombie: RetryWriter) -> ShardReport:
        monkeypatch.setattr(RetryWriter, "commit", usual)
        mend(source)
        faults.protocol_run(source, out, as_files, retry=True)
        clean(out)
        met.append(results(Path(out)))
        return usual(zombie)

    monkeypatch.setattr(RetryWriter, "commit", late)
    Path(source, "4.png").write_bytes(b"mended, but otherwise")
    faults.protocol_run(source, out, as_files, retry=True)
    assert results(Path(out)) == met[0] == results(of_kind(before.with_name("well"), as_files))
    assert verify(out) == []


def test_what_fails_again_leaves_the_shard_as_it_is(source: str, before: Path) -> None:
    Path(source, "4.png").write_bytes(b"bad")
    old = {p: p.read_bytes() for p in before.glob("m*/*.*")}
    totals = faults.protocol_run(source, str(before), retry=True)
    assert totals.failed_by_reason == {"truncated": 1}
    assert {p: p.read_bytes() for p in before.glob("m*/*.*")} == old
    assert not (before / "retries").exists()


def test_other_reasons_are_left_alone(source: str, before: Path) -> None:
    plan = read_plan(str(before))
    old = read_commit(str(before), plan.shards[1].name)
    sink = Sink(str(before), "masks", "tfrecord", pa.schema([]), "", frozenset(["timeout"]))
    assert process_shard(plan.shards[1], pytest.fail, sink) == old  # no work is asked for
