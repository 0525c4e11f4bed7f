"""What is known of a launch before it: everything that would cost workers to find out."""

import dataclasses
import os
from typing import Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.transforms import environments

from models.errors import UserError
from models.loading import first_line
from pipeline import graph
from pipeline.dataflow import options as launch_options
from pipeline.dataflow.accelerators import Accelerator
from pipeline.dataflow.cost import Estimate, Machine, Prices, estimate, worker_rate
from pipeline.dataflow.trial import Trial, count_images, run_trial
from transforms import storage
from transforms.commits import committed_names
from transforms.inputs import Plan
from transforms.shard_work import Operator

GRAPH_LIMIT_BYTES = 10 * 10**6  # of a job request, by Dataflow
_TRIAL_IMAGES = 8
_PLACES = ("model", "path", "root")  # fields of settings that say where something lies


@dataclasses.dataclass
class Preflight:
    """What was found. `problems` prevent a launch, `warnings` do not.

    Attributes:
        job, runner, output: what is to be launched, where, and to where.
        problems, warnings: each with its fix.
        inputs: shards, committed ones, files, bytes, images, and whether their number is exact.
        model: where it is, and what came of trying it.
        todo: shards that are to be done, at most.
        graph_bytes: of the job graph.
        options: of workers, as they would be.
        estimate: time and cost; None where nothing can be said.
    """

    job: str
    runner: str
    output: str
    problems: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    todo: int = 0
    graph_bytes: int = 0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    estimate: Estimate | None = None

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {"ok": self.ok, **dataclasses.asdict(self)}
        if self.estimate is not None:
            fields["estimate"]["usd"] = self.estimate.usd
        return fields


def check(
    job: str,
    plan: Plan,
    operator: Operator,
    max_failed_fraction: float,
    options: PipelineOptions,
    *,
    overwrite: bool = False,
) -> Preflight:
    """Looks at all that can be known of a run. Writes and launches nothing.

    Args:
        overwrite: whether the run that is there is deleted first.
        options: of engine.pipeline_options, whose own contradictions it has refused.
    """
    out = operator.sink.root
    found = Preflight(job, str(options.view_as(StandardOptions).runner), out)
    with _noting(found, "output"):
        found.inputs = _inputs(plan, out, overwrite)
    found.todo = launch_options.shards_to_do(
        len(plan.shards), found.inputs.get("committed", 0), operator.sink
    )
    made = launch_options.for_job(options, job, "plan", found.todo)
    found.options = _worker_options(made)
    _check_places(found, plan, operator, made)
    with _noting(found, "graph"):
        found.graph_bytes = _graph_bytes(operator, max_failed_fraction, made)
        _check_graph(found, operator)
    if not found.problems:
        trial = None
        with _noting(found, "trial"):
            trial = run_trial(operator, plan, _TRIAL_IMAGES)
            _note_trial(found, trial, operator)
        if trial is not None and not found.problems:
            _note_estimate(found, trial, plan, operator, made)
    return found


class _noting:  # noqa: N801  # reads as a verb
    """Turns an error of a part into a problem, so that the others are looked at as well."""

    def __init__(self, found: Preflight, part: str) -> None:
        self._found = found
        self._part = part

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, OSError) and error.strerror:
            self._found.problems.append(f"{self._part}: {error.filename}: {error.strerror}")
        elif isinstance(error, Exception):
            text = str(error) if isinstance(error, UserError) else first_line(error)
            self._found.problems.append(f"{self._part}: {text}")
        return isinstance(error, Exception)


def _inputs(plan: Plan, out: str, overwrite: bool) -> dict[str, Any]:
    images, exact = count_images(plan)
    names = {shard.name for shard in plan.shards}
    return {
        "kind": plan.kind,
        "shards": len(plan.shards),
        "committed": 0 if overwrite else len(committed_names(out) & names),
        "bytes": plan.size_bytes,
        "images": images,
        "images_are_exact": exact,
    }


def _worker_options(options: PipelineOptions) -> dict[str, Any]:
    if not launch_options.is_dataflow(options):
        return {}
    google, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    debug, device = options.view_as(DebugOptions), launch_options.accelerator_of(options)
    return {
        "project": google.project,
        "region": google.region,
        "machine_type": worker.machine_type,
        "max_num_workers": worker.max_num_workers,
        "disk_size_gb": worker.disk_size_gb,
        "number_of_worker_harness_threads": debug.number_of_worker_harness_threads,
        "accelerator": str(device) if device else "",
        "min_ram": options.view_as(launch_options.LaunchOptions).min_ram or "",
        "sdk_container_image": worker.sdk_container_image or "",
        "experiments": list(debug.experiments or []),
        "labels": list(google.labels or []),
    }


def _check_places(
    found: Preflight, plan: Plan, operator: Operator, options: PipelineOptions
) -> None:
    """Whether workers on other machines can reach what the job names."""
    if not launch_options.is_dataflow(options):
        return
    image = options.view_as(WorkerOptions).sdk_container_image
    roots = {shard.root for shard in plan.shards if shard.root}
    local = sorted(root for root in roots if not storage.is_remote(root))
    if local:
        found.problems.append(
            f"input: workers cannot read {local[0]} of this machine; copy it to gs:// "
            "(gcloud storage cp -r) and name it there"
        )
    for place in sorted({p for p in _places(operator) if not storage.is_remote(p)}):
        if place == operator.sink.root:
            found.problems.append(f"output: workers cannot write to {place}; give a gs:// folder")
        elif image:
            found.warnings.append(f"model: {place} must lie in the image {image}, at this path")
        else:
            found.problems.append(
                f"model: workers cannot read {place} of this machine; copy it to gs://, or bake it "
                "into --sdk_container_image"
            )


def _places(settings: Any) -> list[str]:
    """Where models and outputs lie, by the settings of an operator and of what is in it."""
    places = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, str) and field.name in _PLACES and value:
            places.append(value)
        elif dataclasses.is_dataclass(value):
            places += _places(value)
    return places


def _graph_bytes(operator: Operator, max_failed_fraction: float, options: PipelineOptions) -> int:
    """Size of the job graph; making it pickles all work. Raises UserError."""
    _check_pickles(operator)
    pipeline = beam.Pipeline(options=options)  # Beam looks at the options, too
    graph.build(pipeline, operator, max_failed_fraction, options)
    nowhere = environments.DockerEnvironment(container_image="none")
    return int(pipeline.to_runner_api(default_environment=nowhere).ByteSize())


def _check_pickles(operator: Operator) -> None:
    for field in dataclasses.fields(operator):
        try:
            pickler.loads(pickler.dumps(getattr(operator, field.name)))
        except Exception as error:  # whatever a stranger's object raises
            raise UserError(
                f"the work cannot be sent to workers: {field.name} of {type(operator).__name__} "
                f"cannot be pickled ({first_line(error)}); make it of plain data, and open files, "
                "locks and models in open()"
            ) from error


def _check_graph(found: Preflight, operator: Operator) -> None:
    if found.graph_bytes <= GRAPH_LIMIT_BYTES:
        return
    sizes = {
        f.name: len(pickler.dumps(getattr(operator, f.name))) for f in dataclasses.fields(operator)
    }
    largest = max(sizes, key=lambda name: sizes[name])
    found.problems.append(
        f"graph: {found.graph_bytes / 1e6:,.1f} MB, and Dataflow takes at most "
        f"{GRAPH_LIMIT_BYTES / 1e6:.0f} MB; {largest} of {type(operator).__name__} has "
        f"{sizes[largest] / 1e6:,.1f} MB: shorten it (a long text or list in the model card?)"
    )


def _note_trial(found: Preflight, trial: Trial, operator: Operator) -> None:
    found.model = {"path": getattr(operator, "model", ""), **dataclasses.asdict(trial)}
    if trial.images == 0:
        found.problems.append("trial: the first shard has no image to try; check --input")
    elif trial.failed == trial.images:
        found.problems.append(
            f"trial: all of the first {trial.images} images failed here, such as {trial.problem}"
        )
    elif trial.failed:
        found.warnings.append(
            f"trial: {trial.failed} of the first {trial.images} images failed, such as "
            f"{trial.problem}"
        )


def _note_estimate(
    found: Preflight, trial: Trial, plan: Plan, operator: Operator, options: PipelineOptions
) -> None:
    if not launch_options.is_dataflow(options):
        return
    launch = options.view_as(launch_options.LaunchOptions)
    with _noting(found, "estimate"):
        prices = Prices(launch.prices) if launch.prices else Prices()
        machine = launch_options.machine_of(options, prices)
        device = launch_options.accelerator_of(options)
        rate = launch.worker_images_per_s
        if rate is None:
            if machine is None:
                found.warnings.append(
                    "estimate: none, for the machine type is unknown; give --machine_type, or "
                    "--worker_images_per_s and --prices"
                )
                return
            rate = worker_rate(trial.codec_s, trial.model_s, os.cpu_count() or 1, machine.vcpus)
            if device:
                found.warnings.append(
                    f"estimate: measured on the CPU here, so {device.kind} will do better; run a "
                    "few shards and give --worker_images_per_s"
                )
        found.estimate = estimate(
            prices,
            images=round(found.inputs["images"] * found.todo / max(1, len(plan.shards))),
            shards=found.todo,
            files=operator.sink.as_files,
            rate=rate,
            workers=options.view_as(WorkerOptions).max_num_workers,
            hour_usd=_hour_usd(prices, machine, device, options),
        )
        _warn(found, found.estimate, prices, options)
        if operator.sink.retry:
            found.warnings.append(
                "estimate: as if all images were done again; of a retry only those that failed are"
            )


def _hour_usd(
    prices: Prices,
    machine: Machine | None,
    device: Accelerator | None,
    options: PipelineOptions,
) -> float | None:
    if machine is None:
        return None
    return prices.worker_hour(
        machine,
        options.view_as(WorkerOptions).disk_size_gb or 0,
        device.kind if device else "",
        device.count if device else 0,
        options.view_as(GoogleCloudOptions).flexrs_goal is not None,
    )


def _warn(found: Preflight, made: Estimate, prices: Prices, options: PipelineOptions) -> None:
    google, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    if made.usd is None:
        found.warnings.append("estimate: a price is missing in the table; give --prices")
    if google.region and google.region != prices.region:
        found.warnings.append(
            f"estimate: prices are of {prices.region}, not of {google.region}; give --prices"
        )
    if made.workers > max(1, found.todo):
        found.warnings.append(
            f"--max_num_workers={made.workers}: only {found.todo:,} shards are to be done, and the "
            "rest of the workers would idle; more, smaller shards would use them"
        )
    if worker.use_public_ips is False and not worker.sdk_container_image:
        found.warnings.append(
            "--no_use_public_ips: workers without a way out cannot install the packages of "
            "--setup_file; give --sdk_container_image"
        )
