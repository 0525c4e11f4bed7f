"""Perceptual hashes equal imagehash's; near ones are found without comparing all, and all are."""

import json
from pathlib import Path

import numpy as np
import pytest
from fidelity_reference import pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from transforms.hashes import HashIndex, digest, distance, earlier_twins, perceptual_hash

REFERENCE = json.loads(Path(__file__).parents[1].joinpath("fidelity_reference.json").read_text())


def test_hashes_equal_the_reference():
    found = [f"{perceptual_hash(pixels):016x}" for pixels in pictures()]
    assert found == REFERENCE["hashes"]


@pytest.mark.parametrize("picture", pictures()[2:])
def test_hashes_stay_near_when_a_picture_is_scaled_or_brightened(picture):
    value = perceptual_hash(picture)
    image = Image.fromarray(picture)
    changed = [
        np.asarray(image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)),
        np.clip(picture.astype(int) // 2 + 20, 0, 255).astype(np.uint8),
    ]
    for other in changed:
        assert (value ^ perceptual_hash(other)).bit_count() <= 6


def test_digests_tell_any_change():
    picture = pictures()[2]
    assert digest(picture) == digest(picture.copy())
    changed = picture.copy()
    changed[3, 4, 1] ^= 1
    assert digest(picture) != digest(changed)
    assert digest(picture) != digest(picture.transpose(1, 0, 2))
    grey = pictures()[3]
    assert digest(grey) == digest(np.stack([grey] * 3, axis=-1))
    assert digest(np.zeros((2, 6), np.uint8)) != digest(np.zeros((6, 2), np.uint8))


def test_digits_are_told_apart_better_than_by_a_difference_hash():
    """Why this hash: on even ground a difference hash has few bits that are set."""

    def difference_hash(pixels):
        small = np.asarray(Image.fromarray(pixels).resize((9, 8), Image.Resampling.LANCZOS), int)
        return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())

    images = (load_digits().images[:600] * 15.9).astype(np.uint8)
    shares = {}
    for hash_of in (perceptual_hash, difference_hash):
        values = np.array([hash_of(image) for image in images], np.uint64)
        bits = distance(values[:, np.newaxis], values)[np.triu_indices(len(values), 1)]
        shares[hash_of] = np.mean(bits <= 3)
    assert shares[perceptual_hash] < shares[difference_hash] / 3


near = st.integers(0, 7)
hashes = st.lists(st.integers(0, 2**64 - 1), max_size=30)
flips = st.lists(st.lists(st.integers(0, 63), max_size=9), max_size=30)


@settings(max_examples=60)
@given(hashes, flips, near, st.integers(0, 30))
def test_the_index_finds_what_comparing_all_finds(values, changes, near_bits, stored):
    for base, bits in zip(list(values), changes, strict=False):
        values.append(base ^ sum({1 << bit for bit in bits}))
    stored = min(stored, len(values))
    index = HashIndex(near_bits, np.array(values[:stored], np.uint64))
    for value in values[stored:]:
        index.add(value)
    assert len(index) == len(values)
    for value in [*values, 0, 2**64 - 1]:
        every = sorted(((value ^ other).bit_count(), place) for place, other in enumerate(values))
        expected = every[0] if every and every[0][0] <= near_bits else None
        assert index.nearest(value) == expected


def test_twins_of_a_collapsed_set_are_all_the_first():
    values = np.full(20_000, 2**63 + 5, np.uint64)
    twins = earlier_twins(values, 3)
    assert twins[0] == -1
    assert set(twins[1:].tolist()) == {0}


def test_near_bits_beyond_what_bands_can_find_are_refused():
    with pytest.raises(ValueError, match="expected 0 to 7"):
        HashIndex(8)
