"""Mean and covariance of features that come in parts, and the Frechet distance between two sets.

Moments of parts are merged by the update of Chan, Golub and LeVeque (1983) in float64: exact to
rounding, where sums of squares would cancel. Distances are made of merged moments only; the mean
of distances between parts is not the distance.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Moments:
    """What is to be known of n rows of D features.

    Attributes:
        n: number of rows.
        mean: float64 [D].
        scatter: float64 [D, D], the sum over the rows of (x - mean)(x - mean)^T.
    """

    n: int
    mean: Floats
    scatter: Floats

    @staticmethod
    def of(features: npt.NDArray[np.floating]) -> "Moments":
        """Of rows [n, D]; n may be 0."""
        rows = np.asarray(features, np.float64)
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        centred = rows - mean
        return Moments(len(rows), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> "Moments":
        """Of the rows of both. Raises ValueError when they have different features."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"{len(self.mean)} features and {len(other.mean)} cannot be merged")
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        scatter = self.scatter + other.scatter + np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, mean, scatter)

    @property
    def covariance(self) -> Floats:
        """Unbiased, float64 [D, D]. Raises ValueError for fewer than two rows."""
        if self.n < 2:
            raise ValueError(f"a covariance of {self.n} rows does not exist")
        return self.scatter / (self.n - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet distance between the normal distributions of these moments.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Heusel et al. 2017. The trace of the root is the
    sum of the singular values of S1^(1/2) S2^(1/2): no complex numbers, and singular matrices, as
    fewer rows than features give, need no correction.

    Raises:
        ValueError: fewer than two rows, or different features.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"{len(a.mean)} features and {len(b.mean)} have no distance")
    cross = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False).sum()
    step = a.mean - b.mean
    return float(step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross)


def _root(covariance: Floats) -> Floats:
    """Symmetric square root. What is 0 but for rounding is 0: its root would not be small."""
    values, vectors = np.linalg.eigh(covariance)
    least = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return np.asarray((vectors * np.sqrt(np.where(values > least, values, 0.0))) @ vectors.T)


def packed(scatter: Floats) -> Floats:
    """The upper triangle of a symmetric matrix, float64 [D (D + 1) / 2]."""
    return scatter[np.triu_indices(len(scatter))]


def unpacked(triangle: Floats, size: int) -> Floats:
    """The symmetric matrix [size, size] of an upper triangle."""
    full = np.zeros((size, size))
    full[np.triu_indices(size)] = triangle
    return full + np.triu(full, 1).T
