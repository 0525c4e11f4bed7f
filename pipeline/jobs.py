"""The jobs: from flags to a checked configuration, a pipeline, and an exit code."""

import argparse
import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from models.binding import Binding
from models.card import load_card, own_card
from models.devices import DeviceOptions, configure, device_names
from models.errors import ModelError, UserError
from models.pixel_scores import PixelScores
from models.probe import probe
from models.rules import bind
from models.signatures import ModelInfo, read_model
from pipeline import engine, graph, legends, places, run_files, windows
from pipeline.batches import choose_batch_size
from pipeline.dataflow import options as launch_options
from pipeline.dataflow.plan_text import plan_text
from pipeline.dataflow.preflight import check
from pipeline.progress import Progress, show_progress
from pipeline.summary import summary
from transforms import paths, segment, storage
from transforms.commits import committed_names, committed_totals
from transforms.decode import DecodePolicy
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.inputs import IMAGES, ITEMS, Plan, plan_input
from transforms.listing import AUTO, FOLDER, InputError
from transforms.retry import RETRIES
from transforms.shard_report import Totals
from transforms.shard_work import Operator
from transforms.sink import Sink
from transforms.sources import read_shard
from transforms.staging import local_file, local_model, remote_name


def run_segment(flags: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """`pixelmill segment`. Returns the exit code; raises UserError."""
    engine.set_logging(flags.verbose)
    options = engine.pipeline_options(beam_flags)
    out = places.check_places(flags)
    plan = plan_input(flags.input, flags.files_per_shard, out, flags.input_format)
    names = FeatureNames(flags.image_feature, flags.key_feature)
    check_first_record(plan, names)
    info, binding = bind_model(flags)
    _check_contradictions(flags, plan, binding)
    policy = DecodePolicy(flags.max_pixels, flags.alpha)
    if flags.mask_size == "model" and (side := binding.size_hw or binding.max_side_px):
        policy = dataclasses.replace(policy, draft_px=side if isinstance(side, int) else max(side))
    views = windows.choose_views(flags, binding)
    tiling, tiled = windows.choose_tiling(
        flags, binding, out, lambda: PixelScores(local_model(info.path), binding)
    )
    if len(views) > 1:
        tiled["tta"] = list(flags.tta)
    sink = Sink(out, "masks", output_format(flags.output_format, plan), segment.COLUMNS)
    operator = segment.SegmentOperator(
        model=info.path,
        binding=binding,
        fingerprint=info.fingerprint,
        sink=sink,
        batch_size=choose_batch_size(flags, local_model(info.path), binding, out),
        policy=policy,
        confidence_map=flags.confidence_map,
        mask_at_model_size=flags.mask_size == "model",
        features=names,
        threads=flags.threads or 0,
        batch_timeout_s=flags.batch_timeout_s,
        devices=device_options(flags),
        tiling=tiling,
        views=views,
    )
    run = run_files.Run(
        job="segment",
        identity={
            "input": input_identity(plan),
            "model": {"fingerprint": info.fingerprint, **dataclasses.asdict(binding)},
            "batch_size": operator.batch_size,
            "decode": dataclasses.asdict(policy),
            "confidence_map": operator.confidence_map,
            "mask_size": flags.mask_size,
            "features": operator.features._asdict(),
            # that decide the bytes: half a run by each would be no run
            "precision": flags.precision,
            "versions": {name: version(name) for name in ("tensorflow", "pillow")},
            **tiled,
            **format_identity(sink, plan),
        },
        notes={"model": info.path, "input": flags.input, "devices": device_names()},
    )
    return run_shards(run, plan, operator, flags, options)


def output_format(asked: str, plan: Plan) -> str:
    """The format of the shards that are written: as asked for, or by "auto" the input's."""
    if asked != AUTO:
        return asked
    return {IMAGES: FOLDER, ITEMS: "tfrecord"}.get(plan.kind, plan.kind)


def format_identity(sink: Sink, plan: Plan) -> dict[str, str]:
    """What the identity of a run says of it: nothing where it is the input's."""
    return {} if sink.format == output_format(AUTO, plan) else {"output_format": sink.format}


def bind_model(
    flags: argparse.Namespace, fixed: Mapping[str, Any] | None = None
) -> tuple[ModelInfo, Binding]:
    """Reads, binds and probes the model that flags and card describe.

    Args:
        fixed: fields of the card that the job decides.

    Raises:
        ModelError: it is none that the job can run.
    """
    path = paths.absolute(flags.model)
    staged = local_model(path)
    card = load_card(
        local_file(flags.model_card) if flags.model_card else own_card(staged),
        {
            "signature": flags.signature,
            "tags": flags.tags,
            "input.name": flags.input_name,
            "input.role": flags.input_role,
            "input.range": flags.value_range,
            "input.mean": flags.mean,
            "input.std": flags.std,
            "input.channels": flags.channels,
            "input.layout": flags.input_layout,
            "input.size": flags.image_size,
            "input.fit": flags.fit,
            "input.max_side": flags.max_side,
            "input.multiple_of": flags.multiple_of,
            "output.name": flags.output_name,
            "output.kind": flags.output_kind,
            "output.layout": flags.output_layout,
            "output.range": flags.output_range,
            "output.threshold": flags.threshold,
            "classes": flags.classes,
            **dict(flags.set),
            **(fixed or {}),
        },
    )
    configure(device_options(flags))
    try:
        info = read_model(staged, card.tags)
        binding = probe(info.path, bind(info, card))
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(str(error).replace(staged, path)) from error
    info = dataclasses.replace(info, path=remote_name(info.path, staged, path))
    if info.versions:
        print(f"model: version {info.versions[-1]}, the newest of {', '.join(info.versions)}")
    if flags.xla:
        binding = _with_xla(binding)
    if binding.loader == "v1":
        print("model: a TF1 graph that TensorFlow 2 cannot import, run in a TF1 session instead")
    return info, binding


def device_options(flags: argparse.Namespace) -> DeviceOptions:
    """Settings of the accelerators from flags."""
    return DeviceOptions(flags.precision, flags.device_memory_mb or 0)


def _with_xla(binding: Binding) -> Binding:
    """Raises ModelError for a model whose shapes differ from batch to batch."""
    if binding.loader == "v1" or binding.role != "image":
        raise ModelError("--xla cannot compile a TF1 session or strings; leave it out")
    if binding.takes_picture and binding.size_hw is None:
        raise ModelError(
            "--xla compiles for one shape, and the model takes pictures of any size; "
            "give --image_size, or leave --xla out"
        )
    return dataclasses.replace(binding, xla=True)


def check_first_record(plan: Plan, names: FeatureNames) -> None:
    """Reads one example, for a wrong feature name would fail all of them. Raises UserError."""
    if not plan.is_examples:
        return
    try:
        _, load = next(read_shard(plan.shards[0], names), (None, None))
    except OSError as error:
        raise InputError(f"cannot read {plan.shards[0].root}: {error.strerror}") from error
    if isinstance(load, Failure) and load.reason == "no_image":
        raise InputError(f"{plan.shards[0].root}, first record: {load.message}")


def _check_contradictions(flags: argparse.Namespace, plan: Plan, binding: Binding) -> None:
    """Refuses flags that would have no effect. Raises UserError."""
    usual = FeatureNames()
    given = FeatureNames(flags.image_feature, flags.key_feature)
    for problem, found in (
        (
            "--image_feature and --key_feature name features of tf.Examples, but the input is "
            "image files",
            plan.kind == "images" and given != usual,
        ),
        (
            f"--max_side has no effect: the model takes pictures of {binding.size_hw} only",
            flags.max_side is not None and binding.size_hw is not None,
        ),
        (
            "--confidence_map has no effect: the model answers class ids without a confidence",
            flags.confidence_map and binding.kind == "class_ids",
        ),
        (
            f"--threshold has no effect: the model tells {binding.num_classes} classes apart by "
            "their scores",
            flags.threshold is not None and binding.num_classes > 2,
        ),
    ):
        if found:
            raise UserError(f"{problem}; leave the flag out")


def run_shards(
    run: run_files.Run,
    plan: Plan,
    operator: Operator,
    flags: argparse.Namespace,
    options: Any,
    *,
    prepare: Callable[[], None] | None = None,
) -> int:
    """Runs an operator over a plan; `prepare` is called before any shard. Returns the exit code.

    Of `pixelmill plan` it only says what would be done. A job on Dataflow is looked at like that
    before, and is not waited for unless --wait.
    """
    out = operator.sink.root
    reasons = frozenset(getattr(flags, "retry_failed", None) or ())
    launch = options.view_as(launch_options.LaunchOptions)
    is_remote = launch_options.is_dataflow(options)
    operator = _with_sink(operator, retry=reasons)
    if launch.plan_only or is_remote:
        if not reasons:
            run_files.check_same(out, run, flags.overwrite)
        found = check(
            *(run.job, plan, operator, flags.max_failed_fraction, options),
            overwrite=flags.overwrite,
        )
        if launch.plan_only:
            flags.plan = found  # for the command line to print
            return 0 if found.ok else 2
        print(plan_text(found))
        if not found.ok:
            return 2
        launch_options.set_element_timeout(options, found.estimate)
    if reasons:
        run_files.accept_mended(out, run, plan)
    resumed = run_files.begin(out, run, plan, flags.overwrite)
    run = resumed or run
    operator = _with_sink(operator, run=run.digest)
    binding: Binding | None = getattr(operator, "binding", None)
    if binding is not None and binding.classes:
        legends.write_legend(out, binding.classes, binding.colors)
    planned = {shard.name for shard in plan.shards}
    committed = planned & committed_names(out)
    _say_start(run, plan, out, None if resumed is None else len(committed))
    begin = time.monotonic()
    totals = None
    if planned == committed:
        with contextlib.suppress(UserError):  # of a damaged record: the pipeline names its shard
            totals = committed_totals(out, planned, flags.max_failed_fraction, run.digest)
    if (
        totals is not None
        and totals.shards == len(planned)
        and not _is_more_to_do(totals, operator.sink)
    ):
        run_files.finish(totals, out, flags.max_failed_fraction)
    else:
        if prepare is not None:
            prepare()
        wait = launch_options.waits(options)
        page = process(
            *(plan, operator, flags.max_failed_fraction, options, run.job),
            committed=len(committed),
            wait=wait,
        )
        if not wait:
            print(f"launched: {page}\n`pixelmill status {out}` tells how far it is")
            return 0
    print(summary(out, time.monotonic() - begin))
    return exit_code(out)


def _with_sink(operator: Any, **fields: Any) -> Any:
    return dataclasses.replace(operator, sink=dataclasses.replace(operator.sink, **fields))


def _is_more_to_do(totals: Totals, sink: Sink) -> bool:
    """Whether committed shards are to be touched: retried, or settled after a retry that died."""
    if not sink.retry.isdisjoint(totals.failed_by_reason):
        return True
    left = os.path.join(sink.root, RETRIES)
    return storage.is_folder(left) and next(storage.list_files(left), None) is not None


def process(
    plan: Plan,
    operator: Operator,
    max_failed_fraction: float,
    options: Any,
    job: str,
    *,
    committed: int,
    wait: bool = True,
) -> str:
    """Runs the pipeline, to the end of `run_files.finish` if it is waited for.

    Args:
        committed: how many shards of the plan are.

    Returns:
        Where a job can be seen that is not waited for.
    """
    out = operator.sink.root
    digest = storage.crc32c(f"{out}\0{operator.sink.run}".encode())
    todo = launch_options.shards_to_do(len(plan.shards), committed, operator.sink)
    made = launch_options.for_job(options, job, digest, todo)

    def build(root: Any) -> None:
        graph.build(root, operator, max_failed_fraction, made)

    with show_progress(Progress(out, plan, job)) if wait else contextlib.nullcontext():
        return engine.run_pipeline(build, made, out, wait)


def process_apart(
    run: run_files.Run,
    plan: Plan,
    operator: Any,
    options: Any,
    prepare: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs what another run needs first, below its OUT, resumed like any other.

    Args:
        prepare: called before any shard.

    Returns:
        The metrics; of a run that is complete, unless they say otherwise.
    """
    root = operator.sink.root
    run_files.begin(root, run, plan, overwrite=False)
    if not storage.is_file(os.path.join(root, run_files.SUCCESS)):
        prepare()
        committed = len({shard.name for shard in plan.shards} & committed_names(root))
        marked = _with_sink(operator, run=run.digest)
        process(plan, marked, 1.0, options, run.job, committed=committed)
    return run_files.read_metrics(root)


def exit_code(out: str) -> int:
    """0 for a complete run within its budget, else 1."""
    metrics = run_files.read_metrics(out)
    over = metrics["shards"]["over_budget"] or metrics["records"]["over_budget"]
    return 0 if metrics["complete"] and not over else 1


def _say_start(run: run_files.Run, plan: Plan, out: str, committed: int | None) -> None:
    """Says what is begun, or gone on with where some shards are committed."""
    what = f"{plan.records:,} images in " if plan.records else ""
    shards = "1 shard" if len(plan.shards) == 1 else f"{len(plan.shards):,} shards"
    size = f", {plan.size_bytes / 1e6:,.1f} MB" if plan.size_bytes else ""
    print(f"{run.job}: {what}{shards}{size} -> {out}")
    if committed is not None:
        print(f"resuming: {committed:,} shards are committed already")
    if plan.ignored:
        example = storage.as_text(plan.ignored[0])
        print(f"left out: {len(plan.ignored):,} other files or links, such as {example}")
    sys.stdout.flush()


def input_identity(plan: Plan) -> dict[str, Any]:
    files = sum(max(1, len(shard.files)) for shard in plan.shards)
    return {
        "kind": plan.kind,
        "files": plan.records if plan.kind == "items" else files,
        "shards": len(plan.shards),
        "bytes": plan.size_bytes,
        "digest": plan.digest(),
    }
