"""Where masks and labels of files are, by the flags of `pixelmill pack`."""

import argparse
import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from transforms import paths, storage
from transforms.beside import Told, pair_masks
from transforms.label_sources import coco
from transforms.label_sources.layouts import (
    Paired,
    class_folders,
    listed_voc,
    pair_cityscapes,
    pair_voc,
    voc_base,
)
from transforms.label_sources.targets import CocoMasks, FolderLabels, LabelSource, VocBoxes
from transforms.label_sources.voc_boxes import VOC_CLASSES
from transforms.listing import InputError, Listing


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Pictures, and what is known of them.

    Attributes:
        paired: the pictures, with the masks that are files.
        source: of what stands elsewhere; see PackOperator.
        identity, notes: for run.json.
        annotations: path of COCO's, and the ids of its categories.
    """

    paired: Paired
    source: LabelSource | None = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    annotations: tuple[str, tuple[int, ...]] | None = None


def find_labels(flags: argparse.Namespace, listing: Listing, tables: Told, out: str) -> Labelled:
    """Looks at the layout that --labels names.

    Args:
        out: where annotations are put aside for the workers.

    Raises:
        InputError: the files are not laid out so.
    """
    files, kind = tables.files, flags.labels
    identity: dict[str, Any] = {} if kind == "beside" else {"labels": kind}
    plain = Paired(list(files), {}, ())
    match kind:
        case "beside":
            images, masks = pair_masks(files)
            return Labelled(Paired(images, {**masks, **tables.masks}, ()))
        case "voc":
            listed = _image_set(flags, listing, "Segmentation")
            return Labelled(pair_voc(files, listed), identity=identity)
        case "cityscapes" | "cityscapes_train":
            ids = "labelTrainIds" if kind == "cityscapes_train" else "labelIds"
            return Labelled(pair_cityscapes(files, ids), identity=identity)
        case "voc_boxes":
            classes = tuple(flags.classes or VOC_CLASSES)
            paired = listed_voc(files, _image_set(flags, listing, "Main"))
            identity["classes"] = list(classes)
            notes = {"classes": ["background", *classes]}
            return Labelled(paired, VocBoxes(classes), identity, notes)
        case "folders":
            paths_of = [path for path, _ in files]
            classes = class_folders(paths_of, listing.root, flags.classes or ())
            identity["classes"] = list(classes)
            return Labelled(plain, FolderLabels(classes), identity, {"classes": list(classes)})
        case "coco" | "coco_instances":
            return _coco(flags, files, out)
        case _:
            return Labelled(plain, identity=identity)


def _coco(flags: argparse.Namespace, files: Sequence[tuple[str, int]], out: str) -> Labelled:
    path = paths.absolute(flags.annotations)
    summary = coco.read_summary(path, [path for path, _ in files])
    if summary.missing:
        print(f"{flags.annotations} knows {summary.missing:,} pictures that the input has not")
    return Labelled(
        Paired(
            [file for file in files if file[0] in summary.paths],
            {},
            tuple(path for path, _ in files if path not in summary.paths),
        ),
        source=CocoMasks(out, instances=flags.labels == "coco_instances"),
        identity={"labels": flags.labels, "annotations": storage.file_crc32c(path)},
        notes={"annotations": flags.annotations, "classes": summary.categories},
        annotations=(path, tuple(sorted(summary.categories))),
    )


def _image_set(
    flags: argparse.Namespace, listing: Listing, folder: str
) -> dict[str, Collection[str]] | None:
    """Names that an image set of VOC lists, by the folder that it is of."""
    if not flags.image_set:
        return None
    name = f"ImageSets/{folder}/{flags.image_set}.txt"
    found: dict[str, Collection[str]] = {}
    bases = {base for path, _ in listing.files if (base := voc_base(path)) is not None}
    for base in sorted(bases):
        path = os.path.join(listing.root, f"{base}{name}")
        if storage.is_file(path):
            lines = storage.read_bytes(path).decode("utf-8", "surrogateescape").split("\n")
            found[base] = frozenset(line.split()[0] for line in lines if line.strip())
    if bases and not found:
        raise InputError(f"--image_set {flags.image_set}: there is no {name} beside JPEGImages")
    return found
