"""Masks and labels that stand in other files than the pictures: one call a picture."""

import dataclasses
import os
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple, Protocol

from transforms import storage
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.label_sources.coco import coco_mask, read_index
from transforms.label_sources.layouts import folder_name
from transforms.label_sources.voc_boxes import Values, annotation_path, read_boxes
from transforms.masks import Ids


class Target(NamedTuple):
    """What is known of a picture.

    Attributes:
        mask: uint8 or uint16 [H, W], class ids.
        label, text: its class id, and the name of it.
        features: others, by name; values of one type each.
    """

    mask: Ids | None = None
    label: int | None = None
    text: str = ""
    features: Values = MappingProxyType({})


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
    instances: bool = False

    def open(self, shard: Shard) -> Targets:
        index = read_index(self.out, shard)

        def target(path: str, size_hw: tuple[int, int]) -> Target:
            if path not in index:
                raise Failure("read", "mask_missing", f"{path} is not among the annotations")
            return Target(mask=coco_mask(index[path], size_hw, path, self.instances))

        return target


@dataclasses.dataclass(frozen=True)
class VocBoxes:
    """Boxes in Annotations/a.xml for JPEGImages/a.jpg; `classes` are names by id, from 1."""

    classes: tuple[str, ...]

    def open(self, shard: Shard) -> Targets:
        def target(path: str, size_hw: tuple[int, int]) -> Target:
            name = annotation_path(path)
            try:
                data = storage.read_bytes(os.path.join(shard.root, name))
            except OSError as error:
                raise Failure("read", "label_missing", f"{name}: {error.strerror}") from error
            return Target(features=read_boxes(data, size_hw, self.classes, name))

        return target
