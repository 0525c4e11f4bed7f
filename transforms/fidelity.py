"""Metrics of generated against real pictures from samples of their features.

KID needs no assumption on the features and has no bias from the number of pictures, unlike the
Frechet distance. Improved precision and recall tell quality from diversity.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
_BLOCK_BYTES = 64 << 20  # of distances held at once


class Estimate(NamedTuple):
    """A mean over subsets, and the standard deviation of one of them."""

    mean: float
    std: float


def kid(a: npt.ArrayLike, b: npt.ArrayLike, subsets: Iterable[tuple[Indices, Indices]]) -> Estimate:
    """Kernel distance (Binkowski et al. 2018): the squared MMD, unbiased, averaged over subsets.

    Args:
        a, b: features [n, D] and [m, D].
        subsets: rows of a and of b, as many of both (see `random_subsets`).
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    values = [squared_mmd(x[rows_a], y[rows_b]) for rows_a, rows_b in subsets]
    return Estimate(float(np.mean(values)), float(np.std(values)))


def squared_mmd(x: Floats, y: Floats) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of two sets of m rows, with the
    kernel (x . y / D + 1)^3. May be negative. Raises ValueError for fewer than two rows."""
    m, features = x.shape
    if y.shape != x.shape or m < 2:
        raise ValueError(f"got rows {x.shape} and {y.shape}, expected as many, and at least two")

    def kernel(p: Floats, q: Floats) -> Floats:
        x = p @ q.T
        x /= features
        x += 1.0
        return np.asarray(x * x * x)  # ** 3 takes longer

    within = 0.0
    for rows in (x, y):
        matrix = kernel(rows, rows)
        within += (matrix.sum() - np.trace(matrix)) / (m * (m - 1))
    return float(within - 2.0 * kernel(x, y).mean())


def random_subsets(
    n: int, m: int, size: int, count: int, seed: int = 0
) -> Iterator[tuple[Indices, Indices]]:
    """`count` times `size` of n rows and of m rows, without repeats; by Philox, for ever the same.

    Raises:
        ValueError: a set has fewer rows than `size`.
    """
    if min(n, m) < size:
        raise ValueError(f"cannot draw {size} of {min(n, m)} rows")
    for number in range(count):
        bits = np.random.Philox(key=np.array([seed, number], np.uint64))
        rows = [np.argsort(bits.random_raw(total), kind="stable")[:size] for total in (n, m)]
        yield rows[0], rows[1]


class Coverage(NamedTuple):
    """Improved precision and recall, each 0 to 1.

    precision: share of generated pictures that lie among the real ones: quality.
    recall: share of real pictures that lie among the generated ones: diversity.
    """

    precision: float
    recall: float


def precision_recall(generated: npt.ArrayLike, real: npt.ArrayLike, k: int = 3) -> Coverage:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    A row lies among others when it is in the ball around one of them whose radius is the distance
    to that one's k-th nearest neighbour among them.

    Args:
        generated, real: features [n, D] and [m, D].

    Raises:
        ValueError: a set has no more than k rows.
    """
    made, true = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if min(len(made), len(true)) <= k:
        raise ValueError(f"{min(len(made), len(true))} rows have no {k} neighbours each")
    return Coverage(
        float(_among(made, true, _radii(true, k)).mean()),
        float(_among(true, made, _radii(made, k)).mean()),
    )


def nearest(rows: npt.ArrayLike, among: npt.ArrayLike) -> tuple[Indices, Floats]:
    """Of each row, which of the others is nearest, and its Euclidean distance."""
    x, y = np.asarray(rows, np.float64), np.asarray(among, np.float64)
    found = [(block.argmin(axis=1), block.min(axis=1)) for _, block in _squared_blocks(x, y)]
    places, squared = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return places, np.sqrt(squared)


def _radii(rows: Floats, k: int) -> Floats:
    """Squared distance of each row to its k-th nearest other one."""
    radii = np.empty(len(rows))
    for span, block in _squared_blocks(rows, rows):
        radii[span] = np.partition(block, k, axis=1)[:, k]  # the nearest is the row itself
    return radii


def _among(rows: Floats, centres: Floats, squared_radii: Floats) -> npt.NDArray[np.bool_]:
    inside = np.empty(len(rows), np.bool_)
    for span, block in _squared_blocks(rows, centres):
        inside[span] = (block <= squared_radii).any(axis=1)
    return inside


def _squared_blocks(x: Floats, y: Floats) -> Iterator[tuple[slice, Floats]]:
    """Squared distances of all rows of x to all of y, some rows of x at a time."""
    lengths_x, lengths_y = (np.einsum("ij,ij->i", rows, rows) for rows in (x, y))
    step = max(1, _BLOCK_BYTES // (8 * max(1, len(y))))
    for first in range(0, len(x), step):
        span = slice(first, min(len(x), first + step))
        block = lengths_x[span, np.newaxis] + lengths_y - 2.0 * (x[span] @ y.T)
        yield span, np.maximum(block, 0.0)


class ScoreSums(NamedTuple):
    """Mergeable sums for the Inception score: rows, the sum of their probabilities [C], and the
    sum over the rows of p ln p."""

    n: int
    probabilities: Floats
    negative_entropy: float

    @staticmethod
    def of(probabilities: npt.ArrayLike) -> "ScoreSums":
        """Of rows [n, C], each of which sums to 1."""
        p = np.asarray(probabilities, np.float64)
        logs = np.log(np.where(p > 0, p, 1.0))
        return ScoreSums(len(p), p.sum(axis=0), float((p * logs).sum()))

    def merge(self, other: "ScoreSums") -> "ScoreSums":
        return ScoreSums(
            self.n + other.n,
            self.probabilities + other.probabilities,
            self.negative_entropy + other.negative_entropy,
        )


def inception_score(sums: ScoreSums) -> float:
    """exp of the mean divergence of a row from the mean of all (Salimans et al. 2016), in one
    split; 1 to C. Raises ValueError for no rows."""
    if not sums.n:
        raise ValueError("no pictures have no Inception score")
    mean = sums.probabilities / sums.n
    logs = np.log(np.where(mean > 0, mean, 1.0))
    return float(np.exp(sums.negative_entropy / sums.n - (mean * logs).sum()))
