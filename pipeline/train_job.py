"""`pixelmill train`: from shards of examples to a SavedModel with its card, curves and numbers."""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from models.errors import UserError
from pipeline import jobs, places, run_files, train_files, training
from pipeline.train_setup import (
    checked,
    identity_of,
    network_config,
    plan_training,
    prepare_keras,
    read_survey,
    settings_of,
    shown_in_an_epoch,
    trainee_of,
)
from transforms import storage
from transforms.training_checks import check_survey, not_validated
from transforms.training_data import Survey, TrainingSet


def run_train(flags: argparse.Namespace) -> int:
    """Trains, exports and measures. Returns the exit code; raises UserError."""
    flags = checked(flags)
    out = places.check_places(flags)
    split_by = _pattern(flags.split_by)
    plan, reading = plan_training(flags, out)
    data = TrainingSet(plan.shards, reading, flags.validation_fraction, split_by)
    survey = read_survey(data)
    classes = check_survey(
        survey, reading.wanted, flags.classes, flags.ignore_id, flags.max_failed_fraction
    )
    _say_survey(survey, classes, flags)
    settings = settings_of(flags)
    config = network_config(flags, len(classes), survey)
    run = run_files.Run(
        job=f"train {flags.kind}",
        identity={
            "input": jobs.input_identity(plan),
            "split": [flags.validation_fraction, flags.split_by],
            **identity_of(flags, settings, config, classes),
        },
        notes={"input": flags.input, "licence": flags.licence},
    )
    if not flags.overwrite and _is_done(out, run):
        print(f"this training is done: {os.path.join(out, train_files.MODEL)}")
        return 0
    run_files.begin(out, run, plan, flags.overwrite)
    prepare_keras(flags)
    count = shown_in_an_epoch(flags, survey)
    counts = survey.counts["train"]
    trained = trainee_of(flags, data, count, counts, config=config, settings=settings)
    state = training.train(trained.trainee, out, settings.epochs, flags.patience)
    train_files.write_results(out, run, trained, state, survey=survey, classes=classes)
    return 0


def _is_done(out: str, run: run_files.Run) -> bool:
    """Whether OUT holds all that this training makes; its model is then left as it is."""
    stored = run_files.read_run(out)
    finished = storage.exists(os.path.join(out, run_files.SUCCESS))
    return finished and stored is not None and stored.digest == run.digest


def _say_survey(survey: Survey, classes: Sequence[str], flags: argparse.Namespace) -> None:
    train, validation = (len(survey.keys[part]) for part in ("train", "validation"))
    print(f"train {flags.kind}: {train:,} examples, {validation:,} more for validation")
    unit = "pictures with it" if flags.kind == "segmenter" else "pictures"
    images = survey.images["train"]
    shown = [f"{name} {images[i]:,}" for i, name in enumerate(classes[:24])]
    print(f"classes ({unit}): {', '.join(shown)}{' ...' if len(classes) > 24 else ''}")
    if missing := not_validated(survey, classes):
        more = f" and {len(missing) - 24:,} more" if len(missing) > 24 else ""
        print(f"no validation example shows {', '.join(missing[:24])}{more}; means leave them out")
    for key, failure in survey.failed[:5]:
        print(f"left out: {key}: {failure.message}")
    sys.stdout.flush()


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise UserError(f"--split_by={text!r} is no regular expression: {error}") from error
