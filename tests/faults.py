"""Breaking things at chosen points: processes that are killed at a step, and that have no room.

A run here is a whole run of two shards without Beam and TensorFlow's model: it takes the very steps
of the commit protocol, and little else. It happens in a process of its own, forked from one whose
imports are done, so that hundreds of kills take seconds.
"""

import hashlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

_SPAWN = multiprocessing.get_context("forkserver")
_PRELOAD = ["pipeline.run_files", "pipeline.report", "transforms.sink", "transforms.storage_gcs"]

# What a local file system is changed by. Each call is a step before which a process may die.
PRIMITIVES = ("link", "replace", "unlink", "mkdir", "rmdir", "fsync")
_FREEING = ("unlink", "rmdir")  # need no room


def start(target: Callable[..., None], *arguments: Any, **named: Any) -> BaseProcess:
    """Runs a function in a new process whose imports are done."""
    _SPAWN.set_forkserver_preload(_PRELOAD)
    process = _SPAWN.Process(target=target, args=arguments, kwargs=named)
    process.start()
    return process


def environment(url: str) -> None:
    """What a new process must be told: the fork server has the environment of its first user."""
    if url:
        os.environ["STORAGE_EMULATOR_HOST"] = url


def run(
    source: str,
    out: str,
    as_files: bool = False,
    kill_at: int | None = None,
    notes: str = "",
    url: str = "",
    error: int = 0,
    **settings: Any,
) -> None:
    """The run.

    Args:
        kill_at: number of the step before which the process dies; None to live.
        error: an errno; from that step on all steps fail with it, and the process lives.
        notes: a file for the names of all steps, one a line.
        url: of the storage server.
        settings: see protocol_run.
    """
    environment(url)
    if notes or kill_at is not None:
        _watch(kill_at, notes, error)
    protocol_run(source, out, as_files, **settings)


def protocol_run(
    source: str,
    out: str,
    as_files: bool = False,
    *,
    work: str = "usual",
    overwrite: bool = False,
    retry: bool = False,
    pause_s: float = 0.0,
) -> Any:
    """begin, process each shard, finish: as pipeline/jobs.py and Beam do it, in one thread.

    Args:
        work: part of the configuration that decides the bytes.
        retry: what failed in committed shards.
        pause_s: before each record.
    """
    import pyarrow as pa

    from pipeline import legends, run_files
    from transforms.failures import Failure
    from transforms.inputs import plan_input
    from transforms.records import Encoded, Result
    from transforms.shard_report import Totals
    from transforms.shard_work import process_shard
    from transforms.sink import Sink
    from transforms.sources import read_shard

    plan = plan_input(source, 3, out)
    made = run_files.Run("segment", {"input": plan.digest(), "work": work})
    if retry:
        run_files.accept_mended(out, made, plan)
    made = run_files.begin(out, made, plan, overwrite) or made
    legends.write_legend(out, ["a", "b"], [])
    reasons = frozenset(["truncated"]) if retry else frozenset()
    sink = Sink(
        out, "masks", "folder" if as_files else "tfrecord", pa.schema([]), made.digest, reasons
    )

    def do(shard: Any, clock: Any) -> Any:
        for record, load in read_shard(shard):
            time.sleep(pause_s)
            data = b"" if isinstance(load, Failure) else load()
            if isinstance(load, Failure):
                yield record, load
            elif data == b"bad":
                yield record, Failure("decode", "truncated", "made to fail")
            else:
                mask = hashlib.sha256(work.encode() + data).digest() * (1 + len(data) // 32)
                yield record, Result({"masks": Encoded(mask, "png")}, {}, {"pixels": len(data)})

    totals = Totals()
    for shard in plan.shards:
        totals = totals.merge(Totals.of(process_shard(shard, lambda: do, sink), 1.0))
    with (
        mock.patch("pipeline.report.load", lambda _: None),
        mock.patch("pipeline.report.render", lambda _: "no picture here, it takes long"),
    ):
        return run_files.finish(totals, out)


def make_source(folder: Path) -> str:
    """Six small files in two shards of three; one is bad."""
    for index in range(6):
        path = folder / f"in/{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"bad" if index == 4 else f"{index}".encode() * (10 + index))
    return str(folder / "in")


def _watch(kill_at: int | None, notes: str, error: int) -> None:
    """Counts steps, and dies before one; what was just written is then torn, as by a power loss."""
    count = 0

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if notes:
                with open(notes, "a") as file:
                    file.write(f"{name} {args[0]}\n")
            if error and kill_at is not None and count >= kill_at and name not in _FREEING:
                raise OSError(error, os.strerror(error), str(args[0]))
            if count == kill_at and not error:
                if name == "fsync" and os.path.isfile(f"/proc/self/fd/{args[0]}"):
                    path = os.readlink(f"/proc/self/fd/{args[0]}")
                    if "/_tmp/" in path:  # not yet durable
                        os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return step

    for name in PRIMITIVES:
        setattr(os, name, watched(name, getattr(os, name)))


def run_command(arguments: list[str], url: str) -> None:
    """The command, in a process that may be killed."""
    environment(url)
    from pipeline import cli

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    os._exit(cli.main(arguments))


def run_command_with_little_room(arguments: list[str], limit_bytes: int, said: str) -> None:
    """The command, in a process that may write no file beyond a size: its disk is full there."""
    from pipeline import cli

    file = os.open(said, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing raises OSError
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    code = cli.main(arguments)
    os._exit(code)
