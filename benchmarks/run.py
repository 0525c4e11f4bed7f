"""Runs a command as a process of its own and measures it from outside."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parents[1]
_EVERY_S = 0.05
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


class Measured(NamedTuple):
    """What a process and its children took: seconds, and bytes at most."""

    wall_s: float
    peak_bytes: int


def run(command: list[str], log: Path) -> Measured:
    """Runs a command to its end.

    Args:
        log: gets what it prints.

    Raises:
        RuntimeError: it failed; the end of what it said is in the message.
    """
    environment = os.environ | _QUIET | {"PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
        )
        peak = _Peak(process.pid)
        code = process.wait()
        wall_s = time.monotonic() - start
    if code != 0:
        raise RuntimeError(f"{command} ended with {code}: {log.read_text()[-3000:]}")
    return Measured(wall_s, peak.stop())


class _Peak:
    """The most memory that a process and its descendants held at once, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            total = 0
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    total += process.memory_info().rss - process.memory_info().shared
            except psutil.Error:  # one has ended meanwhile
                continue
            self._bytes = max(self._bytes, total)

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._bytes


def pixelmill(*arguments: str) -> list[str]:
    """The command line of pixelmill."""
    return [sys.executable, "-m", "pipeline.cli", *arguments]


def fresh(path: Path) -> Path:
    """A path where nothing is."""
    shutil.rmtree(path, ignore_errors=True)
    return path
