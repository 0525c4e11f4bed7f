"""Masks and labels that stand in other files than the pictures: one call a picture."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.label_sources.coco import read_index, semantic_mask
from transforms.label_sources.layouts import folder_name
from transforms.masks import Ids


class Target(NamedTuple):
    """What is known of a picture: uint8 or uint16 [H, W] class ids, or a label with its name."""

    mask: Ids | None = None
    label: int | None = None
    text: str = ""


# Path of a picture, and its height and width. Raises a Failure.
Targets = Callable[[str, tuple[int, int]], Target]


class LabelSource(Protocol):
    """Settings, pickled to the workers."""

    def open(self, shard: Shard) -> Targets:
        """Makes ready for a shard. Raises OSError."""


@dataclasses.dataclass(frozen=True)
class FolderLabels:
    """The folder of a picture names its class; labels are positions among `classes`."""

    classes: tuple[str, ...]

    def open(self, shard: Shard) -> Targets:
        labels = {name: label for label, name in enumerate(self.classes)}

        def target(path: str, size_hw: tuple[int, int]) -> Target:
            name = folder_name(path)
            return Target(label=labels[name], text=name)

        return target


@dataclasses.dataclass(frozen=True)
class CocoMasks:
    """Masks of COCO's annotations that were put aside in `out` (see coco.stage)."""

    out: str

    def open(self, shard: Shard) -> Targets:
        index = read_index(self.out, shard)

        def target(path: str, size_hw: tuple[int, int]) -> Target:
            if path not in index:
                raise Failure("read", "mask_missing", f"{path} is not among the annotations")
            return Target(mask=semantic_mask(index[path], size_hw, path))

        return target
