"""Ten thousand mutated shards and pictures: no crash, no hang, no bound broken, no silent loss."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz
import pytest

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, first: int, count: int) -> dict:
    """Runs cases apart, restarted behind none: the first case without an answer ends the test."""
    progress = tmp_path / "progress"
    process = subprocess.run(
        [sys.executable, fuzz.__file__, str(first), str(count), str(progress)],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # tests/transforms would be taken for ours
    )
    case = progress.read_text().strip() if progress.exists() else "none"
    again = f"`PYTHONPATH=. python tests/fuzz.py {case} 1 ./progress.txt` does it again"
    assert process.returncode == 0, f"case {case} ended with {process.returncode}; {again}: " + (
        (process.stdout + process.stderr)[-3000:] or "killed"
    )
    return json.loads(process.stdout)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 400),
        *(pytest.param(n * 4000, 4000, marks=pytest.mark.slow) for n in range(2)),
    ],
)
def test_mutated_files_have_an_answer(tmp_path, first, count):
    found = run(tmp_path, first, count)
    became = found["became"]
    assert sum(became.values()) == count
    for kind in ("picture ok", "picture corrupt", "mask ok", "shard rest_lost", "shard bad_record"):
        assert became.get(kind, 0) > 0, f"{kind} never came: the test is blunt"
    assert found["grown_mb"] < 300


@pytest.mark.slow
def test_a_case_that_dies_is_named(tmp_path, monkeypatch):
    """The harness itself: a process that is killed, or loses a record, is a failed test."""
    killer = tmp_path / "fuzz.py"
    source = Path(fuzz.__file__).read_text()
    killer.write_text(
        source.replace("became[run(number)]", "number == 7 and os.abort(); became[run(number)]")
    )
    monkeypatch.setattr(fuzz, "__file__", str(killer))
    with pytest.raises(AssertionError, match="case 7 ended with -6"):
        run(tmp_path, 0, 9)
    monkeypatch.setattr(fuzz, "check_shard", None)
    forgetful = source.replace("enumerate(read_shard(", "list(enumerate(read_shard(").replace(
        "len(data)))):", "len(data)))))[:5]:"
    )
    assert forgetful != source
    killer.write_text(forgetful)
    with pytest.raises(AssertionError, match="lost without a word"):
        run(tmp_path, 0, 40)
