"""The three sets of a study: read, and checked to belong together."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from models.errors import UserError
from pipeline.train_setup import plan_training, read_survey
from transforms import hashes
from transforms.inputs import Plan
from transforms.listing import AUTO
from transforms.training_checks import check_survey
from transforms.training_data import CACHE_BYTES, Reading, Survey, TrainingSet
from transforms.training_mix import Mix, joined

SETS = ("real", "augmented", "test")
ARMS = {
    "real": ("real",),
    "real_and_augmented": ("real", "augmented"),
    "augmented": ("augmented",),
}
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class StudyData:
    """What a study reads.

    Attributes:
        plans, sets, surveys: by SETS; all of a set is its training part.
        classes: names by class id.
        left_out: why an arm cannot be trained, by its name.
        repeated: (test picture, set, picture) that are equal pixel by pixel.
    """

    plans: Mapping[str, Plan]
    sets: Mapping[str, TrainingSet]
    surveys: Mapping[str, Survey]
    classes: list[str]
    left_out: Mapping[str, str]
    repeated: Sequence[tuple[str, str, str]]

    @property
    def plan(self) -> Plan:
        """All shards as one plan."""
        shards = [
            dataclasses.replace(shard, name=f"{name}-{shard.name}")
            for name, plan in self.plans.items()
            for shard in plan.shards
        ]
        return Plan(tuple(shards), "study")

    def survey(self, arm: str) -> Survey:
        """What an arm is trained with, and validated with."""
        return _joined(self.surveys, arm)

    def mix(self, arm: str, shown: Mapping[str, int]) -> Mix:
        """The same as examples. Args: shown: examples that a set shows in an epoch."""
        sets = [(self.sets[name], shown[name]) for name in ARMS[arm]]
        return Mix(sets, self.sets["test"])


def read_study(flags: argparse.Namespace, out: str) -> StudyData:
    """Reads all pictures once. Raises UserError when they cannot be compared."""
    plans: dict[str, Plan] = {}
    sets: dict[str, TrainingSet] = {}
    surveys: dict[str, Survey] = {}
    texts: dict[int, str] = {}
    for name in SETS:
        one = argparse.Namespace(**vars(flags))
        one.input, one.input_format = getattr(flags, name), AUTO
        one.classes = flags.classes or _known_names(texts)
        plans[name], reading = plan_training(one, out)
        if reading.folders and sets and not one.classes:
            raise UserError(
                f"--{name} is a folder for each class, and the shards of --real do not say which "
                "label has which name; give the names by --classes, in the order of the labels"
            )
        sets[name] = TrainingSet(
            plans[name].shards, reading, 0.0, cache_bytes=CACHE_BYTES // len(SETS)
        )
        surveys[name] = read_survey(sets[name])
        for label, text in surveys[name].texts.items():
            if texts.setdefault(label, text) != text:
                raise UserError(
                    f"label {label} is {text!r} in --{name}, and {texts[label]!r} before it; "
                    "the sets of a study must number their classes alike"
                )
    classes, left_out = _checked(flags, reading, surveys)
    return StudyData(plans, sets, surveys, classes, left_out, _repeated(sets))


def _joined(surveys: Mapping[str, Survey], arm: str) -> Survey:
    return joined([surveys[name] for name in ARMS[arm]], surveys["test"])


def _known_names(texts: Mapping[int, str]) -> list[str] | None:
    """Names by label, if all are known."""
    return [texts[i] for i in range(len(texts))] if set(texts) == set(range(len(texts))) else None


def _checked(
    flags: argparse.Namespace, reading: Reading, surveys: Mapping[str, Survey]
) -> tuple[list[str], dict[str, str]]:
    """Names of classes, and why arms are left out. Raises UserError."""

    def check(arm: str, names: Sequence[str] | None) -> list[str]:
        survey = _joined(surveys, arm)
        return check_survey(
            survey, reading.wanted, names, flags.ignore_id, flags.max_failed_fraction
        )

    for name in SETS:
        if not surveys[name].keys["train"] and not surveys[name].failed:
            raise UserError(f"--{name}: there are no examples in the input")
    classes = check("real_and_augmented", flags.classes)
    try:
        check("real", classes)
    except UserError as error:
        raise UserError(f"--real alone cannot be trained with: {error}") from error
    try:
        check("augmented", classes)
    except UserError as error:  # as when only rare classes were made more of
        return classes, {"augmented": str(error)}
    return classes, {}


def _repeated(sets: Mapping[str, TrainingSet]) -> list[tuple[str, str, str]]:
    """Test pictures that are also trained with."""
    test: dict[int, str] = {}
    for example in sets["test"].examples("train"):
        test.setdefault(hashes.digest(example.pixels), example.key)
    found: dict[str, tuple[str, str, str]] = {}
    for name in ("real", "augmented"):
        for example in sets[name].examples("train"):
            if (key := test.get(hashes.digest(example.pixels))) is not None:
                found.setdefault(key, (key, name, example.key))
    return list(found.values())
