"""Masks by a segmenter for the pictures of a shard that have none."""

from typing import NamedTuple

import numpy as np

from models.answers import Segmentation
from models.classifier import Bound
from models.segmenter import Segmenter
from transforms.augmentation.filters import LeftOut
from transforms.augmentation.recipe import PseudoLabel
from transforms.clock import Clock
from transforms.decode import Facts
from transforms.failures import Failure
from transforms.inputs import Part, Shard
from transforms.picture_work import PictureWork, Settings
from transforms.png import encode_png
from transforms.records import Encoded, Result
from transforms.segment import check
from transforms.staging import local_model


class PseudoMask(NamedTuple):
    """A mask that a segmenter made: PNG of class ids, and its mean confidence, 0 to 1."""

    png: bytes
    confidence: float


PseudoMasks = dict[int, PseudoMask | Failure | LeftOut]  # by index of the record


class Labeller:
    """A segmenter and what its masks must be."""

    def __init__(
        self, bound: Bound, wanted: PseudoLabel, ignore_id: int, settings: Settings
    ) -> None:
        """Loads the model. Raises ModelError."""
        self._wanted = wanted

        def load() -> Segmenter:
            model = local_model(bound.path, bound.fingerprint)
            return Segmenter(model, bound.binding, wanted.batch_size)

        def encode(_: Facts, answer: Segmentation) -> Result:
            check(answer)
            mask, confidence, sure = doubted(answer, wanted.min_confidence, ignore_id)
            png = Encoded(encode_png(mask), "png")
            return Result({"masks": png}, {"confidence": confidence, "sure": sure}, {})

        self._work = PictureWork(settings, load, encode)

    def __call__(self, shard: Shard, indices: frozenset[int], clock: Clock) -> PseudoMasks:
        """Masks of some records. All are kept in memory, as PNGs."""
        part = Shard(shard.name, shard.root, shard.size_bytes, part=Part(indices))
        found: PseudoMasks = {}
        for record, result in self._work(part, clock):
            if record.index not in indices:
                continue
            if isinstance(result, Failure):
                found[record.index] = result
            elif (sure := result.row["sure"]) < self._wanted.min_part:
                found[record.index] = LeftOut(
                    "unsure", f"{sure:.1%} is sure, expected {self._wanted.min_part:.1%} or more"
                )
            else:
                png = result.outputs["masks"].data
                found[record.index] = PseudoMask(png, result.row["confidence"])
        return found


def doubted(
    answer: Segmentation, min_confidence: float, ignore_id: int
) -> tuple[np.ndarray, float, float]:
    """A mask without what the model is not sure of.

    Returns:
        uint8 or uint16 [H, W], with the ignore id where the confidence is below or the model has
        no class; the mean confidence of all, and the part of all that is sure, both 0 to 1.
    """
    assert answer.confidence is not None, "the launcher refuses models without a confidence"
    sure = answer.confidence >= np.ceil(min_confidence * 255)
    sure &= answer.mask < len(answer.class_pixels)
    dtype = np.uint16 if ignore_id > 255 else answer.mask.dtype
    mask = np.where(sure, answer.mask.astype(dtype), np.array(ignore_id, dtype))
    return mask, round(float(answer.confidence.mean()) / 255, 6), float(sure.mean())
