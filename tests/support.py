"""What tests of whole runs share: running the command apart, and comparing two runs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

CLASSES = 5  # of the tiny model
Segment = Callable[..., int]


def run_apart(arguments: Sequence[str], timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def content(out: str | Path, places: bool = True) -> dict[str, str]:
    """What a run promises to be always the same: a digest of every output, clock readings aside.

    Args:
        places: also what tells where the input lies.
    """
    found: dict[str, str] = {}
    root = Path(out)
    for folder in ("masks", "images", "confidence", "features", "rejected", "left_out", "records"):
        for path in sorted(root.glob(f"{folder}/**/*")):
            if path.is_file():
                found[str(path.relative_to(root))] = _digest(path.read_bytes())
    if (root / "reference").exists():
        found |= {
            f"reference/{name}": value
            for name, value in content(root / "reference", places).items()
        }
    for path in [*sorted(root.glob("metrics/**/*.json")), root / "metrics.json"]:
        fields = json.loads(path.read_bytes())
        del fields["clock"]
        if not places:
            fields.pop("run", None)
        found[str(path.relative_to(root))] = _digest(json.dumps(fields).encode())
    plan = [root / "plan.jsonl"] if places else []
    optional = (
        p for name in ("legend.json", "index.npz", "duplicates.csv") for p in root.glob(name)
    )
    for path in (*plan, root / "_SUCCESS", *optional):
        found[path.name] = _digest(path.read_bytes())
    return found


def commits(out: str | Path) -> dict[str, str]:
    """The commit records as they are, clock readings included."""
    root = Path(out)
    return {path.name: _digest(path.read_bytes()) for path in root.glob("metrics/**/*.json")}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def metrics_of(out: str | Path) -> dict[str, Any]:
    """The content of metrics.json of a run."""
    found: dict[str, Any] = json.loads((Path(out) / "metrics.json").read_bytes())
    return found


def real_data(name: str) -> str:
    """A folder of the real data; skips the test where it is absent."""
    root = os.environ.get("PIXELMILL_REAL_DATA")
    if not root:
        pytest.skip("PIXELMILL_REAL_DATA does not name the folder of real images and models")
    return os.path.join(root, name)


def run_measured(arguments: Sequence[str]) -> tuple[int, int]:
    """Runs the command line apart; returns its exit code and its peak memory in bytes."""
    return measured([sys.executable, "-m", "pipeline.cli", *arguments])


def measured(command: Sequence[str]) -> tuple[int, int]:
    """Runs a command; returns its exit code and its peak memory in bytes.

    By a small process between: on Linux a process begins with the peak of the one that starts it,
    and that of a test run may be larger than what is to be measured.
    """
    between = (
        "import os, subprocess, sys\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:], **quiet).pid, 0)\n"
        "print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", between, *command], capture_output=True, text=True, check=True
    )
    code, peak_bytes = map(int, said.stdout.split())
    return code, peak_bytes
