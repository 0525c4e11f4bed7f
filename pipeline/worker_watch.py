"""Workers that cannot start are an error: without this some engines would wait for them for ever.

Beam's local job service and its FnApiRunner wait without a limit for a worker process that died
while it was importing. Here the first worker leaves a sign in OUT, and when none has come in time,
or a worker process is seen to end, the run ends.
"""

import argparse
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    PortableOptions,
)

from models.errors import UserError
from pipeline.dataflow.options import runner_name
from pipeline.flag_values import seconds
from transforms import storage
from transforms.live import begun_path

_LOOK_EVERY_S = 1.0
_CONNECT_S = 10.0


class WorkersDidNotStart(Exception):
    """No worker began to work, or one of them could not."""


class WatchOptions(PipelineOptions):
    """Known to Beam's parser by being there."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--worker_start_timeout_s",
            type=seconds,
            default=600.0,
            help="in which the first worker of a job service must begin; 0: wait for ever",
        )


def is_watched(options: PipelineOptions) -> bool:
    """Whether the engine starts worker processes, and is none that watches over them itself."""
    runner = runner_name(options)
    if runner == "fnapirunner":
        return bool(options.view_as(DirectOptions).direct_running_mode == "multi_processing")
    return runner in ("portablerunner", "flinkrunner", "sparkrunner", "prismrunner")


def check_job_service(options: PipelineOptions) -> None:
    """Raises UserError when nobody listens at --job_endpoint, for which Beam waits five minutes."""
    endpoint = options.view_as(PortableOptions).job_endpoint
    if runner_name(options) != "portablerunner":
        return
    if not endpoint:
        raise UserError("--runner=PortableRunner needs --job_endpoint=HOST:PORT of a job service")
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"--job_endpoint={endpoint}: no job service answers there ({error}); start one, or "
            "give its HOST:PORT"
        ) from error


@contextmanager
def watch_workers(options: PipelineOptions, out: str) -> Iterator[None]:
    """Ends the block, in the main thread, by WorkersDidNotStart if no worker shows up.

    Args:
        out: where the first worker leaves its sign (see ReadPlan).
    """
    timeout_s = options.view_as(WatchOptions).worker_start_timeout_s
    if not is_watched(options):
        yield
        return
    storage.delete(begun_path(out))
    over, lock, found = threading.Event(), threading.Lock(), [""]
    main = threading.get_ident()

    def end(message: str) -> None:
        with lock:
            if not over.is_set():
                found[0] = message
                signal.pthread_kill(main, signal.SIGUSR1)

    def raise_there(number: int, frame: FrameType | None) -> None:
        if not over.is_set():
            raise WorkersDidNotStart

    def look() -> None:
        begin = time.monotonic()
        while not over.wait(_LOOK_EVERY_S):
            try:
                if storage.is_file(begun_path(out)):
                    return
            except OSError:
                continue  # whoever writes there will say it better
            if 0 < timeout_s < time.monotonic() - begin:
                end(
                    f"no worker has begun within {timeout_s:g} s; see what the engine's log says "
                    "of them (is pixelmill installed where they run, and the `python` of their "
                    "PATH the right one?). --worker_start_timeout_s gives them longer"
                )
                return

    def thread_failed(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_type is RuntimeError and "Worker subprocess exited" in str(
            failure.exc_value
        ):
            end(f"a worker process could not go on: {failure.exc_value}; --verbose tells more")
        else:
            hook(failure)

    hook, threading.excepthook = threading.excepthook, thread_failed
    before = signal.signal(signal.SIGUSR1, raise_there)
    watcher = threading.Thread(target=look, name="worker watch", daemon=True)
    watcher.start()
    try:
        yield
    except BaseException as error:  # Beam may have made another one of it
        if found[0]:
            raise WorkersDidNotStart(found[0]) from error
        raise
    finally:
        with lock:
            over.set()
        watcher.join()
        signal.signal(signal.SIGUSR1, before)
        threading.excepthook = hook
        storage.delete(begun_path(out))
