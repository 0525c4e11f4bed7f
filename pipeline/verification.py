"""The models that look at generated pictures, and the training images they are compared with."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from models.card import load_card, own_card
from models.classifier import (
    Bound,
    bind_classifier,
    bind_features,
    is_standard_inception,
    probe_classifier,
)
from models.errors import ModelError, UserError
from models.signatures import ModelInfo, read_model
from pipeline import jobs, run_files
from pipeline.dataflow import options as launch_options
from transforms import paths, storage
from transforms.checking import DROPS, Checks
from transforms.describe import COLUMNS, DescribeOperator, gather
from transforms.feature_names import FeatureNames
from transforms.guard import INDEX, REFERENCE
from transforms.inputs import Plan, plan_input
from transforms.sink import Sink
from transforms.staging import local_file, local_model, remote_name

_ATTEMPTS = 10


def bind_checks(
    flags: argparse.Namespace, labels: int, classes: tuple[str, ...], redraws: bool
) -> tuple[Checks, dict[str, Any]]:
    """Reads, binds and probes the models that look.

    Args:
        labels: that the generator can be asked for; 0 for none, or for those of an input.
        classes: their names.
        redraws: whether a rejected picture can be drawn again.

    Returns:
        What operators need, and what the run's identity says of it.

    Raises:
        UserError: flags contradict one another, or a model cannot be used.
    """
    _check_flags(flags, labels, redraws)
    verifier = features = None
    identity: dict[str, Any] = {}
    standard = False
    if flags.verifier:
        verifier, info = bind_looker(flags.verifier, flags.verifier_card, wants_scores=True)
        identity["verifier"] = _identity(verifier)
        standard = is_standard_inception(info, verifier.binding)
        check_classes(flags.verifier, verifier.binding.classes, labels, classes)
    if flags.feature_model:
        features, info = bind_looker(
            flags.feature_model, flags.feature_model_card, wants_scores=False
        )
        identity["feature_model"] = _identity(features)
        standard = is_standard_inception(info, features.binding)
    may_reject = flags.accept == "agree" or flags.min_confidence > 0 or bool(flags.drop)
    checks = Checks(
        verifier=verifier,
        feature_model=features,
        accept=flags.accept,
        min_confidence=flags.min_confidence,
        max_attempts=(flags.max_attempts or (_ATTEMPTS if may_reject else 1)) if redraws else 1,
        drop=tuple(sorted(flags.drop)),
        near_bits=flags.near_bits,
        reference=bool(flags.reference),
    )
    return checks, identity | {
        "accept": checks.accept,
        "min_confidence": checks.min_confidence,
        "max_attempts": checks.max_attempts,
        "drop": list(checks.drop),
        "near_bits": checks.near_bits,
        "standard_inception": standard,
    }


def plan_reference(flags: argparse.Namespace, out: str) -> Plan | None:
    """The shards of --reference. Raises UserError."""
    if not flags.reference:
        return None
    plan = plan_input(flags.reference, out=out)
    jobs.check_first_record(plan, FeatureNames(flags.image_feature, flags.key_feature))
    return plan


def reference_describer(
    plan: Plan | None,
    operator: DescribeOperator,
    notes: Mapping[str, Any],
    identity: Mapping[str, Any],
    options: Any,
) -> Callable[[], None] | None:
    """What is to be done before shards are made: the reference is looked at, shard by shard, as a
    run of its own below OUT that is resumed like any other. None without a reference.

    Raises:
        UserError: a template is made, and it would be one of this run.
    """
    if plan is None:
        return None
    if launch_options.is_template(options):
        raise UserError(
            f"{notes['input']} is looked at by a job before, and a template launches one job and "
            "ends; launch from a machine, by `pixelmill ... --runner=DataflowRunner`"
        )

    def describe() -> None:
        root = operator.sink.root
        run = run_files.Run("describe", {"input": jobs.input_identity(plan), **identity}, notes)
        metrics = jobs.process_apart(run, plan, operator, options)
        if not storage.is_file(os.path.join(root, INDEX)):
            if not metrics["complete"] or not metrics["records"]["written"]:
                raise UserError(
                    f"the reference {notes['input']} could not be read as a whole: "
                    f"{metrics['records']['failed']:,} images failed, errors of shards are "
                    f"{metrics['shards']['errors'] or 'none'}; give the same command again, or "
                    "another --reference"
                )
            storage.write(root, INDEX, gather(root, plan).to_bytes())

    return describe


def describe_operator(
    flags: argparse.Namespace, out: str, checks: Checks, batch_size: int, **how: Any
) -> DescribeOperator:
    """The operator that looks at the reference of a run."""
    return DescribeOperator(
        sink=Sink(os.path.join(out, REFERENCE), "images", format="folder", columns=COLUMNS),
        batch_size=batch_size,
        checks=dataclasses.replace(checks, reference=False),
        features=FeatureNames(flags.image_feature, flags.key_feature),
        threads=flags.threads or 0,
        batch_timeout_s=flags.batch_timeout_s,
        devices=jobs.device_options(flags),
        **how,
    )


def bind_looker(model: str, given: str | None, wants_scores: bool) -> tuple[Bound, ModelInfo]:
    """A model by the card that was given, or that lies in it, or none. Raises ModelError."""
    path = paths.absolute(model)
    staged = local_model(path)
    card = load_card(local_file(given) if given else own_card(staged), {})
    try:
        info = read_model(staged, card.tags)
        binding = (bind_classifier if wants_scores else bind_features)(info, card)
        binding = probe_classifier(info.path, binding, wants_scores)
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(str(error).replace(staged, path)) from error
    return Bound(remote_name(info.path, staged, path), binding, info.fingerprint), info


def _identity(bound: Bound) -> dict[str, Any]:
    return {"fingerprint": bound.fingerprint, **dataclasses.asdict(bound.binding)}


def _check_flags(flags: argparse.Namespace, labels: int, redraws: bool) -> None:
    unknown = sorted(set(flags.drop) - set(DROPS))
    for problem, found in (
        (f"--drop={','.join(unknown)}: expected copies, duplicates or both", bool(unknown)),
        (
            "--drop=copies needs training images to compare with; give --reference",
            "copies" in flags.drop and not flags.reference,
        ),
        (
            "--accept=agree and --min_confidence need a classifier that predicts labels; "
            "give --verifier",
            (flags.accept == "agree" or flags.min_confidence > 0) and not flags.verifier,
        ),
        (
            "--accept=agree compares labels, and the model takes none; leave it out",
            flags.accept == "agree" and redraws and labels == 0,
        ),
        (
            "--max_attempts has no effect: what is made of a picture is the same each time; "
            "leave it out",
            flags.max_attempts is not None and not redraws,
        ),
    ):
        if found:
            raise UserError(problem)
    for name in ("verifier", "feature_model"):
        if getattr(flags, f"{name}_card") and not getattr(flags, name):
            raise UserError(f"--{name}_card is the card of a model; give --{name} too")


def check_classes(path: str, known: tuple[str, ...], labels: int, classes: tuple[str, ...]) -> None:
    """Raises UserError when labels of generator and verifier cannot be compared."""
    if labels and len(known) != labels:
        raise UserError(
            f"--verifier={path} tells {len(known)} classes apart, but the generator has {labels} "
            "labels; their ids must mean the same"
        )
    named = [names for names in (known, classes) if names and not _are_default(names)]
    if labels and len(named) == 2 and named[0] != named[1]:
        differ = next(i for i, pair in enumerate(zip(*named, strict=True)) if pair[0] != pair[1])
        raise UserError(
            f"--verifier={path} names class {differ} {named[0][differ]!r}, the generator "
            f"{named[1][differ]!r}; their ids must mean the same, correct the names in a card"
        )


def _are_default(names: tuple[str, ...]) -> bool:
    return all(name == f"class {i}" for i, name in enumerate(names))
