"""Folders of the field that say by their names which mask or label belongs to which picture.

Functions on lists of relative paths, for a plan to be made of; nothing is opened here.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from transforms.listing import InputError

Files = Sequence[tuple[str, int]]  # path relative to the root, size in bytes
VOC_IMAGES, VOC_MASKS = "JPEGImages", "SegmentationClass"
_CITY_IMAGES, _CITY_MASKS = "leftImg8bit", "gtFine"


class Paired(NamedTuple):
    """What is packed of a listing.

    Attributes:
        images: files that are pictures.
        masks: path of the mask by path of the picture.
        left_out: pictures that have no mask, or that were not asked for.
    """

    images: list[tuple[str, int]]
    masks: dict[str, str]
    left_out: tuple[str, ...]


def pair_voc(files: Files, listed: Mapping[str, Collection[str]] | None = None) -> Paired:
    """Pascal VOC: JPEGImages/a.jpg and SegmentationClass/a.png, indices of a palette, 255 is void.

    Args:
        listed: names that an image set gives, by the folder that holds JPEGImages ("" or "x/");
            None for all pictures that have a mask.

    Raises:
        InputError: there is none, or a picture that is listed has no file or no mask.
    """
    stems = {os.path.splitext(path)[0]: path for path, _ in files}
    images, masks, left_out = [], {}, []
    for path, size in files:
        if (base := voc_base(path)) is None:
            continue
        name = os.path.splitext(path[len(base) + len(VOC_IMAGES) + 1 :])[0]
        mask = stems.get(f"{base}{VOC_MASKS}/{name}")
        if mask is None if listed is None else name not in listed.get(base, ()):
            left_out.append(path)
            continue
        if mask is None:
            raise InputError(f"{path} is in the image set, but has no {base}{VOC_MASKS}/{name}.png")
        images.append((path, size))
        masks[path] = mask
    _check_listed(listed or {}, stems)
    return _found(images, masks, left_out, f"{VOC_IMAGES}/a.jpg with {VOC_MASKS}/a.png")


def listed_voc(files: Files, listed: Mapping[str, Collection[str]] | None = None) -> Paired:
    """Pictures of Pascal VOC alone: those that image sets list (see pair_voc), or all.

    Raises:
        InputError: there is none, or one that is listed has no file.
    """
    images, left_out = [], []
    for path, size in files:
        if (base := voc_base(path)) is None:
            continue
        name = os.path.splitext(path[len(base) + len(VOC_IMAGES) + 1 :])[0]
        if listed is None or name in listed.get(base, ()):
            images.append((path, size))
        else:
            left_out.append(path)
    _check_listed(listed or {}, {os.path.splitext(path)[0] for path, _ in files})
    return _found(images, {}, left_out, f"{VOC_IMAGES}/a.jpg")


def _check_listed(listed: Mapping[str, Collection[str]], stems: Collection[str]) -> None:
    for base, names in listed.items():
        if missing := {n for n in names if f"{base}{VOC_IMAGES}/{n}" not in stems}:
            raise InputError(
                f"{len(missing):,} names of the image set have no picture, such as "
                f"{base}{VOC_IMAGES}/{min(missing)}.jpg"
            )


def voc_base(path: str) -> str | None:
    """What stands before JPEGImages/ in a path, "" or "VOC2012/"; None where it is not."""
    before, found, _ = f"/{path}".partition(f"/{VOC_IMAGES}/")
    return f"{before[1:]}/" * bool(before) if found else None


def pair_cityscapes(files: Files, ids: str = "labelIds") -> Paired:
    """Cityscapes: leftImg8bit/val/x/a_leftImg8bit.png, gtFine/val/x/a_gtFine_labelIds.png.

    Args:
        ids: "labelIds", 0 to 33, or "labelTrainIds", 0 to 18 and 255 for what is not trained.

    Raises:
        InputError: there is no such pair.
    """
    paths = {path for path, _ in files}
    images, masks, left_out = [], {}, []
    for path, size in files:
        stem = os.path.splitext(path)[0]
        if not stem.endswith(f"_{_CITY_IMAGES}"):
            continue
        folders, _, name = stem.removesuffix(_CITY_IMAGES).rpartition("/")
        swapped = [_CITY_MASKS if f == _CITY_IMAGES else f for f in folders.split("/")]
        mask = "/".join((*swapped, f"{name}{_CITY_MASKS}_{ids}.png"))
        if mask in paths:
            images.append((path, size))
            masks[path] = mask
        else:
            left_out.append(path)
    return _found(
        images,
        masks,
        left_out,
        f"{_CITY_IMAGES}/../a_{_CITY_IMAGES}.png with {_CITY_MASKS}/../a_{_CITY_MASKS}_{ids}.png",
    )


def class_folders(paths: Iterable[str], root: str, classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Class names by label, of pictures whose folder names their class.

    Args:
        root: for messages.
        classes: the names in the order of their labels; none for all folders, sorted.

    Raises:
        InputError: a picture lies in no folder, or in one that is none of the classes.
    """
    found: dict[str, str] = {}
    for path in paths:
        found.setdefault(folder_name(path), path)
    if "" in found:
        raise InputError(
            f"{found['']} lies in no folder of {root}; the folder of an image names its class: "
            "put it into one, or give the folder that holds those of all classes"
        )
    if classes and (strange := found.keys() - set(classes)):
        raise InputError(
            f"the folder {min(strange)!r} is none of --classes {', '.join(classes)}; the "
            "folder of an image names its class"
        )
    return tuple(classes or sorted(found))


def folder_name(path: str) -> str:
    """The folder that holds an image file, which names its class in a tree of classes."""
    return os.path.basename(os.path.dirname(path))


def _found(
    images: list[tuple[str, int]], masks: dict[str, str], left_out: list[str], expected: str
) -> Paired:
    if not images:
        raise InputError(f"the input has no {expected}; name the folder above it")
    return Paired(images, masks, tuple(left_out))
