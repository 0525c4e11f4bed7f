"""Killed at any moment and started again, a run ends as one that was never killed."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import Segment, commits, content

from models import segmenter
from pipeline import cli

_SPAWN = multiprocessing.get_context("forkserver")


def _run(arguments: list[str]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    call = segmenter.Segmenter.__call__

    def slowly(self: segmenter.Segmenter, images: list[Any]) -> list[Any]:
        time.sleep(0.1)  # so that work, not starting up, fills the time in which kills fall
        return call(self, images)

    segmenter.Segmenter.__call__ = slowly  # type: ignore[method-assign]
    sys.exit(cli.main(arguments))


def _start(arguments: list[str]) -> multiprocessing.process.BaseProcess:
    """Starts the command in a process whose imports are done, so that kills hit the work."""
    _SPAWN.set_forkserver_preload(["tensorflow", "tfx_bsl.coders.example_coder", "pipeline.jobs"])
    process = _SPAWN.Process(target=_run, args=(arguments,))
    process.start()
    return process


def _wait_for_a_commit(out: Path, process: multiprocessing.process.BaseProcess) -> None:
    before = len(commits(out))
    while process.is_alive() and len(commits(out)) == before:
        time.sleep(0.01)


def _kill_and_compare(
    arguments: list[str], tmp_path: Path, kills: int, expected: dict[str, str]
) -> None:
    """Runs with kills at random moments, run after run into new folders, until all are spent."""
    for name in ("warm", "timed"):  # the first one waits for the imports
        begin = time.monotonic()
        process = _start([*arguments, "--output", str(tmp_path / name)])
        process.join()
        assert process.exitcode == 0
        usual_s = time.monotonic() - begin
    rng = random.Random(2026)
    landed = halfway = runs = 0
    while landed < kills:
        out = tmp_path / f"run{runs}"
        runs += 1
        assert runs < 3 * kills, "runs end before they can be killed"
        while True:
            before = commits(out)
            process = _start([*arguments, "--output", str(out)])
            if landed < kills and landed % 2 == 0:
                _wait_for_a_commit(out, process)  # then kill at once: between two commits
            else:
                process.join(rng.uniform(0.1, 1.0) * usual_s if landed < kills else None)
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            process.kill()
            process.join()
            landed += 1
            after = commits(out)
            halfway += 0 < len(after) < 6
            assert before.items() <= after.items(), "a committed shard was touched"
        assert before.items() <= commits(out).items()
        assert content(out) == expected
        assert not (out / "_tmp").exists(), "leftovers of dead attempts stay"
        assert cli.main(["verify", str(out)]) == 0
    assert halfway, "no kill fell between two commits"


def _arguments(packed: str, tiny_model: str) -> list[str]:
    return ["segment", "--input", packed, "--model", tiny_model, "--confidence_map"]


def test_three_kills(packed: str, tiny_model: str, segment: Segment, tmp_path: Path) -> None:
    assert segment(packed, tmp_path / "usual", "--confidence_map") == 0
    expected = content(tmp_path / "usual")
    _kill_and_compare(_arguments(packed, tiny_model), tmp_path, 3, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["shards", "files"])
def test_four_kills(
    packed: str, photos: str, tiny_model: str, segment: Segment, tmp_path: Path, kind: str
) -> None:
    source = packed if kind == "shards" else photos
    more = ["--files_per_shard=10", "--confidence_map"]
    assert segment(source, tmp_path / "usual", *more) == 0
    expected = content(tmp_path / "usual")
    arguments = [*_arguments(source, tiny_model), "--files_per_shard=10"]
    _kill_and_compare(arguments, tmp_path, 4, expected)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_interrupt_stops_cleanly_and_resumes(
    packed: str, tiny_model: str, segment: Segment, tmp_path: Path, number: int
) -> None:
    assert segment(packed, tmp_path / "usual") == 0
    slow = tmp_path / "slow.py"  # the command with a model that takes its time for each batch
    slow.write_text(
        "import sys, time\n"
        "from models import segmenter\n"
        "call = segmenter.Segmenter.__call__\n"
        "def slow(self, images):\n"
        "    time.sleep(0.3)\n"
        "    return call(self, images)\n"
        "segmenter.Segmenter.__call__ = slow\n"
        "from pipeline import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    arguments = ["segment", "--input", packed, "--output", str(out), "--model", tiny_model]
    process = subprocess.Popen(
        [sys.executable, str(slow), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    deadline = time.monotonic() + 120
    while not commits(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert time.monotonic() - asked < 25, "it was the emergency exit"
    assert "interrupted; give the same command again" in errors
    assert "Traceback" not in errors
    done = commits(out)
    assert 0 < len(done) < 6
    assert segment(packed, out) == 0
    assert done.items() <= commits(out).items()
    assert content(out) == content(tmp_path / "usual")


def test_commit_records_name_their_process(packed: str, segment: Segment, tmp_path: Path) -> None:
    assert segment(packed, tmp_path) == 0
    report = json.loads(next((tmp_path / "metrics").iterdir()).read_bytes())
    assert report["clock"]["process"].endswith(f":{os.getpid()}")
