"""From the confusion matrices of a study's trainings to its numbers and words. No training here.

    GAN-train  trained with made pictures, tested on real ones: high only if they are as good and
               as varied as real ones (Shmelkov et al. 2018, arXiv:1807.09499, section 3). Of a
               classifier its accuracy is the classification accuracy score of Ravuri & Vinyals
               2019 (arXiv:1905.10887).
    GAN-test   trained with real pictures, tested on made ones: high if these show what their labels
               say, however little varied they are (Shmelkov et al. 2018).

Trainings are paired by their seed, which gives first weights and random numbers: intervals of
differences are those of the paired t test (transforms/intervals.py).
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.run_files import SUCCESS
from transforms import storage
from transforms.confusion import scores
from transforms.intervals import mean_interval

STUDY, TRAININGS = "study.json", "trainings"
TITLES = {
    "real": "real",
    "real_and_augmented": "real + augmented",
    "augmented": "augmented alone",
}
Confusions = Mapping[str, Sequence[npt.NDArray[np.int64]]]


class Metric(NamedTuple):
    """A number about all classes: its field in a Scores, or in its means, and its name."""

    field: str
    title: str


class Measures(NamedTuple):
    """What a kind of network is judged by: the first metric decides; `by_class` is of Scores."""

    metrics: tuple[Metric, ...]
    by_class: str
    by_class_title: str


MEASURES = {
    "classifier": Measures(
        (Metric("accuracy", "accuracy"), Metric("mean_f1", "macro F1")), "f1", "F1"
    ),
    "segmenter": Measures(
        (Metric("mean_iou", "mean IoU"), Metric("accuracy", "pixel accuracy")), "iou", "IoU"
    ),
}


def results(
    kind: str, tested: Confusions, made: Sequence[npt.NDArray[np.int64]], classes: Sequence[str]
) -> dict[str, Any]:
    """All numbers of a study.

    Args:
        tested: confusion matrices int64 [C, C] on the test pictures, by arm, in the order of seeds.
        made: of the arm "real" on the augmented pictures, in the same order.
    """
    measures = MEASURES[kind]
    arms, differences = {}, {}
    values = {
        arm: {metric.field: _values(matrices, metric) for metric in measures.metrics}
        for arm, matrices in {**tested, "gan_test": made}.items()
    }
    for arm, found in values.items():
        arms[arm] = {name: _described(by_seed) for name, by_seed in found.items()}
        if arm != "real":
            differences[arm] = {
                name: _described(by_seed - values["real"][name]) for name, by_seed in found.items()
            }
    gan_test = arms.pop("gan_test")
    return {
        "metric": measures.metrics[0].field,
        "arms": arms,
        "gan_train": arms.get("augmented"),
        "gan_test": gan_test,
        "minus_real": differences,
        "classes": _by_class(measures.by_class, tested, classes),
    }


def _values(matrices: Sequence[npt.NDArray[np.int64]], metric: Metric) -> npt.NDArray[np.float64]:
    """float64 [seeds]."""
    found = [scores(matrix) for matrix in matrices]
    return np.asarray([{"accuracy": s.accuracy, **s.means}[metric.field] for s in found])


def measured(kind: str, matrix: npt.NDArray[np.int64]) -> dict[str, float]:
    """What one training reached, by the title of the metric."""
    metrics = MEASURES[kind].metrics
    return {metric.title: float(_values([matrix], metric)[0]) for metric in metrics}


def _described(by_seed: npt.NDArray[np.float64]) -> dict[str, Any]:
    interval = dataclasses.asdict(mean_interval(by_seed))
    fields: dict[str, Any] = {name: _number(value) for name, value in interval.items()}
    return {**fields, "by_seed": [_number(value) for value in by_seed.tolist()]}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _by_class(field: str, tested: Confusions, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class: its metric by arm, and the difference that augmented pictures make."""
    values = {
        arm: np.stack([scores(matrix).by_class[field] for matrix in matrices])
        for arm, matrices in tested.items()
    }
    more = values["real_and_augmented"] - values["real"]
    return [
        {
            "id": i,
            "name": name,
            "metric": field,
            **{arm: _number(float(found[:, i].mean())) for arm, found in values.items()},
            "difference": _described(more[:, i]),
        }
        for i, name in enumerate(classes)
    ]


def answer(study: Mapping[str, Any]) -> str:
    """ "helps", "harms" or "no difference shown", by the interval of the first metric."""
    found = study["minus_real"]["real_and_augmented"][study["metric"]]
    return {1: "helps", -1: "harms", 0: "no difference shown"}[side(found)]


def side(interval: Mapping[str, Any]) -> int:
    """1 when all of an interval is above 0, -1 when all is below, else 0; 0 when it is unknown."""
    if interval["low"] is None:
        return 0
    return int(interval["low"] > 0) - int(interval["high"] < 0)


def sentence(study: Mapping[str, Any], kind: str) -> str:
    """The answer with its numbers: "augmented data helps: +3.1 points of accuracy, ..."."""
    found = study["minus_real"]["real_and_augmented"][study["metric"]]
    word = {"helps": "augmented data helps", "harms": "augmented data harms"}.get(
        answer(study), "no difference shown"
    )
    title = MEASURES[kind].metrics[0].title
    if found["mean"] is None:
        return f"{word}: {title} is not a number in every training"
    return f"{word}: {points(found['mean'])} points of {title}, {interval_text(found)}"


def points(value: float) -> str:
    """A difference of shares as percentage points: +3.12."""
    return f"{100 * value:+.2f}"


def interval_text(interval: Mapping[str, Any]) -> str:
    """`95 % interval +1.20 to +5.04`, in percentage points."""
    return f"95 % interval {points(interval['low'])} to {points(interval['high'])}"


def readings(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, what it tells) of GAN-train and GAN-test against the network of real pictures."""
    found = []
    told = {
        "augmented": (
            "GAN-train",
            {
                1: "Augmented pictures alone teach more than the real ones.",
                0: "No difference is shown between training with augmented pictures alone and with "
                "the real ones.",
                -1: "Augmented pictures alone do not replace the real ones: they are worse, less "
                "varied, or wrongly labelled.",
            },
        ),
        "gan_test": (
            "GAN-test",
            {
                1: "A network of real pictures reads the augmented ones better than new real ones: "
                "they are easier, or near to those that it was trained with.",
                0: "No difference is shown between how a network of real pictures reads the "
                "augmented ones and new real ones.",
                -1: "A network of real pictures reads the augmented ones worse than new real ones: "
                "they are harder, unlike real ones, or wrongly labelled.",
            },
        ),
    }
    for arm, (name, texts) in told.items():
        if (difference := study["minus_real"].get(arm)) is not None:
            found.append((name, texts[side(difference[study["metric"]])]))
    return found


def table(study: Mapping[str, Any], kind: str) -> list[str]:
    """The numbers as lines of text, in per cent and percentage points."""
    metrics = MEASURES[kind].metrics
    rows = [
        (TITLES[arm], found, study["minus_real"].get(arm)) for arm, found in study["arms"].items()
    ]
    rows.append(("GAN-test", study["gan_test"], study["minus_real"]["gan_test"]))
    lines = []
    for metric in metrics:
        lines.append(f"{metric.title + ', %':<18}  {'mean':>7}  {'95 % interval':>16}  minus real")
        for title, found, minus in rows:
            line = f"{title:<18}  {_cells(found[metric.field])}"
            if minus is not None and minus[metric.field]["mean"] is not None:
                difference = minus[metric.field]
                line += f"  {points(difference['mean'])}, {interval_text(difference)}"
            lines.append(line)
    return lines


def _cells(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return f"{'-':>7}  {'-':>16}"
    low, high = (f"{100 * found[end]:.2f}" for end in ("low", "high"))
    return f"{100 * found['mean']:7.2f}  {low + ' to ' + high:>16}"


def study_status(out: str, job: str) -> str:
    """How far the study in OUT is."""
    done = sum(name.endswith(".json") for name, _ in storage.list_files(f"{out}/{TRAININGS}"))
    complete = storage.exists(os.path.join(out, SUCCESS))
    state = "complete" if complete else "not complete"
    return f"{job} in {out}: {state}\n  trainings  {done:,} done"
