"""Fingerprints of pictures, and finding equal and nearly equal ones without comparing all pairs.

    digest            64 bits of the pixels: equal for equal pictures only
    perceptual hash   64 bits of what it looks like: a few differ when a picture was scaled,
                      compressed or brightened

The perceptual hash is the DCT one (as imagehash.phash): its bits tell which low frequencies are
above their median, so half of them are set whatever the picture is. Bits of a difference hash are
the signs of gradients, and 0 in all flat places: pictures on an even ground, such as digits, are
then all alike. The test measures it.
"""

import hashlib
import itertools

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

Hashes = npt.NDArray[np.uint64]
BITS = 64
MOST_NEAR_BITS = 7  # beyond it, bands are so short that most hashes share one
_SIDE, _LOW = 32, 8


def digest(pixels: npt.NDArray[np.uint8]) -> int:
    """64 bits of a picture's size and pixels, uint8 [H, W, 3] or grey [H, W]. A grey picture and
    the same in RGB have one digest."""
    rgb = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
    data = f"{rgb.shape}".encode() + np.ascontiguousarray(rgb).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> int:
    """The 64-bit DCT hash of uint8 [H, W, 3] or grey [H, W]; the highest bit is the mean's."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = dctn(small)[:_LOW, :_LOW]
    low = np.where(np.abs(low) < 1e-6, 0.0, low)  # rounding of what is exactly 0, as on even ground
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def distance(a: Hashes | np.uint64, b: Hashes | np.uint64) -> npt.NDArray[np.int64]:
    """In how many bits hashes differ."""
    return np.asarray(np.bitwise_count(np.bitwise_xor(a, b)), np.int64)


class HashIndex:
    """Finds hashes within a few bits of a given one.

    Two hashes that differ in at most b bits agree in at least one of b + 1 bands of bits, so only
    those that share a band are compared.
    """

    def __init__(self, near_bits: int, hashes: Hashes | None = None) -> None:
        """Raises ValueError unless 0 <= near_bits <= MOST_NEAR_BITS."""
        if not 0 <= near_bits <= MOST_NEAR_BITS:
            raise ValueError(f"near_bits is {near_bits}, expected 0 to {MOST_NEAR_BITS}")
        self._near_bits = near_bits
        edges = [BITS * band // (near_bits + 1) for band in range(near_bits + 2)]
        self._bands = [
            (np.uint64(low), np.uint64((1 << (high - low)) - 1))
            for low, high in itertools.pairwise(edges)
        ]
        first = np.empty(0, np.uint64) if hashes is None else hashes
        self._hashes, self._places = np.unique(first, return_index=True)
        self._orders, self._keys = [], []
        for shift, mask in self._bands:
            keys = (self._hashes >> shift) & mask
            order = np.argsort(keys, kind="stable")
            self._orders.append(order)
            self._keys.append(keys[order])
        self._added: list[dict[int, dict[int, int]]] = [{} for _ in self._bands]
        self._size = len(first)

    def __len__(self) -> int:
        return self._size

    def add(self, value: int) -> None:
        """Adds a hash; its place is the number of those added before."""
        for (shift, mask), bucket in zip(self._bands, self._added, strict=True):
            key = value >> int(shift) & int(mask)
            bucket.setdefault(key, {}).setdefault(value, self._size)
        self._size += 1

    def nearest(self, value: int) -> tuple[int, int] | None:
        """(distance in bits, place) of the nearest hash within near_bits, the earliest of several;
        None when there is none."""
        best: tuple[int, int] | None = None
        for number, (shift, mask) in enumerate(self._bands):
            key = value >> int(shift) & int(mask)
            found = [
                ((value ^ other).bit_count(), place)
                for other, place in self._added[number].get(key, {}).items()
            ]
            keys = self._keys[number]
            first, end = (
                np.searchsorted(keys, np.uint64(key)),
                np.searchsorted(keys, np.uint64(key), side="right"),
            )
            if first < end:
                rows = self._orders[number][first:end]
                bits = distance(self._hashes[rows], np.uint64(value))
                places = self._places[rows]
                row = np.lexsort((places, bits))[0]
                found.append((int(bits[row]), int(places[row])))
            for candidate in found:
                if candidate[0] <= self._near_bits and (best is None or candidate < best):
                    best = candidate
        return best


def earlier_twins(hashes: Hashes, near_bits: int) -> npt.NDArray[np.int64]:
    """For each hash, the place of an earlier one within near_bits; -1 when there is none.

    Of several, the nearest, then the earliest.
    """
    twins = np.full(len(hashes), -1, np.int64)
    index = HashIndex(near_bits)
    for place, value in enumerate(hashes.tolist()):
        if (found := index.nearest(value)) is not None:
            twins[place] = found[1]
        index.add(value)
    return twins
