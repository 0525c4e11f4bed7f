"""`verify` finds what is missing, cut, swapped, stale and foreign; `status` tells how far it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Segment

from pipeline import cli
from pipeline.checks import status, verify
from pipeline.run_files import RunError
from transforms import storage


@pytest.fixture(scope="module")
def finished(packed: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    arguments = ["--input", packed, "--output", str(out), "--model", tiny_model]
    assert cli.main(["segment", *arguments]) == 0
    return out


def first(out: Path, folder: str) -> Path:
    return sorted((out / folder).iterdir())[0]


def cut(out: Path) -> None:
    path = first(out, "masks")
    path.write_bytes(path.read_bytes()[:-1])


def flip(out: Path) -> None:
    path = first(out, "records")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def swap(out: Path) -> None:
    one, two = sorted((out / "masks").iterdir())[:2]
    one.rename(out / "masks" / "x")
    two.rename(one)
    (out / "masks" / "x").rename(two)


def swap_commits(out: Path) -> None:
    one, two = sorted((out / "metrics").iterdir())[:2]
    two.write_bytes(one.read_bytes())


def wrong_counts(out: Path) -> None:
    path = first(out, "metrics")
    fields = json.loads(path.read_bytes())
    fields["read"] += 1
    path.write_text(json.dumps(fields))


def make_stale(out: Path) -> None:
    path = sorted((out / "metrics").iterdir())[1]
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps(fields | {"run": "0123456789abcdef"}))


def leave_over(out: Path) -> Path:
    path = first(out, "masks").with_suffix(".png")
    path.write_text("of an attempt that died")
    return path


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing mask file": (lambda out: first(out, "masks").unlink(), "missing"),
    "a missing commit record": (lambda out: first(out, "metrics").unlink(), "is not committed"),
    "a cut file": (cut, "bytes, committed were"),
    "a flipped bit": (flip, "crc32c"),
    "two swapped files": (swap, "committed w"),
    "a commit record of another shard": (swap_commits, "is the commit record of"),
    "counts that do not add up": (wrong_counts, "is not written"),
    "a damaged commit record": (lambda out: first(out, "metrics").write_text("{"), "delete it"),
    "a foreign mask": (lambda out: (out / "masks" / "x.png").write_text("x"), "belongs to no"),
    "a foreign file": (lambda out: (out / "notes.txt").write_text("x"), "belongs to no"),
    "a stale commit record": (make_stale, "stale, of a run that was overwritten"),
    "a leftover of a committed shard": (leave_over, "left over, it belongs to no committed"),
    "no _SUCCESS": (lambda out: (out / "_SUCCESS").unlink(), "_SUCCESS is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds(finished: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    assert verify(str(out)) == []
    spoil, message = DAMAGES[damage]
    spoil(out)
    problems = verify(str(out))
    assert any(message in problem for problem in problems), problems
    assert cli.main(["verify", str(out)]) == 1


def test_clean_deletes_leftovers_and_nothing_that_may_be_needed(
    finished: Path, packed: str, segment: Segment, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    left = leave_over(out)
    make_stale(out)
    first(out, "metrics").with_name("x").write_text("foreign")
    uncommitted = sorted((out / "metrics").glob("*.json"))[2]
    uncommitted.unlink()
    kept = {str(path) for path in out.rglob("*")}
    dead = storage.temporary_path(str(out), "dead")
    storage.open_new(dead).close()
    with storage.open_new(storage.temporary_path(str(out), "living")) as living:
        assert cli.main(["verify", str(out), "--clean"]) == 1
        assert Path(living.name).exists() and not Path(dead).exists()
    gone = kept - {str(path) for path in out.rglob("*")}
    assert gone == {
        str(left),
        str(sorted(finished.glob("metrics/*.json"))[1]).replace(str(finished), str(out)),
    }
    assert cli.main(["verify", str(out)]) == 1
    (out / "metrics" / "x").unlink()
    assert segment(packed, out) == 0
    assert cli.main(["verify", str(out)]) == 0


def test_a_stale_commit_record_is_made_anew_by_the_next_run(
    finished: Path, packed: str, segment: Segment, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    make_stale(out)
    assert "5 of 6 committed" in status(str(out))
    assert segment(packed, out) == 0
    assert verify(str(out)) == []


def test_a_run_mends_a_shard_whose_commit_record_was_deleted(
    finished: Path, packed: str, segment: Segment, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    cut(out)
    first(out, "metrics").unlink()
    assert segment(packed, out) == 0
    assert verify(str(out)) == []


def test_status(finished: Path, tmp_path: Path) -> None:
    assert "complete" in status(str(finished))
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "_SUCCESS").unlink()
    first(out, "metrics").unlink()
    text = status(str(out))
    assert "not complete" in text
    assert "5 of 6 committed" in text
    assert "50 read = 50 written + 0 failed" in text


@pytest.mark.parametrize("check", [status, verify])
def test_a_folder_that_is_no_run(tmp_path: Path, check: Callable[[str], object]) -> None:
    with pytest.raises(RunError, match="not a run of pixelmill"):
        check(str(tmp_path))
