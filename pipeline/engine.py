"""Running a Beam pipeline for a person: which runner, which flags, progress, and Ctrl-C."""

import argparse
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.runner import create_runner

from models.errors import UserError
from models.loading import first_line
from pipeline.dataflow import options as launch_options
from pipeline.worker_watch import check_job_service, watch_workers
from transforms import storage
from transforms.live import LIVE, STOP, stop_path

_LOCAL = {"", "direct", "local", "directrunner", "fnapirunner"}
_GRACE_S = 30.0


class FlagError(UserError):
    """A flag is unknown, contradicts another, or asks for what cannot be done."""


class PipelineFailed(Exception):
    """The pipeline broke down; what is committed stays."""


class AtWork(PipelineFailed):
    """Dataflow has an active job of the same name: an earlier launch of the same run."""


class InterruptedRun(Exception):
    """A person stopped the run; what is committed stays."""


def pipeline_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options from the flags that pixelmill does not know.

    Locally the runner is FnApiRunner, also when DirectRunner is asked for: Beam's DirectRunner
    first downloads another runner, without a timeout.

    On Dataflow the options get the defaults that are right there.

    Raises:
        FlagError: Beam does not know a flag either, a value is wrong, flags contradict one another,
            or the runner loses data.
    """
    _check_known(flags)
    options = PipelineOptions(list(flags))
    standard = options.view_as(StandardOptions)
    name = launch_options.runner_name(options)
    if name == "daskrunner":
        raise FlagError(
            "--runner=DaskRunner: Beam's DaskRunner loses data without an error (what finish_bundle"
            " gives, and all branches of a pipeline but the last); use --runner=DirectRunner"
        )
    if name in _LOCAL:
        standard.runner = "FnApiRunner"
    try:
        create_runner(standard.runner)
    except (ValueError, ImportError) as error:
        raise FlagError(f"--runner={standard.runner}: {error}") from error
    workers = options.view_as(DirectOptions).direct_num_workers
    if workers < 0:
        raise FlagError(f"--direct_num_workers={workers}: expected 0 (one a core) or more")
    check_job_service(options)
    if found := launch_options.problems(options):
        raise FlagError("\n  ".join(found))
    if launch_options.is_dataflow(options):
        launch_options.set_defaults(options)
    FileSystems.set_options(options)  # of s3:// and the like, which are looked at before a run
    return options


def _check_known(flags: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    # Beam's own way to know all its flags, PipelineOptions.get_all_options, drops unknown ones
    # with a warning that nobody sees.
    beam_parser = _beam_parser()
    parser.error = beam_parser.error = _raise_flag_error  # type: ignore[method-assign]
    _, unknown = beam_parser.parse_known_args(list(flags))
    if unknown:
        raise FlagError(
            f"unknown: {' '.join(unknown)}; neither pixelmill nor Beam knows it. "
            "`--help` lists pixelmill's flags"
        )


def _beam_parser() -> argparse.ArgumentParser:
    from apache_beam.options.pipeline_options import _BeamArgumentParser

    parser: argparse.ArgumentParser = _BeamArgumentParser(allow_abbrev=False, add_help=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    return parser


def _raise_flag_error(message: str) -> Any:
    raise FlagError(message)


def run_pipeline(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions, out: str, wait: bool = True
) -> str:
    """Builds and runs a pipeline that writes to OUT, and waits for it unless told not to.

    Returns:
        Where the job can be seen, of one that is left to itself; "" after waiting.

    Raises:
        InterruptedRun: Ctrl-C or SIGTERM; workers were asked to stop at their next record.
        AtWork: an earlier launch of the same run has not ended.
        PipelineFailed: anything else went wrong.
    """
    result = None
    with _stop_on_signal(out) as stopped:
        try:
            with watch_workers(options, out):
                pipeline = beam.Pipeline(options=options)
                build(pipeline)
                result = pipeline.run()
                if not wait:
                    return _job_page(result, options)
                result.wait_until_finish()
        except BaseException as error:
            if stopped.is_set():
                raise InterruptedRun from error
            if isinstance(error, Exception):
                state = getattr(result, "state", None)
                ended = f"it ended in state {state}: " if state else ""
                if type(error).__name__ == "DataflowJobAlreadyExistsError":
                    raise AtWork(first_line(error)) from error
                raise PipelineFailed(ended + first_line(error)) from error
            raise
        if stopped.is_set():
            raise InterruptedRun
        if str(result.state) not in ("DONE", "UPDATED"):
            raise PipelineFailed(f"it ended in state {result.state}")
    return ""


def _job_page(result: Any, options: PipelineOptions) -> str:
    google = options.view_as(GoogleCloudOptions)
    if google.template_location:  # the launcher of a template makes the job of it
        return str(google.template_location)
    where = f"{google.region}/{result.job_id()}?project={google.project}"
    return f"https://console.cloud.google.com/dataflow/jobs/{where}"


@contextmanager
def _stop_on_signal(out: str) -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a request to stop; a second one, or half a minute, ends at once.

    Workers in this process see LIVE.stop, those in other processes the stop file.
    """
    LIVE.stop.clear()
    storage.delete(stop_path(out))

    def give_up() -> None:
        os.write(2, b"\npixelmill: interrupted; give the same command again to go on\n")
        os._exit(130)

    def handle(number: int, frame: FrameType | None) -> None:
        if LIVE.stop.is_set():
            give_up()
        LIVE.stop.set()
        # in a thread, for the interrupted code may hold a lock that a request needs
        threading.Thread(
            target=storage.write_unsynced, args=(out, STOP, b""), name="stop", daemon=True
        ).start()
        timer = threading.Timer(_GRACE_S, give_up)
        timer.daemon = True
        timer.start()
        timers.append(timer)

    timers: list[threading.Timer] = []
    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield LIVE.stop
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        LIVE.stop.clear()
        with contextlib.suppress(OSError):  # it would hide what went wrong
            storage.delete(stop_path(out))


def set_logging(verbose: bool) -> None:
    """Warnings only, and none of the libraries' chatter; everything with --verbose."""
    if verbose:
        os.environ["PIXELMILL_VERBOSE"] = "1"
        logging.basicConfig(level=logging.INFO)
        return
    logging.basicConfig(level=logging.ERROR)
    for name in ("apache_beam", "tensorflow", "absl", "urllib3", "google"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
