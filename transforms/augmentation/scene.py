"""What is augmented: a picture with what is known of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from transforms.masks import Ids

Image = npt.NDArray[np.uint8]
Pair = tuple[Image, Ids | None]


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture with its mask, its labels, or both.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        mask: uint8 or uint16 [H, W], class ids; None without.
        labels: class ids of the whole picture with their shares, which sum to 1; () without.
        texts: names of labels, where the data says them.
        ancestors: keys of the pictures that it was made of, if it was made itself.
        generators: fingerprints of models that made it, or pictures that it was made of.
        key: name of the record that it is.
        index: of the record in its shard.
    """

    pixels: Image
    mask: Ids | None = None
    labels: tuple[tuple[int, float], ...] = ()
    texts: Mapping[int, str] = dataclasses.field(default_factory=dict)
    ancestors: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    key: str = ""
    index: int = 0

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + (0 if self.mask is None else self.mask.nbytes)


def as_ids(array: Any, like: Ids) -> Ids:
    """An array or a Pillow image as class ids of the dtype of others."""
    return cast(Ids, np.asarray(array).astype(like.dtype))


def blend_labels(
    labels: tuple[tuple[int, float], ...], other: tuple[tuple[int, float], ...], share: float
) -> tuple[tuple[int, float], ...]:
    """Labels of a picture of which `share` is another one; the largest share first."""
    shares: dict[int, float] = {}
    for found, weight in ((labels, 1.0 - share), (other, share)):
        for label, part in found:
            shares[label] = round(shares.get(label, 0.0) + part * weight, 6)
    return tuple(sorted(shares.items(), key=lambda row: (-row[1], row[0])))
