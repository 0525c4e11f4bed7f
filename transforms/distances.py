"""Distances of generated from real pictures, and the Inception score: of merged states only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.feature_state import FeatureState, Sample
from transforms.fidelity import (
    Coverage,
    Estimate,
    inception_score,
    kid,
    precision_recall,
    random_subsets,
)
from transforms.moments import Moments, frechet_distance

KID_SUBSETS, KID_ROWS = 100, 1000
_FEWER_SUBSETS = 20  # of classes, and of the floor
_LEAST_ROWS = 10  # of either side, for anything to be said
_NEIGHBOURS = 3
_ROWS_A_FEATURE = 10  # with fewer, most of a Frechet distance may be bias


def histogram_distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Earth mover's distance of two histograms of equal bins, in bins; NaN if one is empty."""
    first, second = (np.asarray(counts, np.float64) for counts in (a, b))
    if not first.sum() or not second.sum():
        return float("nan")
    gaps = np.cumsum(first / first.sum()) - np.cumsum(second / second.sum())
    return float(np.abs(gaps).sum())


class Distances(NamedTuple):
    """Generated from real pictures; None where there are too few.

    Attributes:
        n, m: generated and real pictures behind the Frechet distance.
        frechet: biased upwards when `few`.
        few: fewer than ten pictures a feature on one side.
        kid: of samples of all of them.
        coverage: of `rows` pictures of either side: it grows with their number.
    """

    n: int
    m: int
    frechet: float | None
    few: bool
    kid: Estimate | None
    coverage: Coverage | None
    rows: int

    def to_json(self) -> dict[str, Any]:
        found = self._asdict()
        for name in ("kid", "coverage"):
            value = found[name]
            found[name] = None if value is None else value._asdict()
        return found


def distances(
    made: tuple[Moments, npt.NDArray[np.float32]],
    real: tuple[Moments, npt.NDArray[np.float32]],
    subsets: int = KID_SUBSETS,
    most_rows: int | None = None,
) -> Distances:
    """Of moments and sampled rows of both sides, of which at most so many count for coverage."""
    (a, x), (b, y) = made, real
    least = min(a.n, b.n)
    rows = min(len(x), len(y))
    enough = rows >= _LEAST_ROWS
    covering = rows if most_rows is None else min(rows, most_rows)
    size = min(KID_ROWS, rows if rows < 2 * _LEAST_ROWS else rows // 2)
    return Distances(
        n=a.n,
        m=b.n,
        frechet=frechet_distance(a, b) if least >= _LEAST_ROWS else None,
        few=least < _ROWS_A_FEATURE * len(a.mean),
        kid=kid(x, y, random_subsets(len(x), len(y), size, subsets)) if enough else None,
        coverage=precision_recall(x[:covering], y[:covering], _NEIGHBOURS) if enough else None,
        rows=covering,
    )


def compare(made: FeatureState, real: FeatureState) -> dict[str, Any]:
    """All distances of generated from real pictures: over all, by class, and their floor.

    The floor is what the same numbers are between two halves of the real sample, of as many
    pictures as there are generated ones, if the sample has them: nothing can be better.
    """
    x, y = made.sample, real.sample
    half = min(len(y.features) // 2, len(x.features))
    found: dict[str, Any] = {
        "all": distances(
            (made.all_moments(), x.features),
            (real.all_moments(), y.features),
            most_rows=half if half >= _LEAST_ROWS else None,
        ).to_json()
    }
    if half >= _LEAST_ROWS:
        first, second = y.features[:half], y.features[-half:]  # in the order of hashes: by chance
        found["floor"] = distances(
            (Moments.of(first), first), (Moments.of(second), second), _FEWER_SUBSETS
        ).to_json()
    labels = sorted((made.moments.keys() & real.moments.keys()) - {-1})
    found["classes"] = {
        str(label): distances(
            (made.moments[label], _rows(x, label)),
            (real.moments[label], _rows(y, label)),
            _FEWER_SUBSETS,
        ).to_json()
        for label in labels
    }
    return found


def inception_scores(state: FeatureState) -> dict[str, Any] | None:
    """{"all": score, "n": pictures, "classes": {label: score}}; None without a verifier."""
    sums = state.all_scores()
    if sums is None:
        return None
    by_class = {str(g): inception_score(s) for g, s in sorted(state.scores.items()) if g >= 0}
    return {"all": inception_score(sums), "n": sums.n, "classes": by_class}


def _rows(sample: Sample, label: int) -> npt.NDArray[np.float32]:
    return np.asarray(sample.features[sample.labels == label])
