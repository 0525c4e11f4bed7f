"""Running an operator on the first images of its input, here and writing nothing."""

import contextlib
import dataclasses
import itertools
import time
from typing import Any

from transforms.augment import AugmentOperator
from transforms.clock import Clock
from transforms.counters import BATCH_SIZE, LATENCY
from transforms.evaluate import EvaluateOperator, ScoreOperator
from transforms.failures import Failure, Kept
from transforms.formats.registry import read_shard_file
from transforms.inputs import Items, Part, Plan, Shard
from transforms.pack import PackOperator
from transforms.records import Extras
from transforms.regroup import PICKS, read_picks
from transforms.shard_work import Operator

_BUDGET_S = 20.0  # after which nothing is measured again
_SAMPLE = 64  # records of a TFRecord shard whose size is looked at
_FRAMING_BYTES = 16  # of a TFRecord record
_CODEC = ("read", "decode", "check", "encode")


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of the first images.

    Attributes:
        images: that were tried.
        failed: of them.
        problem: the first failure, "" if none.
        codec_s: that a thread reads, decodes and encodes an image, in seconds.
        model_s: that the model takes for an image, in seconds.
    """

    images: int
    failed: int
    problem: str
    codec_s: float
    model_s: float


def run_trial(operator: Operator, plan: Plan, images: int) -> Trial:
    """Runs an operator on the first images of the first shard that has some.

    What was built for their shapes at the first call is not measured.

    Raises:
        OSError, UserError: the shard or the model cannot be read.
    """
    shard = next((s for s in plan.shards if s.records != 0), plan.shards[0])
    part = first_records(shard, images)
    work = _unprepared(operator).open()
    began = time.monotonic()
    trial = _attempt(work, part, images)
    if time.monotonic() - began < _BUDGET_S and trial.failed < trial.images:
        trial = _attempt(work, part, images)
    return trial


def _attempt(work: Any, shard: Shard, images: int) -> Trial:
    clock, problems, tried = Clock(), [], 0
    with contextlib.closing(work(shard, clock)) as results:
        made = (r for r in results if not isinstance(r, Extras) and not isinstance(r[1], Kept))
        for record, result in itertools.islice(made, images):
            tried += 1
            if isinstance(result, Failure):
                problems.append(f"{record.key}: {result.reason}: {result.message}")
    spent, values = clock.microseconds(), clock.values()
    seen = sum(values[BATCH_SIZE])
    return Trial(
        images=tried,
        failed=len(problems),
        problem=problems[0] if problems else "",
        codec_s=sum(spent[stage] for stage in _CODEC) / 1e6 / max(1, tried),
        model_s=sum(values[LATENCY]) / 1e6 / max(1, seen),
    )


def first_records(shard: Shard, count: int) -> Shard:
    """The shard with its first records only."""
    if shard.files:
        return dataclasses.replace(shard, files=shard.files[:count])
    if shard.items is None:
        return dataclasses.replace(shard, part=Part(frozenset(range(count))))
    labels, left = [], count
    for label, number in shard.items.labels:
        labels.append((label, min(number, left)))
        left -= labels[-1][1]
    return dataclasses.replace(shard, items=Items(shard.items.first, tuple(labels)))


def _unprepared(operator: Any) -> Any:
    """The operator without what a launch prepares first: the description of the reference, the
    list of the masks that others are compared with, annotations, and which records are wanted."""
    if isinstance(operator, ScoreOperator) and operator.labels:
        return operator.segmenting
    if isinstance(operator, EvaluateOperator) and operator.predictions:
        scoring = dataclasses.replace(operator.scoring, labels=None, panoptic=False)
        return dataclasses.replace(operator, predictions=None, scoring=scoring)
    if isinstance(operator, AugmentOperator):
        filters = operator.recipe.filter.model_copy(update={"validation": ()})
        recipe = operator.recipe.model_copy(update={"filter": filters})
        return dataclasses.replace(operator, recipe=recipe)
    if isinstance(operator, PackOperator):
        return dataclasses.replace(operator, labels=None, selection=None)
    checks = getattr(operator, "checks", None)
    if checks is None or not checks.reference:
        return operator
    alone = dataclasses.replace(checks, reference=False, drop=())
    return dataclasses.replace(operator, checks=alone)


def count_images(plan: Plan) -> tuple[int, bool]:
    """How many images a plan has, and whether that is known; else by the size of some records."""
    if plan.records is not None:
        return plan.records, True
    if plan.kind == PICKS:
        return sum(sum(1 for _ in read_picks(shard)) for shard in plan.shards), True
    shard = max(plan.shards, key=lambda s: s.size_bytes)
    sizes: list[int] = []
    for record in itertools.islice(
        read_shard_file(shard.root, shard.format, shard.groups), _SAMPLE + 1
    ):
        sizes.append(_FRAMING_BYTES + (len(record) if isinstance(record, bytes) else 0))
    if len(sizes) <= _SAMPLE:  # the whole shard, gzip or not
        if len(plan.shards) == 1:
            return len(sizes), True
        return round(plan.size_bytes * len(sizes) / max(1, shard.size_bytes)), False
    return round(plan.size_bytes * len(sizes) / sum(sizes)), False
