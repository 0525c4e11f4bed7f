"""`pixelmill evaluate`: predicted masks against labels, or against an earlier run."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from models.devices import device_names
from models.errors import UserError
from pipeline import engine, evaluate_flags, jobs, legends, places, run_files
from pipeline.batches import choose_batch_size
from pipeline.dataflow import options as launch_options
from pipeline.gates import GateError, parse_gate
from pipeline.legends import Legend, read_legend
from transforms import paths, storage
from transforms.decode import DecodePolicy
from transforms.evaluate import EvaluateOperator, ScoreOperator
from transforms.evaluation.encodings import Coding, Encoding
from transforms.evaluation.scoring import COLUMNS, MOST_CLASSES, Scoring
from transforms.feature_names import FeatureNames
from transforms.inputs import Plan, cut, plan_images
from transforms.listing import FOLDER, InputError, list_input
from transforms.partners import MaskSet, pair_name, write_index
from transforms.segment import SegmentOperator
from transforms.sink import Sink
from transforms.staging import local_model


class Masks(NamedTuple):
    """A set of masks that a flag names.

    Attributes:
        plan: its shards.
        run: the run of segment that it is the output of; "" for none.
        confidence_root: folder of confidence maps beside files; "" for none.
    """

    plan: Plan
    run: str = ""
    confidence_root: str = ""


def run_evaluate(flags: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """`pixelmill evaluate`. Returns the exit code; raises UserError."""
    engine.set_logging(flags.verbose)
    options = engine.pipeline_options(beam_flags)
    evaluate_flags.check(flags)
    out = places.check_places(flags)
    if flags.reference:
        run_files.read_metrics(paths.absolute(flags.reference))  # before anything takes time
    job = _model_job(flags, out) if flags.model else _masks_job(flags, out)
    if flags.reference and job.run:  # whose own metrics are compared
        run_files.read_metrics(job.run)
    run = run_files.Run(
        job="evaluate",
        identity={
            **job.identity,
            "classes": len(job.legend.classes),
            "scoring": dataclasses.asdict(job.operator.scoring),
            "max_pixels": flags.max_pixels,
            "bootstrap": flags.bootstrap,
            "worst": flags.worst,
            "reference": paths.absolute(flags.reference) if flags.reference else "",
            "versions": {name: version(name) for name in ("tensorflow", "pillow")},
        },
        notes={
            "devices": device_names() if flags.model else None,
            "input": flags.input or flags.labels or flags.predictions,
            "predictions": flags.predictions,
            "labels": flags.labels,
            "model": flags.model,
            "reference": flags.reference,
            "predictions_run": job.run,
            "fail_if": flags.fail_if,
        },
    )

    def prepare() -> None:
        legends.write_legend(out, job.legend.classes, job.legend.colors)
        if job.prepare is not None:
            job.prepare()

    code = jobs.run_shards(run, job.plan, job.operator, flags, options, prepare=prepare)
    if getattr(flags, "plan", None) or code == 2:  # nothing was run
        return code
    if not launch_options.waits(options):
        if flags.fail_if:
            print("--fail_if is looked at when the job is done: give the same command again")
        return code
    return max(code, say_gates(flags.fail_if, run_files.read_metrics(out)))


def say_gates(conditions: Sequence[str], metrics: dict[str, Any]) -> int:
    """Prints what came of each gate; 1 when one has failed, or names what there is not."""
    code = 0
    for text in conditions:
        gate = parse_gate(text)
        try:
            failed = gate.failed(metrics)
        except GateError as error:
            print(f"  gate     FAILED: {error}")
            code = 1
            continue
        values = ", ".join(f"{name} = {value:.6g}" for name, value in gate.values(metrics).items())
        print(f"  gate     {'FAILED' if failed else 'passed'}: fail if {gate.text}; {values}")
        code |= int(failed)
    return code


class _Job(NamedTuple):
    """What differs between masks and a model."""

    plan: Plan
    operator: EvaluateOperator | ScoreOperator
    legend: Legend
    identity: dict[str, Any]
    run: str = ""
    prepare: Callable[[], None] | None = None


def _masks_job(flags: argparse.Namespace, out: str) -> _Job:
    predictions = _masks(flags.predictions, flags.prediction_suffix, flags.files_per_shard, out)
    labels = None
    if flags.labels:
        labels = _masks(flags.labels, flags.label_suffix, flags.files_per_shard, out)
    legend = _legend(flags, predictions.run)
    names = FeatureNames(flags.prediction_feature, flags.key_feature)
    first = FeatureNames(flags.label_feature, flags.key_feature) if labels else names
    primary = labels or predictions
    jobs.check_first_record(primary.plan, first)
    identity: dict[str, Any] = {
        "input": jobs.input_identity(primary.plan),
        "features": first._asdict(),
        "suffixes": [flags.label_suffix, flags.prediction_suffix],
    }
    partners, prepare = None, None
    if labels is not None:
        jobs.check_first_record(predictions.plan, names)
        partners, prepare = _partners(
            flags, out, predictions, labels.plan, (names, flags.prediction_suffix)
        )
        identity["predictions"] = jobs.input_identity(predictions.plan)
        identity["pair_by"] = "shard" if partners.by_shard else "key"
    operator = EvaluateOperator(
        sink=Sink(out, "masks", format="folder", columns=COLUMNS),
        scoring=_scoring(flags, legend, bool(labels)),
        names=first,
        suffix=flags.label_suffix if labels else flags.prediction_suffix,
        predictions=partners,
        confidence_root="" if labels else predictions.confidence_root,
        max_pixels=flags.max_pixels,
        threads=flags.threads or 0,
    )
    return _Job(primary.plan, operator, legend, identity, predictions.run, prepare)


def _model_job(flags: argparse.Namespace, out: str) -> _Job:
    listing = list_input(flags.input, out, flags.input_format)
    plan = cut(listing, flags.files_per_shard)
    names = FeatureNames(flags.image_feature, flags.key_feature)
    partners, prepare = None, None
    identity: dict[str, Any] = {}
    if flags.labels:
        labels = _masks(flags.labels, flags.label_suffix, flags.files_per_shard, out)
        feature = FeatureNames(flags.label_feature, flags.key_feature)
        jobs.check_first_record(labels.plan, feature)
        partners, prepare = _partners(flags, out, labels, plan, (feature, flags.label_suffix))
        identity["labels"] = jobs.input_identity(labels.plan)
    elif plan.kind == "images":
        plan = plan_images(listing, flags.files_per_shard, pair=True)
        if not plan.masks:
            raise InputError(
                f"no image of {flags.input} has a mask beside it (images/a.jpg and masks/a.png, or "
                "a.jpg and a_mask.png); name the labels by --labels"
            )
    jobs.check_first_record(plan, names)
    info, binding = jobs.bind_model(flags)
    legend = _legend(flags, "", Legend(binding.classes, binding.colors or ()))
    written = jobs.output_format(flags.output_format, plan) if flags.write_masks else FOLDER
    sink = Sink(out, "masks", written, COLUMNS)
    policy = DecodePolicy(flags.max_pixels, flags.alpha)
    segmenting = SegmentOperator(
        model=info.path,
        binding=binding,
        sink=sink,
        batch_size=choose_batch_size(flags, local_model(info.path), binding, out),
        policy=policy,
        fingerprint=info.fingerprint,
        features=names,
        threads=flags.threads or 0,
        batch_timeout_s=flags.batch_timeout_s,
        devices=jobs.device_options(flags),
    )
    operator = ScoreOperator(
        segmenting=segmenting,
        scoring=_scoring(flags, legend, labelled=True),
        labels=partners,
        mask_feature=flags.label_feature,
        write_masks=flags.write_masks,
        sink=sink,
    )
    identity |= {
        "input": jobs.input_identity(plan),
        "model": {"fingerprint": info.fingerprint, **dataclasses.asdict(binding)},
        "batch_size": segmenting.batch_size,
        "decode": dataclasses.asdict(policy),
        "features": names._asdict(),
        "mask_feature": flags.label_feature,
        "write_masks": flags.write_masks,
        "precision": flags.precision,
    }
    if flags.write_masks:
        identity |= jobs.format_identity(sink, plan)
    return _Job(plan, operator, legend, identity, "", prepare)


def _masks(what: str, suffix: str, files_per_shard: int, out: str) -> Masks:
    """The masks that a flag names: of a run, or files, or shards. Raises UserError."""
    root = paths.absolute(what)
    run = ""
    if storage.is_folder(root) and storage.is_file(os.path.join(root, run_files.RUN)):
        found = run_files.read_run(root)
        if found is None or found.job not in ("segment", "pack", "evaluate"):
            raise UserError(f"{what} is a run of {found and found.job}, which writes no masks")
        if found.job == "pack":
            what = os.path.join(root, "images")
        else:
            what, run = os.path.join(root, "masks"), root
    listing = list_input(what, out)
    if suffix and cut(listing).kind == "images":
        kept = tuple(file for file in listing.files if pair_name(file[0], suffix) is not None)
        if not kept:
            raise InputError(
                f"no file of {what} ends with {suffix} before its extension, such as "
                f"{storage.as_text(listing.files[0][0])}"
            )
        listing = dataclasses.replace(listing, files=kept)
    confidence = os.path.join(root, "confidence") if run else ""
    has_confidence = bool(confidence) and storage.is_folder(confidence)
    return Masks(cut(listing, files_per_shard), run, confidence if has_confidence else "")


def _partners(
    flags: argparse.Namespace, out: str, other: Masks, plan: Plan, named: tuple[FeatureNames, str]
) -> tuple[MaskSet, Callable[[], None]]:
    """The other set, and what makes it ready. Raises UserError."""
    names, suffix = named
    ours, theirs = ({shard.name for shard in p.shards} for p in (plan, other.plan))
    both = plan.is_examples and other.plan.is_examples
    by_shard = both and (
        flags.pair_by == "shard" or (flags.pair_by == "auto" and bool(theirs) and theirs <= ours)
    )
    if flags.pair_by == "shard" and not (both and ours & theirs):
        raise UserError(
            "--pair_by=shard: both sets must be shards of the same names, but they are "
            f"{min(ours)} and {min(theirs)}"
        )
    index = (
        os.path.join(out, run_files.PARTNERS_INDEX)
        if other.plan.is_examples and not by_shard
        else ""
    )
    if other.plan.kind == "images":
        _check_names(other.plan, suffix)
    found = MaskSet(
        plan=os.path.join(out, run_files.PARTNERS),
        names=names,
        suffix=suffix,
        by_shard=by_shard,
        index=index,
        confidence_root=other.confidence_root,
    )

    def prepare() -> None:
        storage.write(out, run_files.PARTNERS, other.plan.to_lines().encode())
        if index:
            write_index(out, index, other.plan, names, suffix)

    return found, prepare


def _check_names(plan: Plan, suffix: str) -> None:
    """Raises InputError when two files have one name."""
    owner: dict[str | None, str] = {}
    for shard in plan.shards:
        for file in shard.files:
            name = pair_name(storage.as_text(file.path), suffix)
            other = owner.setdefault(name, file.path)
            if other != file.path:
                raise InputError(
                    f"{other} and {file.path} have one name without extension, and would both be "
                    f"the partner of {name}; leave one out"
                )


def _legend(flags: argparse.Namespace, run: str, of_model: Legend | None = None) -> Legend:
    """Classes by what says them best: flags, the model, the run. Raises UserError."""
    if flags.legend:
        legend = read_legend(flags.legend)
    elif of_model is not None and of_model.classes:
        legend = of_model
    elif run and storage.is_file(os.path.join(run, legends.LEGEND)):
        legend = read_legend(run)
    elif flags.classes:
        legend = Legend(tuple(flags.classes), ())
    else:
        raise UserError(
            "how many classes there are is not known: give --classes=background,road,... or "
            "--legend=FILE"
        )
    if flags.classes and len(flags.classes) != len(legend.classes):
        raise UserError(
            f"--classes names {len(flags.classes)}, but there are {len(legend.classes)} in the "
            "legend; their ids must mean the same"
        )
    if len(legend.classes) > MOST_CLASSES:
        raise UserError(f"{len(legend.classes)} classes; at most {MOST_CLASSES} can be compared")
    names = tuple(flags.classes) if flags.classes else legend.classes
    colors = legend.colors or tuple(legends.default_color(i) for i in range(len(names)))
    wide = legend.ignore_id == 255 and len(names) > 255
    return Legend(names, colors, 65535 if wide else legend.ignore_id)


def _scoring(flags: argparse.Namespace, legend: Legend, labelled: bool) -> Scoring:
    """Raises UserError."""

    def coding(encoding: Encoding, ignored: tuple[int, ...] | None, mapped: Any) -> Coding:
        if ignored is None:
            ignored = (legend.ignore_id,) if encoding == "ids" else ()
        return Coding(
            classes=len(legend.classes),
            encoding=encoding,
            ignore_ids=ignored,
            class_map=evaluate_flags.named_ids(mapped, legend.classes),
            colors=legend.color_codes() if encoding == "rgb" else (),
            divisor=flags.instance_divisor if encoding == "instances" else 0,
        )

    labels = coding(flags.label_encoding, flags.ignore_ids, flags.class_map) if labelled else None
    return Scoring(
        predictions=coding(flags.prediction_encoding, None, flags.prediction_class_map),
        labels=labels,
        absent=flags.absent,
        resize=flags.resize == "nearest",
        boundary_width=flags.boundary,
        panoptic=flags.label_encoding == "instances" and labelled,
        components=not labelled,
    )
