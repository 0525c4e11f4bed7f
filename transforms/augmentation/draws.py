"""Random numbers that belong to one step of one copy of one picture, and to nothing else.

They come from a counter-based generator (Philox 4x64, Salmon et al. 2011) whose key is a hash of
seed, picture, copy and step: batches, workers, threads and order change none. Its raw integers
become numbers here, not in numpy's distributions, whose streams may change between versions.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

_DIGITS = 6  # what is drawn is told in full by as many


class Draws:
    """A stream of numbers. What comes out can be written as JSON and read again unchanged."""

    def __init__(self, seed: int, *names: str | int) -> None:
        """
        Args:
            seed: of the recipe.
            names: whose numbers these are: key of the picture, copy, number and name of the step.
        """
        text = "\0".join(map(str, (seed, *names)))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        self._bits = np.random.Philox(key=np.frombuffer(digest[:16], "<u8").astype(np.uint64))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number from low to high, rounded."""
        return round(low + (high - low) * float(_unit(self._bits, 1)[0]), _DIGITS)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return min(high, low + int(float(_unit(self._bits, 1)[0]) * (high - low + 1)))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return float(_unit(self._bits, 1)[0]) < probability

    def seed(self) -> int:
        """For a field of numbers, 0 to 2**53 - 1: JSON's readers know no larger ones."""
        return int(self._bits.random_raw()) >> 11


def uniform_field(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """float64 of a shape, each even in (0, 1)."""
    return _unit(_bits(seed), math.prod(shape)).reshape(shape)


def normal_field(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """float64 of a shape, each standard normal."""
    return np.asarray(ndtri(uniform_field(seed, shape)))


def _bits(seed: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, 0], np.uint64))


def _unit(bits: np.random.Philox, count: int) -> npt.NDArray[np.float64]:
    raw = np.asarray(bits.random_raw(count), np.uint64)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
