"""Augmenting shards into a folder: the usual machine, with a recipe in place of a model."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from models.card import load_card, own_card
from models.classifier import Bound
from models.devices import DeviceOptions, configure, device_names
from models.errors import ModelError, UserError
from models.probe import probe
from models.rules import bind
from models.signatures import read_model
from pipeline import engine, jobs, legends, run_files, verification
from transforms import paths
from transforms.augment import COLUMNS, AugmentOperator
from transforms.augmentation.balance import read_have
from transforms.augmentation.looking import has_mask
from transforms.augmentation.recipe import PseudoLabel, Recipe, RecipeError, Translate
from transforms.augmentation.steps import CopyPaste, MixUp
from transforms.checking import Checks
from transforms.decode import MAX_PIXELS, DecodePolicy
from transforms.describe import COLUMNS as DESCRIBED
from transforms.describe import DescribeOperator
from transforms.generate import COLUMNS as GENERATED
from transforms.generate import GenerateOperator
from transforms.guard import REFERENCE
from transforms.inputs import Plan, Shard, cut
from transforms.listing import InputError, list_input
from transforms.picture_files import PictureFormat
from transforms.sink import Sink
from transforms.sources import read_shard
from transforms.staging import local_file, local_model, remote_name

JOB = "augment"
_LOOK_BATCH = 8


def plan_source(pattern: str, out: str | None = None) -> tuple[Shard, ...]:
    """The shards that a pattern names. Raises UserError."""
    plan = cut(list_input(pattern, out))
    if not plan.is_examples:
        raise InputError(
            f"{pattern} holds image files, expected shards; make them by "
            f"`pixelmill pack --input {pattern} --output SHARDS`, masks come along"
        )
    return plan.shards


def augment(
    recipe: Recipe,
    shards: Sequence[Shard],
    out: str,
    flags: argparse.Namespace,
    options: Any = None,
) -> int:
    """Makes what a recipe asks for of some shards; goes on with what is in `out`.

    Args:
        shards: of examples, as plan_source gives them.
        out: folder, absolute (see transforms.paths).
        flags: may have overwrite, max_failed_fraction, max_pixels and threads; see flags.py.
        options: Beam's, of engine.pipeline_options; None for the usual local runner.

    Returns:
        The exit code: 0 done, 1 over the budget of failures or not complete.

    Raises:
        UserError: it cannot start.
        engine.PipelineFailed, engine.InterruptedRun: as for all jobs.
    """
    usual = {"overwrite": False, "max_failed_fraction": 0.01, "max_pixels": None, "threads": None}
    flags = argparse.Namespace(**{**usual, **vars(flags)})
    options = engine.pipeline_options([]) if options is None else options
    plan = Plan.of(tuple(shards))
    operator = make_operator(recipe, out, flags.max_pixels or MAX_PIXELS, flags.threads or 0)
    _check_first(plan, operator)
    identity = {
        "input": jobs.input_identity(plan),
        "recipe": recipe.content(),
        "fingerprint": operator.fingerprint,
        "decode": dataclasses.asdict(operator.policy),
        "versions": {name: version(name) for name in ("pillow", "scipy", "tensorflow")},
    }
    run = run_files.Run(
        job=JOB,
        identity=identity,
        notes={
            "input": recipe.source,
            "recipe": recipe.model_dump(mode="json"),
            "devices": device_names(),
        },
    )
    validation = plan_validation(recipe)
    describe = verification.reference_describer(
        validation,
        DescribeOperator(
            sink=Sink(os.path.join(out, REFERENCE), "images", format="folder", columns=DESCRIBED),
            batch_size=_LOOK_BATCH,
            checks=Checks(),
            policy=operator.policy,
            features=operator.names,
            threads=operator.threads,
        ),
        {"input": ", ".join(recipe.filter.validation)},
        {"decode": dataclasses.asdict(operator.policy)},
        options,
    )

    def prepare() -> None:
        if recipe.classes:
            legends.write_legend(out, recipe.classes, (), recipe.ignore_id)
        if describe is not None:
            describe()

    return jobs.run_shards(run, plan, operator, flags, options, prepare=prepare)


def make_operator(
    recipe: Recipe, out: str, max_pixels: int = MAX_PIXELS, threads: int = 0
) -> AugmentOperator:
    """The operator of a recipe, its models bound and probed. Raises UserError."""
    balance = recipe.balance
    return AugmentOperator(
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        sink=Sink(out, "images", format="tfrecord", columns=COLUMNS),
        have=read_have(balance.have, balance.by) if balance and balance.have else None,
        segmenter=_bind_segmenter(recipe.pseudo_label) if recipe.pseudo_label else None,
        generator=_bind_generator(recipe, out, threads) if recipe.generate else None,
        translator=_bind_translator(recipe.translate) if recipe.translate else None,
        policy=DecodePolicy(max_pixels),
        threads=threads,
    )


def plan_validation(recipe: Recipe) -> Plan | None:
    """The shards of which nothing may be made; None without any. Raises UserError."""
    if not recipe.filter.validation:
        return None
    shards = plan_source(",".join(recipe.filter.validation))
    return Plan.of(shards)


def _bind_segmenter(wanted: PseudoLabel) -> Bound:
    """The segmenter of pseudo_label. Raises UserError."""
    bound = _bind("pseudo_label", wanted.model, wanted.card, {})
    if bound.binding.kind in ("class_ids", "image"):
        raise RecipeError(
            f"pseudo_label.model: {bound.path} answers {bound.binding.kind} without a confidence, "
            "so nothing tells which pixels to trust; export it with logits or probabilities"
        )
    return bound


def _bind_generator(recipe: Recipe, out: str, threads: int) -> GenerateOperator:
    """The generator of generate, and what looks at its pictures. Raises UserError."""
    wanted = recipe.generate
    assert wanted is not None
    bound = _bind("generate", wanted.model, wanted.card, {"output.kind": "image"})
    binding = bound.binding
    if binding.takes_picture or not binding.labels:
        raise RecipeError(
            f"generate.model: {bound.path} takes "
            f"{'pictures' if binding.takes_picture else 'no label'}, expected a generator that is "
            "given a label; `pixelmill inspect` tells more"
        )
    verifier = None
    if wanted.verifier:
        verifier, _ = verification.bind_looker(wanted.verifier, wanted.verifier_card, True)
        names = verifier.binding.classes
        verification.check_classes(wanted.verifier, names, binding.labels, binding.classes)
    return GenerateOperator(
        model=bound.path,
        binding=binding,
        sink=Sink(out, "images", format="tfrecord", columns=GENERATED),
        batch_size=wanted.batch_size,
        seed=recipe.seed,
        fingerprint=bound.fingerprint,
        format=PictureFormat(recipe.format, recipe.quality),
        threads=threads,
        checks=Checks(
            verifier=verifier,
            accept="agree" if verifier else "all",
            min_confidence=wanted.min_confidence if verifier else 0.0,
            max_attempts=wanted.max_attempts if verifier else 1,
        ),
    )


def _bind_translator(wanted: Translate) -> Bound:
    """The model of translate. Raises UserError."""
    bound = _bind("translate", wanted.model, wanted.card, {"output.kind": "image"})
    if not bound.binding.takes_picture:
        raise RecipeError(
            f"translate.model: {bound.path} takes no picture, expected a model that makes pictures "
            "of pictures or of masks; `pixelmill inspect` tells more"
        )
    return bound


def _bind(what: str, model: str, card_path: str | None, fixed: dict[str, Any]) -> Bound:
    """A model of the recipe, bound and probed. Raises UserError."""
    path = paths.absolute(model)
    staged = local_model(path)
    card = load_card(local_file(card_path) if card_path else own_card(staged), fixed)
    configure(DeviceOptions())
    try:
        info = read_model(staged, card.tags)
        binding = probe(info.path, bind(info, card))
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(f"{what}: {str(error).replace(staged, path)}") from error
    return Bound(remote_name(info.path, staged, path), binding, info.fingerprint)


def _check_first(plan: Plan, operator: AugmentOperator) -> None:
    """Looks at one example, for what is wrong with it would fail all. Raises UserError."""
    recipe = operator.recipe
    if not plan.shards:
        return
    jobs.check_first_record(plan, operator.names)
    record, _ = next(read_shard(plan.shards[0], operator.names), (None, None))
    if record is None:
        return
    masked = has_mask(record, recipe.features) or recipe.pseudo_label is not None
    for step, kind, wrong, why in (
        ("mixup", MixUp, masked, "class ids of two masks cannot be blended; use cutmix instead"),
        ("copy_paste", CopyPaste, not masked, "it takes instances from masks; leave it out"),
    ):
        if wrong and any(isinstance(each, kind) for each in recipe.steps):
            have = "have masks" if masked else "have no masks"
            raise UserError(f"step {step}: the pictures of {plan.shards[0].root} {have}, and {why}")
    if operator.translator is not None and operator.translator.binding.takes_mask and not masked:
        raise UserError(
            f"translate: the pictures of {plan.shards[0].root} have no masks, and the model makes "
            "pictures of masks; give pseudo_label, or a model of pictures"
        )
    if recipe.generate is not None and masked:
        raise UserError(
            f"generate: the pictures of {plan.shards[0].root} have masks, and the generator makes "
            "pictures of labels, without masks; leave it out"
        )
