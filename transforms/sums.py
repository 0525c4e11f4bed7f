"""The algebra of metrics: nested dicts of whole numbers that add up, in any order, exactly.

A metric is sums plus a last formula. The sums are a dict of ints, lists of ints and such dicts
again; two of them are added name by name, a shorter list as if filled with zeros. Whole numbers
only: adding floats depends on the order, and a merged run would not equal a whole one. While a
shard is under way, lists may be numpy arrays of whole numbers and equal length.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Sums = dict[str, Any]

# Log bins: value v lies in bin floor(log(v) / log(GAMMA)); quantiles are right to 1 %.
# DDSketch without collapsing (Masson, Rim and Lee, VLDB 2019): unlike quantile sketches that
# compress, it merges exactly in any order.
_GAMMA = 1.02


def add(a: Mapping[str, Any], b: Mapping[str, Any]) -> Sums:
    """The sum of two sums; neither is changed.

    Raises:
        TypeError: when one name holds different kinds of values, or anything but whole numbers.
    """
    merged = dict(a)
    for name, value in b.items():
        merged[name] = _add(name, merged[name], value) if name in merged else value
    return merged


def _add(name: str, a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape:
        return a + b
    if isinstance(a, list) and isinstance(b, list):
        longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
        head = [x + y for x, y in zip(longer, shorter, strict=False)]
        return head + longer[len(shorter) :]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return add(a, b)
    raise TypeError(f"{name}: cannot add {type(a).__name__} and {type(b).__name__}")


def plain(sums: Mapping[str, Any]) -> Sums:
    """The same sums as JSON holds them: lists for arrays, names in order, whatever was first."""
    return {name: _plain(sums[name]) for name in sorted(sums)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def log_bin(value: float) -> Sums:
    """The sums of one positive number for `quantiles`: {bin: 1}. Zero and below share a bin."""
    return {str(math.floor(math.log(value) / math.log(_GAMMA))) if value > 0 else "zero": 1}


def quantiles(bins: Mapping[str, int], at: tuple[float, ...]) -> list[float]:
    """Quantiles from added-up `log_bin`s, each within 1 % of the true one.

    Args:
        bins: {bin: count}; may be empty.
        at: which quantiles, each in [0, 1].

    Returns:
        One number for each of `at`; NaN where bins is empty.
    """
    middle = {0.0 if name == "zero" else _GAMMA ** (int(name) + 0.5): n for name, n in bins.items()}
    return _quantiles(middle, at)


def exact_quantiles(counts: Mapping[str, int], at: tuple[float, ...]) -> list[float]:
    """The same from counts of whole numbers, {"480": 3}, without an error."""
    return _quantiles({float(name): n for name, n in counts.items()}, at)


def _quantiles(counts: Mapping[float, int], at: tuple[float, ...]) -> list[float]:
    if not counts:
        return [math.nan] * len(at)
    values = sorted(counts)
    upto = np.cumsum([counts[value] for value in values])
    ranks = [max(1, math.ceil(q * int(upto[-1]))) for q in at]
    return [values[int(np.searchsorted(upto, rank))] for rank in ranks]


def byte_histogram(value: float) -> npt.NDArray[np.int64]:
    """The histogram of one number from 0 to 255, int64 [256]."""
    counts = np.zeros(256, np.int64)
    counts[min(255, int(value))] = 1
    return counts


def histogram_mean(counts: list[int] | npt.NDArray[np.int64]) -> float:
    """Mean of values in [0, 1] that were counted in equal steps: bin i of n stands for i/(n-1)."""
    return histogram_means(np.asarray(counts, np.int64)[np.newaxis])[0]


def histogram_means(counts: npt.NDArray[np.int64]) -> list[float]:
    """The same of each row of int64 [k, n]; NaN for one that is empty."""
    top = counts.shape[1] - 1
    moments = (counts @ _ones_and_bins(top + 1)).tolist()
    return [weighted / (total * top) if total else math.nan for total, weighted in moments]


@functools.cache
def _ones_and_bins(bins: int) -> npt.NDArray[np.int64]:
    return np.stack([np.ones(bins, np.int64), np.arange(bins)], axis=1)
