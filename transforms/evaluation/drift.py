"""Drift: how far two distributions are apart, in numbers from 0 to 1."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt


def jensen_shannon(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Jensen-Shannon divergence of two histograms over the same bins, base 2.

    0 for equal shares, 1 for distributions that share no bin. It needs no smoothing of empty bins,
    and does not depend on which one is first (Lin, IEEE Trans. Inf. Theory 37, 1991).

    Args:
        a, b: counts or shares, of one length, none negative.

    Returns:
        NaN when one of them is empty.
    """
    first, second = (np.asarray(counts, np.float64) for counts in (a, b))
    if not first.sum() or not second.sum():
        return float("nan")
    first, second = first / first.sum(), second / second.sum()
    middle = (first + second) / 2
    return float(np.clip((_divergence(first, middle) + _divergence(second, middle)) / 2, 0, 1))


def _divergence(shares: npt.NDArray[np.float64], of: npt.NDArray[np.float64]) -> float:
    there = shares > 0
    return float((shares[there] * np.log2(shares[there] / of[there])).sum())


def aligned(
    a: Mapping[str, int] | Sequence[int], b: Mapping[str, int] | Sequence[int]
) -> tuple[list[int], list[int]]:
    """Counts over the same bins: of names, all that either has; a shorter list is filled with 0."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        names = sorted({*a, *b})
        return [a.get(name, 0) for name in names], [b.get(name, 0) for name in names]
    first, second = list(a), list(b)
    longest = max(len(first), len(second))
    return (
        [*first, *[0] * (longest - len(first))],  # type: ignore[list-item]
        [*second, *[0] * (longest - len(second))],  # type: ignore[list-item]
    )


def moved_shares(a: Sequence[int], b: Sequence[int]) -> npt.NDArray[np.float64]:
    """float64 [C]: share of each class in the first less its share in the second."""
    first, second = (np.asarray(counts, np.float64) for counts in aligned(a, b))
    return np.asarray(first / max(1.0, first.sum()) - second / max(1.0, second.sum()))
