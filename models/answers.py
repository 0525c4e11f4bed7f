"""What the finish graph answers, as masks and numbers.

The graph gives a code for each pixel, whose low half is the value in the mask; counting, and
telling whether all of a picture is sound, take numpy and Pillow a quarter of TensorFlow's time.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from models.binding import Binding

BINS = 256
_LANES = 4
Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The answer for one picture.

    Attributes:
        mask: uint8 or, above 255 classes, uint16 [H, W], class ids; 255 or 65535 where the model
            saw nothing or has no class.
        confidence: uint8 [H, W], probability of the chosen class times 255, 0 where the model saw
            nothing; None for a model that answers class ids only, and where it was not asked for.
        class_pixels: int64 [C], pixels by class.
        histograms: int64 [3, 256] of confidence, entropy / log C, and the margin of the two
            likeliest classes, each over [0, 1] in steps of 1/255, at every n-th row and column of
            what the model saw (see graphs.grid_step); None with class ids.
        finite: whether all scores were finite numbers. The rest means nothing when not.
        in_range: whether all class ids were within [0, C).
    """

    mask: Mask
    confidence: Image | None
    class_pixels: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64] | None
    finite: bool
    in_range: bool


@dataclasses.dataclass(frozen=True)
class Codes:
    """The code of a pixel: its class id, `void` for no class, and `bad` or more for an unsound one.

    Their lower half, to which `mask_dtype` cuts them, is the id, or all ones for void.
    """

    dtype: str
    mask_dtype: type[np.uint8] | type[np.uint16]
    void: int
    bad: int


_NARROW = Codes("uint16", np.uint8, (1 << 15) - 1, 1 << 15)
_WIDE = Codes("int32", np.uint16, (1 << 30) - 1, 1 << 30)


def codes_of(binding: Binding) -> Codes:
    """How the pixels of a model are coded: for masks of uint8 with 255 classes or fewer."""
    narrow = binding.num_classes <= 255 and binding.num_scores < _NARROW.void
    return _NARROW if narrow else _WIDE


def answers(bands: Sequence[Mapping[str, Any]], binding: Binding) -> list[Segmentation]:
    """The answers for pictures of one size.

    Args:
        bands: what the finish graph gave for rows of them, from top to bottom.
    """
    codes = codes_of(binding)
    parts = [np.asarray(band["codes"]) for band in bands]
    masks = _below([part.astype(codes.mask_dtype) for part in parts])
    good = np.all([part.max(axis=(1, 2)) < codes.bad for part in parts], axis=0)
    good &= np.all([band["good"] for band in bands], axis=0)
    confidence = histograms = None
    if "confidence" in bands[0]:
        confidence = _below([np.asarray(band["confidence"]) for band in bands])
    if "certainty" in bands[0]:
        histograms = np.sum([_histograms(np.asarray(band["certainty"])) for band in bands], axis=0)
    ids = binding.kind == "class_ids"
    return [
        Segmentation(
            mask=mask,
            confidence=None if confidence is None else confidence[row],
            class_pixels=count_classes(mask, max(binding.num_classes, 1)),
            histograms=None if histograms is None else histograms[row],
            finite=ids or bool(good[row]),
            in_range=not ids or bool(good[row]),
        )
        for row, mask in enumerate(masks)
    ]


def _below(bands: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """[n, H, W] of bands of rows."""
    return bands[0] if len(bands) == 1 else np.concatenate(bands, axis=1)


def count_classes(mask: Mask, classes: int) -> npt.NDArray[np.int64]:
    """int64 [classes]: how many pixels of each class are in a mask [H, W]."""
    if mask.dtype != np.uint8:
        return np.bincount(mask.reshape(-1), minlength=classes)[:classes]
    narrow = mask.astype(np.uint8, copy=False)
    lane = BINS // _LANES
    if classes >= lane:  # void would be counted as the last class of the last lane
        return _count_bytes(narrow)[:classes]
    # Neighbours are mostly equal, and adding to one counter again and again waits for itself:
    # columns take turns at four, in half the time.
    turns = np.arange(mask.shape[1]) % _LANES * lane
    counts = _count_bytes(narrow | turns.astype(np.uint8)).reshape(_LANES, lane)
    return np.asarray(counts.sum(axis=0)[:classes])


def _count_bytes(values: Image) -> npt.NDArray[np.int64]:
    """int64 [BINS] of uint8 [H, W]; numpy would make int64 of each value first."""
    return np.array(PillowImage.fromarray(values).histogram(), np.int64)


def _histograms(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """int64 [n, 3, BINS] of uint8 [n, 3, h, w]."""
    rows = values.shape[0] * values.shape[1]
    places = values.reshape(rows, -1) + np.arange(0, rows * BINS, BINS)[:, np.newaxis]
    counts = np.bincount(places.reshape(-1), minlength=rows * BINS)
    return counts.reshape(*values.shape[:2], BINS)
