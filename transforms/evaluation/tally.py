"""Adding up the pictures of a shard, and making their rows: many at once, for that is faster.

All sums are whole numbers. Means over pictures add up in units of 2**-40.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.confusion import Counts
from transforms.evaluation.overlap import Areas, areas, by_class, means
from transforms.evaluation.scoring import LISTS, SCORES, UNIT, Scored, Scoring
from transforms.sums import Sums, add

AT_ONCE = 64
_NUMBERS = ("resized_images", "one_class_images", "empty_images")


@dataclasses.dataclass
class _Means:
    """Sum of one metric over pictures, in units of 2**-40, and of how many."""

    total: int = 0
    count: int = 0


class Tally:
    """The sums of one shard."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        classes = scoring.classes
        self._counts = np.zeros(classes + 2, np.int64)
        self._images = np.zeros(classes, np.int64)
        self._joint = np.zeros((classes + 2, classes + 2), np.int64)
        self._iou = [np.zeros(classes, np.int64) for _ in range(2)]
        self._means = {name: _Means() for name in SCORES}
        self._sizes: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._numbers = dict.fromkeys(_NUMBERS, 0)
        self._others: Sums = {}

    def add(self, pictures: Sequence[Scored]) -> list[dict[str, Any]]:
        """Adds pictures, at least one; returns their rows."""
        rows = [dict(picture.row) for picture in pictures]
        counts = np.stack([picture.counts for picture in pictures])
        shown = counts[:, :-2] > 0
        lists: dict[str, Counts] = {LISTS[0]: counts[:, :-2]}
        there = shown
        if self._scoring.labels is not None:
            joints = np.stack([p.joint for p in pictures if p.joint is not None])
            area = areas(joints)
            lists |= dict(zip(LISTS[1:], area, strict=True))
            there = shown | (area.true > 0)
            self._add_metrics(rows, joints, area)
        else:
            for row, number in zip(rows, counts[:, -1].tolist(), strict=True):
                row["out_of_range_pixels"] = number
        numbers_of, classes = np.nonzero(there)
        ends = np.cumsum(np.bincount(numbers_of, minlength=len(rows))).tolist()
        flat = {"classes": classes.tolist()}
        flat |= {name: values[numbers_of, classes].tolist() for name, values in lists.items()}
        for row, begin, end in zip(rows, [0, *ends], ends, strict=False):
            for name, numbers in flat.items():
                row[name] = numbers[begin:end]
        self._add_shown(rows, counts, shown)
        self._add_values(rows)
        for picture in pictures:
            if picture.sums:
                self._others = add(self._others, picture.sums)
        return rows

    def _add_metrics(
        self, rows: list[dict[str, Any]], joints: npt.NDArray[np.int64], area: Areas
    ) -> None:
        self._joint += joints.sum(axis=0)
        table = by_class(area, self._scoring.absent)
        there = ~np.isnan(table["iou"])
        evaluated = area.true.sum(axis=1)
        there[evaluated == 0] = False
        units = np.rint(np.where(there, table["iou"], 0) * UNIT).astype(np.int64)
        self._iou = [
            total + part.sum(axis=0) for total, part in zip(self._iou, (units, there), strict=True)
        ]
        columns = {
            **{name: v for name, v in means(table, area).items() if name in SCORES},
            "evaluated_pixels": evaluated,
            "ignored_pixels": joints[:, -2].sum(axis=1),
            "out_of_range_pixels": joints[:, -1].sum(axis=1) + joints[:, :-2, -1].sum(axis=1),
            "classes_evaluated": np.count_nonzero(area.true + area.predicted, axis=1),
        }
        plain = {name: values.tolist() for name, values in columns.items()}
        for number, row in enumerate(rows):
            there_is = evaluated[number] > 0
            row.update(
                {n: v[number] for n, v in plain.items() if there_is or n.endswith("_pixels")}
            )

    def _add_shown(
        self,
        rows: list[dict[str, Any]],
        counts: npt.NDArray[np.int64],
        shown: npt.NDArray[np.bool_],
    ) -> None:
        self._counts += counts.sum(axis=0)
        self._images += shown.sum(axis=0)
        self._numbers["one_class_images"] += int((shown.sum(axis=1) == 1).sum())
        self._numbers["empty_images"] += int((~shown[:, 1:].any(axis=1)).sum())
        for row in rows:
            self._sizes[0][str(row["width"])] += 1
            self._sizes[1][str(row["height"])] += 1
            self._numbers["resized_images"] += row["resized"]

    def _add_values(self, rows: list[dict[str, Any]]) -> None:
        """Adds the metrics of pictures to their means; what is no number becomes None."""
        for row in rows:
            for name, mean in self._means.items():
                value = row.get(name)
                if value is None or math.isnan(value):
                    row[name] = None
                else:
                    mean.total += round(value * UNIT)
                    mean.count += 1

    def sums(self) -> Sums:
        """All that was added."""
        found: Sums = {
            "pixels": int(self._counts.sum()),
            "ignored_pixels": int(self._counts[-2]),
            "out_of_range_pixels": int(self._counts[-1]),
            "class_pixels": self._counts[:-2],
            "class_images": self._images,
            "widths": dict(self._sizes[0]),
            "heights": dict(self._sizes[1]),
            **self._numbers,
            **self._others,
        }
        if self._scoring.labels is not None:
            found["joint"] = self._joint.ravel()
            found["image_iou"], found["image_iou_count"] = self._iou
        found["image_metrics"] = {
            name: {"sum": mean.total, "count": mean.count}
            for name, mean in self._means.items()
            if mean.count
        }
        return found
