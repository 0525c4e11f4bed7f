"""Options of a launch: what contradicts what, and what is right on Dataflow otherwise."""

import copy
import os
import re
from collections.abc import Callable
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline import __version__
from pipeline.dataflow import flags
from pipeline.dataflow.accelerators import KNOWN, SERVICE, WITHOUT, Accelerator
from pipeline.dataflow.cost import Estimate, Machine, Prices
from transforms import paths, storage
from transforms.sink import Sink

ONE_PROCESS = "no_use_multiple_sdk_containers"
THREADS = 2  # shards at once: one begins or commits while the other keeps the device busy
DISK_GB = 50  # holds the container, a model, and the files of the shards under way
MOST_WORKERS = 1000
_THREAD_GB = 0.8  # that a shard under way may hold: pictures ahead of the model and behind it
_PROCESS_GB = 2.0  # TensorFlow with a small model
_PATIENCE, _LEAST_MINUTES = 10, 60
_OWN = ("pixelmill-job", "pixelmill-version")


class LaunchOptions(PipelineOptions):
    """pixelmill's own flags, as Beam sees them."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        flags.add_flags(parser)
        parser.add_argument("--plan_only", action="store_true", help="of `pixelmill plan`")


def runner_name(options: PipelineOptions) -> str:
    """The runner that was asked for, in lower case and without its module; "" for none."""
    return str(options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower()


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether a job is launched on Dataflow."""
    return runner_name(options) in ("dataflow", "dataflowrunner")


def is_template(options: PipelineOptions) -> bool:
    """Whether a job is only written down, as for the launcher of a template."""
    return bool(options.view_as(GoogleCloudOptions).template_location)


def waits(options: PipelineOptions) -> bool:
    """Whether the command goes on until the job is done: of a launch on Dataflow only if asked."""
    return options.view_as(LaunchOptions).wait or not is_dataflow(options)


def hints(options: PipelineOptions) -> dict[str, str]:
    """Beam's resource hints for the step that holds the model."""
    launch = options.view_as(LaunchOptions)
    found = {}
    if launch.accelerator:
        found["accelerator"] = str(Accelerator.parse(launch.accelerator))
    if launch.min_ram:
        found["min_ram"] = launch.min_ram
    return found


def accelerator_of(options: PipelineOptions) -> Accelerator | None:
    """The accelerator of workers, by whichever flag."""
    if text := options.view_as(LaunchOptions).accelerator or _service_accelerator(options):
        return Accelerator.parse(text)
    return None


def problems(options: PipelineOptions) -> list[str]:
    """What cannot work, each with its fix; before and after `set_defaults`."""
    rules = _DATAFLOW if is_dataflow(options) else _ELSEWHERE
    return [problem for rule in rules if (problem := rule(options))]


def set_defaults(options: PipelineOptions) -> None:
    """What is right on Dataflow, where nothing else was said.

    One process a worker, so one copy of the model on every device; its threads work on shards.
    """
    worker, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    launch, device = options.view_as(LaunchOptions), accelerator_of(options)
    options.view_as(SetupOptions).save_main_session = False  # all code is in packages
    if worker.machine_type is None and (device or not launch.min_ram):
        worker.machine_type = device.usual_machine if device else WITHOUT
    if worker.disk_size_gb is None:
        worker.disk_size_gb = DISK_GB
    if debug.number_of_worker_harness_threads is None:
        debug.number_of_worker_harness_threads = THREADS
    if device is None or not device.is_shared:
        debug.add_experiment(ONE_PROCESS)


def set_element_timeout(options: PipelineOptions, made: Estimate | None) -> None:
    """Lets a worker give up a shard that hangs: one that takes ten times what was expected, and an
    hour at least. Dataflow then starts its process anew and tries the shard again."""
    worker = options.view_as(WorkerOptions)
    if worker.element_processing_timeout_minutes is None and made is not None:
        minutes = -(-made.shard_s * _PATIENCE // 60)
        worker.element_processing_timeout_minutes = max(_LEAST_MINUTES, int(minutes))


def for_job(options: PipelineOptions, job: str, run: str, shards: int) -> PipelineOptions:
    """A copy for one job: its name, labels, and no more workers than shards keep busy.

    The name is the run's, so that Dataflow refuses a second job on it while one is active.

    Args:
        run: digest of the run and its place.
        shards: that are to be done.
    """
    made = copy.deepcopy(options)
    if not is_dataflow(made):
        return made
    google, worker = made.view_as(GoogleCloudOptions), made.view_as(WorkerOptions)
    google.job_name = google.job_name or f"pixelmill-{job}-{run}"
    own = zip(_OWN, (job, __version__.replace(".", "-")), strict=True)
    google.labels = [*(google.labels or []), *(f"{name}={value}" for name, value in own)]
    if worker.max_num_workers is None:
        worker.max_num_workers = max(most_workers(made, shards), worker.num_workers or 0)
    return made


def shards_to_do(shards: int, committed: int, sink: Sink) -> int:
    """At most; with something to retry any committed shard may have some of it."""
    return shards if sink.retry else shards - committed


def most_workers(options: PipelineOptions, shards: int) -> int:
    """Workers that as many shards keep busy: one a shard for each thread."""
    threads = options.view_as(DebugOptions).number_of_worker_harness_threads or THREADS
    return min(MOST_WORKERS, max(1, -(-shards // threads)))


def machine_of(options: PipelineOptions, prices: Prices) -> Machine | None:
    """The machine type of workers; None when it is left to Dataflow or unknown."""
    name = options.view_as(WorkerOptions).machine_type
    return prices.machine(name) if name else None


def _service_accelerator(options: PipelineOptions) -> str:
    services = options.view_as(GoogleCloudOptions).dataflow_service_options or []
    named = [service.removeprefix(SERVICE) for service in services if service.startswith(SERVICE)]
    return str((named or [""])[0])


def _project(options: PipelineOptions) -> str | None:
    google = options.view_as(GoogleCloudOptions)
    if not google.project:
        return "--project is missing: the id of the project that the job is billed to"
    if not re.fullmatch(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", google.project):
        return (
            f"--project={google.project} is no project id: expected 6 to 30 lower case letters, "
            "digits and hyphens; give the id, not the name or the number"
        )
    return None


def _region(options: PipelineOptions) -> str | None:
    if options.view_as(GoogleCloudOptions).region:
        return None
    return "--region is missing: give that of the buckets, such as --region=us-central1"


def _staging(options: PipelineOptions) -> str | None:
    google = options.view_as(GoogleCloudOptions)
    place = google.staging_location or google.temp_location
    if not place:
        return "--temp_location is missing: a folder for staged code, --temp_location=gs://B/tmp"
    for name in ("temp_location", "staging_location"):
        if (value := getattr(google, name)) and paths.scheme(value) != "gs":
            return f"--{name}={value} is not on gs://, where workers could read it"
    return None


def _streaming(options: PipelineOptions) -> str | None:
    if not options.view_as(StandardOptions).streaming:
        return None
    return "--streaming: pixelmill's jobs are batch jobs; leave it out"


def _flexrs(options: PipelineOptions) -> str | None:
    google, standard = options.view_as(GoogleCloudOptions), options.view_as(StandardOptions)
    launch = options.view_as(LaunchOptions)
    if google.flexrs_goal is None:
        return None
    asked = [f"--{n}" for n in ("accelerator", "min_ram") if getattr(launch, n)]
    asked += ["--resource_hints"] if standard.resource_hints else []
    if not asked:
        return None
    return (
        f"--flexrs_goal and {', '.join(asked)}: FlexRS ignores resource hints; leave out "
        "--flexrs_goal, or the hints and give --machine_type"
    )


def _two_accelerators(options: PipelineOptions) -> str | None:
    if not (_service_accelerator(options) and options.view_as(LaunchOptions).accelerator):
        return None
    return (
        "--accelerator and --dataflow_service_options=worker_accelerator=...: both ask for one, "
        "for the step with the model and for all workers; keep --accelerator"
    )


def _hints_for_all(options: PipelineOptions) -> str | None:
    given = options.view_as(StandardOptions).resource_hints
    for hint in given or ():
        name = str(hint).partition("=")[0]
        if name in ("accelerator", "min_ram", "minRam"):
            flag = "--accelerator" if name == "accelerator" else "--min_ram"
            return (
                f"--resource_hints={hint} is for every step of the job, composites included; give "
                f"{flag}, which is for the one step that holds the model"
            )
    return None


def _sharing(options: PipelineOptions) -> str | None:
    device = accelerator_of(options)
    if device is None or not device.is_shared:
        return None
    if ONE_PROCESS in (options.view_as(DebugOptions).experiments or []):
        return (
            f"use_nvidia_mps shares the GPU among processes, and --experiments={ONE_PROCESS} "
            "leaves one; leave out either (one process with all its threads is pixelmill's way)"
        )
    if device.count != 1:
        return f"use_nvidia_mps with count:{device.count}: it shares one GPU; give count:1"
    return None


def _accelerator(options: PipelineOptions) -> str | None:
    device = accelerator_of(options)
    if device is None:
        return None
    if device.kind not in KNOWN:
        return f"accelerator {device.kind!r} is unknown; expected one of {', '.join(KNOWN)}"
    if device.count < 1:
        return f"accelerator {device}: count must be a number above 0; write type:...;count:1"
    if not device.has_driver:
        return f"accelerator {device} comes without a driver; append ;install-nvidia-driver"
    machine = device.machine or options.view_as(WorkerOptions).machine_type
    if machine and not machine.startswith(device.family):
        return (
            f"--machine_type={machine} cannot hold {device.kind}, which is sold with "
            f"{device.family}... machines; give --machine_type={device.usual_machine}, or leave "
            "it out"
        )
    return None


def _code(options: PipelineOptions) -> str | None:
    setup, worker = options.view_as(SetupOptions), options.view_as(WorkerOptions)
    if setup.setup_file and os.path.basename(setup.setup_file) != "setup.py":
        return f"--setup_file={setup.setup_file}: Beam wants a file of the name setup.py"
    if setup.setup_file and not storage.is_file(setup.setup_file):
        return f"--setup_file={setup.setup_file}: there is no such file"
    if worker.sdk_container_image:
        return None
    if accelerator_of(options):
        return (
            "workers with an accelerator need an image with CUDA, which Beam's own has not; give "
            "--sdk_container_image"
        )
    if setup.setup_file or setup.extra_packages:
        return None
    return (
        "workers would not have pixelmill: give --sdk_container_image=IMAGE with it, or "
        "--setup_file=./setup.py of a checkout"
    )


def _main_session(options: PipelineOptions) -> str | None:
    if not options.view_as(SetupOptions).save_main_session:
        return None
    return "--save_main_session: pixelmill's code is in packages; leave it out"


def _workers(options: PipelineOptions) -> str | None:
    worker = options.view_as(WorkerOptions)
    most = worker.max_num_workers
    if most is not None and worker.num_workers is not None and worker.num_workers > most:
        return (
            f"--num_workers={worker.num_workers} is more than --max_num_workers={most}; raise the "
            "latter"
        )
    return None


def _threads(options: PipelineOptions) -> str | None:
    threads = options.view_as(DebugOptions).number_of_worker_harness_threads
    if threads is None:
        return None
    if threads < 1:
        return f"--number_of_worker_harness_threads={threads}: expected 1 or more"
    machine = machine_of(options, Prices())
    needed_gb = _PROCESS_GB + threads * _THREAD_GB
    if machine is None or needed_gb <= machine.ram_gb:
        return None
    return (
        f"--number_of_worker_harness_threads={threads}: one model serves all threads, each works "
        f"on a shard of its own, and {needed_gb:.0f} GB for them are more than the "
        f"{machine.ram_gb:.0f} GB of {machine.name}; leave it out ({THREADS} keep a model busy)"
    )


def _template(options: PipelineOptions) -> str | None:
    google, debug = options.view_as(GoogleCloudOptions), options.view_as(DebugOptions)
    if google.template_location and debug.dataflow_job_file:
        return "--template_location and --dataflow_job_file exclude each other; keep one"
    return None


def _local_flags(options: PipelineOptions) -> str | None:
    direct, usual = options.view_as(DirectOptions), PipelineOptions([]).view_as(DirectOptions)
    for name in ("direct_num_workers", "direct_running_mode"):
        if getattr(direct, name) != getattr(usual, name):
            return f"--{name} has no effect on Dataflow; give --max_num_workers, or leave it out"
    return None


def _only_elsewhere(options: PipelineOptions) -> str | None:
    if runner_name(options) != "fnapirunner" or not hints(options):
        return None
    asked = " and ".join(f"--{name}" for name in hints(options))
    return f"{asked}: only Dataflow takes it, and the runner is local; leave it out"


_DATAFLOW: tuple[Callable[[PipelineOptions], str | None], ...] = (
    *(_project, _region, _staging, _streaming, _flexrs, _two_accelerators, _hints_for_all),
    *(_sharing, _accelerator, _code, _main_session, _workers, _threads, _template, _local_flags),
)
_ELSEWHERE: tuple[Callable[[PipelineOptions], str | None], ...] = (_only_elsewhere,)
