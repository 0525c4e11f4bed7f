"""`pixelmill generate`: pictures by a SavedModel, from noise and labels or from pictures."""

import argparse
import dataclasses
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from models.binding import Binding
from models.devices import device_names
from models.errors import UserError
from models.generator import MadeScores
from models.signatures import ModelInfo
from pipeline import engine, jobs, places, run_files, verification, windows
from pipeline.batches import choose_batch_size
from transforms import generate, translate
from transforms.decode import DecodePolicy
from transforms.feature_names import FeatureNames
from transforms.inputs import Plan, plan_input
from transforms.items import class_counts, even_counts, plan_items
from transforms.picture_files import CHANGED, MADE, check_codec, chosen_format
from transforms.sink import Sink
from transforms.staging import local_model


def run_generate(flags: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """`pixelmill generate`. Returns the exit code; raises UserError."""
    engine.set_logging(flags.verbose)
    options = engine.pipeline_options(beam_flags)
    out = places.check_places(flags)
    wanted = [name for name in ("count", "per_class") if getattr(flags, name) is not None]
    if bool(flags.input) + len(wanted) != 1:
        raise UserError(
            "say what to make: --count=1000, or --per_class=100, or --input=PICTURES for a model "
            f"that makes pictures of pictures; got {' and '.join(wanted) or 'none or several'}"
        )
    names = FeatureNames(flags.image_feature, flags.key_feature)
    plan = None
    if flags.input:
        plan = plan_input(flags.input, flags.images_per_shard, out, flags.input_format)
        jobs.check_first_record(plan, names)
    info, binding = jobs.bind_model(flags, {"output.kind": "image"})
    if binding.takes_picture != (plan is not None):
        raise UserError(_wrong_source(info, binding))
    checks, looked = verification.bind_checks(
        flags, binding.labels, binding.classes, redraws=plan is None
    )
    reference = verification.plan_reference(flags, out)
    identity: dict[str, Any] = {
        "model": {"fingerprint": info.fingerprint, **dataclasses.asdict(binding)},
        "batch_size": choose_batch_size(flags, local_model(info.path), binding, out),
        "precision": flags.precision,
        "versions": {name: version(name) for name in ("tensorflow", "pillow")},
    }
    batch_size, policy = identity["batch_size"], DecodePolicy(flags.max_pixels, flags.alpha)
    masks = dataclasses.replace(policy, ids=binding.takes_mask)
    check_codec(flags.image_format)
    how = chosen_format(flags.image_format, flags.quality, CHANGED if plan else MADE)
    identity["format"] = dataclasses.asdict(how)
    tiling, tiled = windows.choose_tiling(
        flags, binding, out, lambda: MadeScores(local_model(info.path), binding)
    )
    identity |= tiled
    if tiling is not None and (checks.looks or binding.takes_mask or plan is None):
        raise UserError(
            "--tile_px is for pictures of pictures, without --verifier and --feature_model; "
            "leave it or them out"
        )
    if plan is not None:
        written = jobs.output_format(flags.output_format, plan)
        operator: generate.GenerateOperator | translate.TranslateOperator = (
            translate.TranslateOperator(
                model=info.path,
                binding=binding,
                sink=Sink(out, "images", written, translate.COLUMNS),
                batch_size=batch_size,
                fingerprint=info.fingerprint,
                policy=masks,
                features=names,
                format=how,
                threads=flags.threads or 0,
                batch_timeout_s=flags.batch_timeout_s,
                devices=jobs.device_options(flags),
                checks=checks,
                tiling=tiling,
            )
        )
        identity |= {"decode": dataclasses.asdict(masks), "features": names._asdict()}
        identity |= jobs.format_identity(operator.sink, plan)
    else:
        plan = plan_generation(flags, binding)
        written = jobs.output_format(flags.output_format, plan)
        operator = generate.GenerateOperator(
            model=info.path,
            binding=binding,
            sink=Sink(out, "images", written, generate.COLUMNS),
            batch_size=batch_size,
            seed=flags.seed,
            fingerprint=info.fingerprint,
            format=how,
            threads=flags.threads or 0,
            batch_timeout_s=flags.batch_timeout_s,
            devices=jobs.device_options(flags),
            checks=checks,
        )
        identity |= {"seed": flags.seed, "output_format": written}
    identity["checks"] = looked
    classes = binding.classes or (checks.verifier.binding.classes if checks.verifier else ())
    if reference is not None:
        identity["reference"] = jobs.input_identity(reference)
    describe = verification.reference_describer(
        reference,
        verification.describe_operator(
            flags, out, checks, batch_size, policy=policy, classes=classes
        ),
        {"input": flags.reference},
        {"checks": looked, "classes": classes},
        options,
    )
    run = run_files.Run(
        job="generate",
        identity={"input": jobs.input_identity(plan), **identity},
        notes={
            "model": info.path,
            "input": flags.input or f"{plan.records:,} items",
            "devices": device_names(),
            "reference": flags.reference,
        },
    )
    return jobs.run_shards(run, plan, operator, flags, options, prepare=describe)


def plan_generation(flags: argparse.Namespace, binding: Binding) -> Plan:
    """The shards of --count or --per_class. Raises UserError."""
    if flags.per_class is None:
        counts = even_counts(flags.count, binding.labels)
    elif binding.labels == 0:
        raise UserError("the model takes no label, so --per_class cannot be met; give --count")
    else:
        counts = class_counts(flags.per_class, binding.classes)
    return plan_items(counts, flags.images_per_shard, binding.labels > 0)


def _wrong_source(info: ModelInfo, binding: Binding) -> str:
    if binding.takes_picture:
        return (
            f"{info.path} makes pictures of pictures, by its input {binding.input_name!r}; "
            "give --input=PICTURES instead of --count or --per_class"
        )
    return f"{info.path} takes no pictures; give --count or --per_class instead of --input"
