"""What a generator is given for one item: random numbers, a label, nothing that depends on others.

Random numbers come from a counter-based generator (Philox 4x64, Salmon et al. 2011) whose key is
(seed, item) and whose counter starts at (input, attempt): the same item has the same numbers in
any batch, worker and order. Its raw integers become numbers here, not in numpy's distributions,
whose streams may change between versions.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from models.binding import Binding, OtherInput

_CUT = 2.0  # of a truncated normal, as in BigGAN (Brock et al. 2019, section 3.1)
_MASK = (1 << 64) - 1


def draw(
    binding: Binding, seed: int, item: int, attempt: int, label: int | None
) -> dict[str, npt.NDArray[Any]]:
    """The inputs of one item by name, each of its own shape without the batch; no constants.

    Args:
        seed: of the run, 0 to 2**64 - 1.
        item: number of the picture in the run, from 0.
        attempt: 0 for the first.
        label: the class that is wanted; None for a model that takes none.

    Raises:
        ValueError: the model takes a label and there is none, or it is out of range.
    """
    drawn = {}
    for number, other in enumerate(binding.others):
        if other.role == "latent":
            drawn[other.name] = latent(other, seed, item, attempt, number)
        elif other.role == "label":
            drawn[other.name] = encode_label(other, label)
    return drawn


def latent(
    other: OtherInput, seed: int, item: int, attempt: int = 0, number: int = 0
) -> npt.NDArray[np.float32]:
    """float32 of the input's shape. See OtherInputCard for the distributions."""
    key = np.array([seed & _MASK, item & _MASK], np.uint64)  # a list goes by float64: it rounds
    bits = np.random.Philox(key=key, counter=np.array([0, 0, number, attempt], np.uint64))
    raw = bits.random_raw(math.prod(other.shape))
    uniform = ((np.asarray(raw, np.uint64) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return _shaped(other, uniform).reshape(other.shape).astype(np.float32)


def _shaped(other: OtherInput, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Numbers of the distribution from uniform ones in (0, 1), by its inverse."""
    if other.distribution == "uniform":
        return 2.0 * uniform - 1.0
    if other.distribution == "truncated_normal":
        return np.asarray(ndtri(ndtr(-_CUT) + uniform * (ndtr(_CUT) - ndtr(-_CUT))))
    normal = np.asarray(ndtri(uniform))
    return normal / np.linalg.norm(normal) if other.distribution == "sphere" else normal


def encode_label(other: OtherInput, label: int | None) -> npt.NDArray[Any]:
    """A label as the input takes it: its id, or one-hot. Raises ValueError."""
    if label is None or not 0 <= label < other.labels:
        raise ValueError(f"got label {label}, expected 0 to {other.labels - 1} for {other.name!r}")
    if other.encoding == "id":
        return np.full(other.shape, label, _numpy_dtype(other.dtype))
    encoded = np.zeros(other.shape, _numpy_dtype(other.dtype))
    encoded[label] = 1
    return encoded


def batch_inputs(
    tf: Any, binding: Binding, items: list[Mapping[str, npt.NDArray[Any]]], rows: int
) -> dict[str, Any]:
    """Tensors by name for all inputs that take no picture, of `rows` rows.

    Args:
        items: what `draw` gave for each; the last is repeated to fill the batch. Empty for a model
            that takes constants only.
    """
    tensors = {}
    for other in binding.others:
        dtype = tf.as_dtype(other.dtype)
        if other.role == "constant":
            shape = (rows, *other.shape) if other.batched else other.shape
            tensors[other.name] = tf.cast(tf.broadcast_to(tf.constant(other.value), shape), dtype)
        else:
            stacked = [items[min(row, len(items) - 1)][other.name] for row in range(rows)]
            tensors[other.name] = tf.cast(tf.constant(np.stack(stacked)), dtype)
    return tensors


def _numpy_dtype(name: str) -> Any:
    return np.float32 if name == "bfloat16" else np.dtype(name)
