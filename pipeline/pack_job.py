"""`pixelmill pack`: pictures of files or shards, with masks and labels, into shards."""

import argparse
import dataclasses
import os
from collections.abc import Sequence

from models.errors import UserError
from pipeline import engine, jobs, pack_input, places, run_files
from pipeline.dataflow import options as launch_options
from transforms import storage
from transforms.decode import DecodePolicy
from transforms.inputs import IMAGES, Plan, safe_stem
from transforms.listing import AUTO
from transforms.pack import COLUMNS, STAGED_COLUMNS, PackOperator
from transforms.picture_files import PictureFormat, check_codec, chosen_format
from transforms.regroup import PICKS, STAGED, GatherOperator, Grouping, plan_groups
from transforms.selection import TRAIN, VALIDATION, Selection, keys_path, write_keys
from transforms.sink import Sink


def run_pack(flags: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """`pixelmill pack`. Returns the exit code; raises UserError."""
    engine.set_logging(flags.verbose)
    options = engine.pipeline_options(beam_flags)
    out = places.check_places(flags)
    found = pack_input.read(flags, out)
    grouping = _grouping(flags, found.plan)
    home = os.path.join(out, STAGED) if grouping else out
    written = "tfrecord" if flags.output_format == AUTO else flags.output_format
    operator = PackOperator(
        sink=Sink(out, "images", written, COLUMNS),
        policy=DecodePolicy(flags.max_pixels),
        masks_expected=found.masks > 0,
        threads=flags.threads or 0,
        names=found.names,
        metadata=flags.metadata,
        format=_format(flags),
        labels=found.labels,
        selection=_selection(flags, found, home, split=grouping is None),
    )
    identity = {
        "input": jobs.input_identity(found.plan),
        "masks": found.masks,
        "max_pixels": operator.policy.max_pixels,
        "metadata": flags.metadata,
        **found.identity,
        **({"format": dataclasses.asdict(operator.format)} if operator.format else {}),
    }
    how = {} if written == "tfrecord" else {"output_format": written}
    notes = {"input": flags.input, **found.notes}

    def prepare() -> None:
        found.stage(home)
        if found.keys is not None:
            write_keys(home, found.keys)

    if grouping is None:
        _refuse_staged(out, flags.overwrite)
        run = run_files.Run("pack", {**identity, **how}, notes)
        selection = operator.selection
        plan = _split(found.plan) if selection and selection.fraction else found.plan
        return jobs.run_shards(run, plan, operator, flags, options, prepare=prepare)
    first = dataclasses.replace(
        operator, sink=Sink(home, "images", "tfrecord", columns=STAGED_COLUMNS)
    )
    run = run_files.Run("pack", identity, notes)
    if options.view_as(launch_options.LaunchOptions).plan_only:
        return jobs.run_shards(run, found.plan, first, flags, options)
    if launch_options.is_template(options):
        raise UserError(
            "--images_per_shard, --shard_mb and --shuffle of shards take two jobs, and a template "
            "launches one and ends; launch from a machine, by `pixelmill ... "
            "--runner=DataflowRunner`"
        )
    if flags.overwrite:
        run_files.clear(out)
        flags.overwrite = False
    last = run_files.Run(
        "pack", {**identity, **how, "grouping": dataclasses.asdict(grouping)}, notes
    )

    def plan_last() -> Plan:
        jobs.process_apart(run, found.plan, first, options, prepare)
        stem = safe_stem(os.path.basename(os.path.dirname(found.plan.shards[0].root)))
        validates = pack_input.validator(flags) if flags.validation_fraction else None
        names = [shard.name for shard in found.plan.shards]
        return Plan(tuple(plan_groups(first.sink, names, stem, grouping, validates)), PICKS)

    plan = _stored_plan(out, last) or plan_last()
    gather = GatherOperator(operator.sink, root=home, threads=flags.threads or 0)
    code = jobs.run_shards(last, plan, gather, flags, options)
    if storage.is_file(os.path.join(out, run_files.SUCCESS)):
        storage.delete_tree(home)
    return code


def _refuse_staged(out: str, overwrite: bool) -> None:
    """Raises RunError when OUT holds the first of two passes, which this run would leave behind."""
    if not overwrite and storage.is_file(os.path.join(out, STAGED, run_files.RUN)):
        raise run_files.RunError(
            f"{out} holds the first pass of another run, which makes new shards. Give its command "
            "again, or choose another --output, or --overwrite to delete it."
        )


def _stored_plan(out: str, run: run_files.Run) -> Plan | None:
    """The plan of the second pass, if it has begun. Raises RunError when OUT is of another run."""
    run_files.check_same(out, run, overwrite=False)
    if run_files.read_run(out) is None or not storage.is_file(os.path.join(out, run_files.PLAN)):
        return None
    return run_files.read_plan(out)


def _grouping(flags: argparse.Namespace, plan: Plan) -> Grouping | None:
    """How shards are made of shards; None where they stay what they are, and for files."""
    if plan.kind == IMAGES:
        return None
    most_bytes = flags.shard_mb and flags.shard_mb * 10**6
    asked = (flags.images_per_shard, most_bytes, flags.shuffle)
    if asked == (None, None, None):
        return None
    if asked[:2] == (None, None):
        raise UserError(
            "--shuffle makes new shards; say how large they are, by --images_per_shard or "
            "--shard_mb"
        )
    return Grouping(*asked)


def _format(flags: argparse.Namespace) -> PictureFormat | None:
    if flags.image_format is None:
        return None
    check_codec(flags.image_format)
    return chosen_format(flags.image_format, flags.quality, source="")


def _selection(
    flags: argparse.Namespace, found: pack_input.Found, home: str, split: bool
) -> Selection | None:
    """Of records of shards: files are chosen already."""
    keys = keys_path(home) if found.keys is not None else ""
    fraction = flags.validation_fraction if split and found.plan.is_examples else None
    if not keys and not fraction:
        return None
    return Selection(keys, fraction or 0.0, flags.split_by or "" if fraction else "")


def _split(plan: Plan) -> Plan:
    """Each shard twice, once for each part."""
    shards = [
        dataclasses.replace(shard, name=f"{part}/{shard.name}")
        for part in (TRAIN, VALIDATION)
        for shard in plan.shards
    ]
    return Plan(tuple(shards), plan.kind, plan.ignored)
