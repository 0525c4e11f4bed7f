"""Balance: how many copies of each picture bring each class of a shard to what it is to have.

need = target - have, class by class, the one that lacks most first. Its copies go to the pictures
that show it, in turns, those that show most of it first. A copy counts for all classes that it
shows. What a shard makes depends on that shard alone, and on numbers that the recipe names: so
shards may come on different days, and make what they would have made together.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from transforms import paths, storage
from transforms.augmentation.draws import Draws
from transforms.augmentation.recipe import Balance, RecipeError

Counts = Mapping[int, int]  # by class id


@dataclasses.dataclass(frozen=True)
class Copies:
    """How many copies are made.

    Attributes:
        of: int64 [N], by picture.
        need: by class, what the shard is to make in all; not whole where it is a share.
        got: by class, what these copies show before they are changed.
    """

    of: npt.NDArray[np.int64]
    need: Mapping[int, float]
    got: Counts

    def short(self, besides: Mapping[str, int] | None = None) -> dict[int, int]:
        """Classes that stay below what is needed, with what lacks.

        Args:
            besides: what else was made, by class id as text.
        """
        have = {int(c): n for c, n in (besides or {}).items()}
        lacks = {
            c: math.floor(n - self.got.get(c, 0) - have.get(c, 0)) for c, n in self.need.items()
        }
        return {c: lack for c, lack in lacks.items() if lack > 0}

    def to_generate(self, max_synthetic_share: float) -> dict[int, int]:
        """What a generator is to make of what lacks: all, or the same part of all classes where
        more synthetic pictures would come together than may."""
        short = self.short()
        room = max(0, _room(len(self.of), max_synthetic_share) - int(self.of.sum()))
        total = sum(short.values())
        if total <= room:
            return short
        return {c: lack * room // total for c, lack in short.items() if lack * room // total}


def plan_copies(
    counts: Sequence[Counts],
    per_image: int,
    balance: Balance | None,
    have: Counts | None,
    draws: Draws,
) -> Copies:
    """Copies of each picture of a shard.

    Args:
        counts: by picture, pixels of each class, or {label: 1}.
        per_image: copies that every picture gets.
        balance: what is wanted besides; None for nothing.
        have: by class, what the whole source has; None to balance the shard in itself.
        draws: decides about parts of a copy, where the shard's share is not a whole number.
    """
    copies = np.full(len(counts), per_image, np.int64)
    if balance is None or not counts:
        return Copies(copies, {}, {})
    classes = sorted({*(c for each in counts for c in each), *(have or {})})
    shown = np.array([[each.get(c, 0) for c in classes] for each in counts], np.int64)
    if balance.by == "images":
        shown = (shown > 0).astype(np.int64)
    need = _need(classes, shown, per_image, balance, have)
    giving = _Giving(copies, shown, balance)
    in_source = np.maximum(1, shown.sum(0))
    for c in sorted(range(len(classes)), key=lambda c: (-need[c] / in_source[c], c)):
        giving.give(c, need[c], draws.uniform() if have is not None else 0.0)
    return Copies(
        copies,
        {c: float(n) for c, n in zip(classes, need, strict=True) if n > 0},
        {c: int(n) for c, n in zip(classes, giving.got, strict=True)},
    )


def _need(
    classes: Sequence[int],
    shown: npt.NDArray[np.int64],
    per_image: int,
    balance: Balance,
    have: Counts | None,
) -> npt.NDArray[np.float64]:
    """float64 [C]: what the shard is to make of each class beyond the copies that all get."""
    here = shown.sum(0).astype(np.float64)
    total = here if have is None else np.array([have.get(c, 0) for c in classes], np.float64)
    total = total * (1 + per_image)
    if balance.target == "largest":
        target = np.full(len(classes), total.max())
    elif isinstance(balance.target, int):
        target = np.full(len(classes), float(balance.target))
    else:
        target = np.array([balance.target.get(c, 0) for c in classes], np.float64)
    lacks = np.asarray(np.maximum(0.0, target - total), np.float64)
    if have is None:
        return lacks
    share = np.divide(here * (1 + per_image), total, out=np.zeros(len(classes)), where=total > 0)
    return np.asarray(lacks * share, np.float64)


def _room(pictures: int, max_share: float) -> int:
    """Copies that may be made of so many pictures: copies / (pictures + copies) <= max_share."""
    return math.floor(round(pictures * max_share / (1 - max_share), 6))


class _Giving:
    """Gives copies to pictures, class by class, until what is needed is there."""

    def __init__(
        self, copies: npt.NDArray[np.int64], shown: npt.NDArray[np.int64], balance: Balance
    ) -> None:
        """
        Args:
            copies: int64 [N], which all get anyway; added to.
            shown: int64 [N, C], what each picture shows.
        """
        self.got = np.zeros(shown.shape[1], np.int64)
        self._copies = copies
        self._shown = shown
        self._most = balance.max_copies
        self._room = _room(len(copies), balance.max_synthetic_share) - int(copies.sum())

    def give(self, c: int, need: float, chance: float) -> None:
        """Gives copies of those that show column `c`, in turns.

        Args:
            chance: the last copy is given when a larger part of it than this is needed.
        """
        column = self._shown[:, c]
        holders = np.argsort(-column, kind="stable")[: np.count_nonzero(column)]
        while (free := holders[self._copies[holders] < self._most]).size:
            for i in free:
                if self._room <= 0 or need - self.got[c] <= chance * column[i]:
                    return
                self._copies[i] += 1
                self.got += self._shown[i]
                self._room -= 1


def read_have(path: str, by: str) -> dict[int, int]:
    """Counts by class id from a metrics.json of a run, or from YAML {class id: count}.

    Raises:
        RecipeError: it cannot be read, or holds no such counts.
    """
    try:
        data = storage.read_bytes(paths.absolute(path))
        found = yaml.safe_load(data) if not path.endswith(".json") else json.loads(data)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"balance.have: cannot read {path}: {error}") from error
    try:
        counts = _counts(found["sums"], by) if "sums" in found else found
        return {int(c): int(n) for c, n in counts.items() if int(n) >= 0}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise RecipeError(
            f"balance.have: {path} holds no counts of {by} by class id; expected the metrics.json "
            "of a run over masks or labels, or lines such as `3: 1200`"
        ) from error


def _counts(sums: Mapping[str, Any], by: str) -> Mapping[Any, Any]:
    for name in (f"source_{by}", f"class_{by}", "labels"):
        if name in sums:
            values = sums[name]
            return dict(enumerate(values)) if isinstance(values, list) else dict(values)
    raise KeyError(by)
