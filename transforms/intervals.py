"""Confidence intervals of means of few values, such as the scores of trainings by several seeds."""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import special

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; all NaN where a value is not a number."""

    mean: float
    low: float
    high: float


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Student's t interval (1908) of the mean of n independent, about normal values:

        mean +- t * s / sqrt(n),   s^2 = sum over i of (x[i] - mean)^2 / (n - 1)

    with t the 97.5 % quantile of Student's distribution of n - 1 degrees of freedom. Of the
    differences of pairs it is the interval of the paired t test: what both values of a pair have in
    common, such as the first weights of a seed, falls out. Equal values have an interval of no
    width.

    Args:
        values: float [n], n at least 2.

    Raises:
        ValueError: there are fewer.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"values have the shape {x.shape}, expected [n] with n of 2 or more")
    t = float(special.stdtrit(len(x) - 1, (1 + LEVEL) / 2))
    mean = float(x.mean())
    if (x == x[0]).all():  # exactly, whatever the mean of equal values is rounded to
        return Interval(float(x[0]), float(x[0]), float(x[0]))
    half = t * float(x.std(ddof=1)) / float(np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)
