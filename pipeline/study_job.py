"""`pixelmill study`: does augmented data help? Trains with and without it, and compares."""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.errors import UserError
from pipeline import jobs, places, run_files, study_report, study_results, trainees, training
from pipeline.progress import minutes_text
from pipeline.study_data import ARMS, SETS, StudyData, read_study
from pipeline.study_results import STUDY, TITLES, TRAININGS
from pipeline.train_batches import Settings, Trained, steps_of
from pipeline.train_setup import (
    NetworkConfig,
    checked,
    identity_of,
    network_config,
    prepare_keras,
    settings_of,
    shown_in_an_epoch,
    trainee_of,
)
from transforms import storage
from transforms.intervals import LEVEL
from transforms.training_data import Example

_SHOWN = 5


def run_study(flags: argparse.Namespace) -> int:
    """Trains what is not trained yet, compares, and reports. Returns the exit code.

    Raises:
        UserError: it cannot start.
        TrainingFailed: a training cannot go on; those that have ended stay.
    """
    flags = checked(flags)
    if flags.seeds < 2:
        raise UserError("--seeds=1: an interval needs at least 2 trainings of each kind")
    out = places.check_places(flags)
    data = read_study(flags, out)
    settings = settings_of(flags)
    config = network_config(flags, len(data.classes), data.survey("real"))
    shown = {name: shown_in_an_epoch(flags, data.surveys[name]) for name in SETS}
    steps_an_epoch = steps_of(shown["real"] + shown["augmented"], settings)
    run = run_files.Run(
        job=f"study {flags.kind}",
        identity={
            "input": {name: jobs.input_identity(plan) for name, plan in data.plans.items()},
            **identity_of(flags, settings, config, data.classes),
        },
        notes={name: getattr(flags, name) for name in SETS},
    )
    run_files.begin(out, run, data.plan, flags.overwrite)
    study = Trainings(flags, out, run.digest, data, config, settings, shown)
    seeds = [settings.seed + number for number in range(flags.seeds)]
    todo = [(arm, seed) for arm in ARMS for seed in seeds if arm not in data.left_out]
    _say(flags, data, f"{len(todo)} trainings of {settings.epochs * steps_an_epoch:,} steps")
    rows = study.rows(todo)
    numbers = {
        "format": run_files.FORMAT,
        "job": run.job,
        "level": LEVEL,
        "seeds": seeds,
        "steps": settings.epochs * steps_an_epoch,
        "examples": {name: len(data.surveys[name].keys["train"]) for name in SETS},
        **study_results.results(
            flags.kind,
            {
                arm: [_matrix(rows[arm, seed]["test"]) for seed in seeds]
                for arm in ARMS
                if arm not in data.left_out
            },
            [_matrix(rows["real", seed]["augmented"]) for seed in seeds],
            data.classes,
        ),
        "arms_left_out": data.left_out,
        "test_pictures_trained_with": data.repeated,
        "unreadable": {
            name: [[key, failure.message] for key, failure in data.surveys[name].failed]
            for name in SETS
        },
    }
    numbers["answer"] = study_results.answer(numbers)
    storage.write(out, STUDY, json.dumps(numbers, indent=1).encode() + b"\n")
    study_report.write_report(out)
    storage.write(out, run_files.SUCCESS, b"")
    storage.delete_dead(out)
    print("\n" + "\n".join(study_results.table(numbers, flags.kind)))
    for name, text in study_results.readings(numbers):
        print(f"{name}: {text}")
    print(f"\n{study_results.sentence(numbers, flags.kind)}")
    print(f"report: {os.path.join(out, run_files.REPORT)}")
    return 0


@dataclasses.dataclass(frozen=True)
class Trainings:
    """The trainings of a study: those that are in OUT, and making the others.

    Attributes:
        digest: of the run, with which their files are marked.
        shown: examples that each set shows in an epoch.
    """

    flags: argparse.Namespace
    out: str
    digest: str
    data: StudyData
    config: NetworkConfig
    settings: Settings
    shown: Mapping[str, int]

    def rows(self, todo: list[tuple[str, int]]) -> dict[tuple[str, int], dict[str, Any]]:
        """What is known of each (arm, seed); trains those of which nothing is. Says how far it is.

        Raises TrainingFailed, and UserError for a file that cannot be read.
        """
        found = {key: row for key in todo if (row := self._read(*key)) is not None}
        if found:
            print(f"{len(found)} of {len(todo)} trainings are done already", flush=True)
        begin, made = time.monotonic(), 0
        engine: tuple[str, keras.Model] | None = None
        for arm, seed in todo:
            if (arm, seed) in found:
                continue
            if engine is None or engine[0] != arm:
                engine = None
                keras.backend.clear_session()  # else the graphs of all arms stay in memory
            start = time.monotonic()
            trained = self.trained(arm, seed, None if engine is None else engine[1])
            engine = engine or (arm, trained.trainee.model)
            row = self._row(arm, seed, trained)
            row["clock"] = {"seconds": round(time.monotonic() - start, 3)}
            storage.write(self.out, self._path(arm, seed), json.dumps(row).encode() + b"\n")
            found[arm, seed] = row
            made += 1
            left_s = (time.monotonic() - begin) / made * (len(todo) - len(found))
            print(self._line(row, len(found), len(todo), left_s), flush=True)
        return found

    def _path(self, arm: str, seed: int) -> str:
        return f"{TRAININGS}/{arm}-{seed}.json"

    def _read(self, arm: str, seed: int) -> dict[str, Any] | None:
        path = os.path.join(self.out, self._path(arm, seed))
        try:
            row: dict[str, Any] = json.loads(storage.read_bytes(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise run_files.RunError(
                f"{path} cannot be read: {error}; delete it to train that anew"
            ) from error
        return row if row.get("run") == self.digest else None

    def _row(self, arm: str, seed: int, trained: Trained) -> dict[str, Any]:
        row: dict[str, Any] = {"run": self.digest, "arm": arm, "seed": seed}
        for name in ("test", "augmented") if arm == "real" else ("test",):
            row[name] = self._confusion(trained, name).tolist()
        return row

    def trained(self, arm: str, seed: int, engine: keras.Model | None = None) -> Trained:
        """A network after its last step. Raises TrainingFailed.

        Args:
            engine: another network of this arm that has been trained. Its compiled training step
                is used again, which spares seconds and changes nothing.
        """
        prepare_keras(self.flags)
        settings = dataclasses.replace(self.settings, seed=seed)
        trained = trainee_of(
            self.flags,
            self.data.mix(arm, self.shown),
            # of every arm as of the largest: its epochs have as many steps, and repeat what it has
            self.shown["real"] + self.shown["augmented"],
            self.data.survey(arm).counts["train"],
            config=self.config,
            settings=settings,
        )
        own = trained.trainee.model
        if engine is not None:
            training.copy_state(own, engine)
        trainee = dataclasses.replace(trained.trainee, model=engine or own)
        training.train_through(trainee, settings.epochs)
        if engine is not None:
            training.copy_state(engine, own)
        trained.settle()
        return trained

    def _confusion(self, trained: Trained, name: str) -> npt.NDArray[np.int64]:
        examples: Iterable[Example] = self.data.sets[name].examples("train")
        classes = self.config.classes
        if self.flags.kind == "segmenter":
            ignore_id = self.flags.ignore_id
            return trainees.mask_confusion(trained.served, examples, classes, ignore_id)
        return trainees.label_confusion(trained.served, examples, classes)

    def _line(self, row: Mapping[str, Any], done: int, total: int, left_s: float) -> str:
        found = study_results.measured(self.flags.kind, _matrix(row["test"]))
        left = [] if done == total else [f"{minutes_text(left_s)} left"]
        return "  ".join(
            [
                f"{done}/{total}",
                f"{TITLES[row['arm']]}, seed {row['seed']}:",
                *(f"{title} {value:.4f}" for title, value in found.items()),
                f"{row['clock']['seconds']:.1f} s",
                *left,
            ]
        )


def _matrix(rows: list[list[int]]) -> npt.NDArray[np.int64]:
    return np.asarray(rows, np.int64)


def _say(flags: argparse.Namespace, data: StudyData, what: str) -> None:
    counts = [f"{len(data.surveys[name].keys['train']):,} {name}" for name in SETS]
    print(f"study {flags.kind}: {', '.join(counts)} examples; {what}")
    for name in SETS:
        for key, failure in data.surveys[name].failed[:_SHOWN]:
            print(f"--{name}, left out: {key}: {failure.message}")
    for arm, reason in data.left_out.items():
        print(f"no training with {TITLES[arm]}: {reason}")
    if data.repeated:
        shown = ", ".join(f"{key} (= {other})" for key, _, other in data.repeated[:_SHOWN])
        print(
            f"{len(data.repeated):,} test pictures are also trained with, pixel by pixel, so the "
            f"scores are too good: {shown}"
        )
