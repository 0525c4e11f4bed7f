"""Filters: which pictures are not used, and why. Each is a function of what is known of one."""

import dataclasses
import io
import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as Pictures
from scipy.ndimage import laplace

from transforms import storage
from transforms.augmentation.recipe import Filter
from transforms.augmentation.scene import Image
from transforms.guard import REFERENCE, Known, Marks, Reference
from transforms.masks import Ids
from transforms.sink import RECORDS

LEFT_OUT = "left_out"  # below OUT: lists of what was not used
REASONS = {
    "too_small": "a side is below filter.min_side_px",
    "brightness": "the mean brightness is outside filter.brightness",
    "blurred": "the sharpness is below filter.min_sharpness",
    "duplicate": "the picture equals an earlier one of its shard, exactly or nearly",
    "leak_key": "its name, or that of a picture it was made of, is a validation picture's",
    "leak_exact": "its pixels are those of a validation picture",
    "leak_near": "it looks nearly like a validation picture",
    "unsure": "the segmenter is sure of less than pseudo_label.min_part of it",
    "mostly_ignored": "more of the copy's mask than filter.max_ignored is the ignore id",
}


class LeftOut(NamedTuple):
    """Why a picture is not used: a key of REASONS, and what was found."""

    reason: str
    message: str


def poor(image: Image, filters: Filter) -> LeftOut | None:
    """Why a picture, uint8 [H, W, 3], is too small, dark, bright or blurred; None if it is not."""
    height, width = image.shape[:2]
    if filters.min_side_px is not None and min(height, width) < filters.min_side_px:
        return LeftOut("too_small", f"{width}x{height}, expected {filters.min_side_px} or more")
    low, high = filters.brightness
    if not low <= (mean := float(image.mean())) <= high:
        return LeftOut("brightness", f"{mean:.1f}, expected {low:g} to {high:g}")
    if filters.min_sharpness and (found := sharpness(image)) < filters.min_sharpness:
        return LeftOut("blurred", f"{found:.1f}, expected {filters.min_sharpness:g} or more")
    return None


def sharpness(image: Image) -> float:
    """Variance of the Laplacian of the grey picture (Pech-Pacheco et al. 2000)."""
    grey = np.asarray(Pictures.fromarray(image).convert("L"), np.float32)
    return float(laplace(grey, mode="nearest").var(dtype=np.float64))


def ignored_share(mask: Ids, ignore_id: int) -> float:
    """The part of a mask that says nothing."""
    return float(np.count_nonzero(mask == ignore_id)) / mask.size


@dataclasses.dataclass(frozen=True)
class Validation:
    """Pictures that nothing may be made of.

    Attributes:
        names: of all their records, those that could not be read too.
        known: their fingerprints.
    """

    names: frozenset[str]
    known: Known

    def leak(self, names: Collection[str], marks: Marks, by: Sequence[str]) -> LeftOut | None:
        """How a picture is one of them; None if it is not.

        Args:
            names: of the picture, and of those that it was made of.
            by: "key", "exact" and "near": what counts.
        """
        if "key" in by and (found := sorted(self.names.intersection(names))):
            return LeftOut("leak_key", f"{found[0]} is a validation picture")
        twin = self.known.twin(marks)
        if twin is not None and (twin.kind in by or "near" in by):
            bits = "" if twin.exact else f", {twin.bits} of 64 bits differ"
            return LeftOut(f"leak_{twin.kind}", f"{twin.name} of the validation shards{bits}")
        return None

    @staticmethod
    def load(out: str, near_bits: int) -> "Validation":
        """What the run below OUT that looked at the validation shards has found. Raises OSError."""
        reference = Reference.load(out)
        names: set[str] = set()
        for shard in reference.shards:
            path = os.path.join(out, REFERENCE, RECORDS, f"{shard}.parquet")
            table = pq.read_table(io.BytesIO(storage.read_bytes(path)), columns=["key"])
            names.update(table["key"].to_pylist())
        return Validation(frozenset(names), Known(near_bits, reference))
