"""Confidence intervals of a data set's metrics, by drawing its images again (Efron, 1979)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from transforms.evaluation.overlap import Absent, Areas, by_class, means

ROUNDS = 1000
METRICS = ("pixel_accuracy", "miou", "mdice", "mean_accuracy", "fwiou")
_CHUNK = 32  # rounds at once


class Interval(NamedTuple):
    """The middle 95 % of a metric over the rounds."""

    low: float
    high: float


def intervals(
    areas: Any, classes: int, absent: Absent = "skip", rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Interval]:
    """95 % percentile intervals of the metrics of a data set.

    Args:
        areas: [N, 3 C] of whole numbers, dense or scipy.sparse: hit, predicted and true pixels
            (see Areas) of each image. Its order matters: sort images by name.
        rounds: how often N of N images are drawn, with replacement.
        seed: of Philox, a counter-based generator; round r takes stream r.

    Returns:
        By name (see METRICS). Empty for fewer than two images.
    """
    matrix = sparse.csr_matrix(areas, dtype=np.float64)
    if matrix.shape[0] < 2 or rounds < 1:
        return {}
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for weights in _weights(matrix.shape[0], rounds, seed):
        sums = np.asarray(weights @ matrix).reshape(len(weights), 3, classes)
        for name, values in _metrics(sums, absent).items():
            found.setdefault(name, []).append(values)
    return {name: _interval(np.concatenate(parts)) for name, parts in found.items()}


def _weights(images: int, rounds: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each image is drawn, [up to _CHUNK, N]."""
    for first in range(0, rounds, _CHUNK):
        rows = []
        for number in range(first, min(rounds, first + _CHUNK)):
            rng = np.random.Generator(np.random.Philox(key=[seed, number]))
            drawn = rng.integers(0, images, images)
            rows.append(np.bincount(drawn, minlength=images).astype(np.float64))
        yield np.stack(rows)


def _metrics(sums: npt.NDArray[np.float64], absent: Absent) -> dict[str, npt.NDArray[np.float64]]:
    """Metrics of [R, 3, C], float64 [R] each."""
    area = Areas(sums[:, 0], sums[:, 1], sums[:, 2])
    found = means(by_class(area, absent), area)
    return {name: found[name] for name in METRICS}


def _interval(values: npt.NDArray[np.float64]) -> Interval:
    numbers = values[np.isfinite(values)]
    if not len(numbers):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(numbers, (0.025, 0.975))
    return Interval(float(low), float(high))
