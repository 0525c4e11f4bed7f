"""What lies beside image files: tables that tell of them, and masks that are paired by name."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from transforms import paths
from transforms.formats import base
from transforms.formats.folder import read_table
from transforms.listing import InputError, Listing

_MASK_SUFFIX = "_mask"


@dataclasses.dataclass(frozen=True)
class Told:
    """Image files and what is known of them besides.

    Attributes:
        files: images, (relative path, size in bytes): those of tables in their order, then others;
            -1 for one that is not there.
        masks: relative path of the mask by that of the image.
        features: by relative path of the image; plain values (see formats/plain.py), or
            {"file": relative path} for the content of a file.
    """

    files: tuple[tuple[str, int], ...]
    masks: Mapping[str, str]
    features: Mapping[str, Mapping[str, Any]]


def told(listing: Listing) -> Told:
    """Reads the tables of a listing of image files. Raises InputError."""
    sizes = dict(listing.files)
    files: dict[str, int] = {}
    masks: dict[str, str] = {}
    features: dict[str, Mapping[str, Any]] = {}
    others: set[str] = set()
    for table in listing.tables:
        folder = paths.relative(paths.parent(table), listing.root)
        prefix = "" if folder in ("", ".") else f"{folder}/"
        try:
            rows = read_table(table)
        except ValueError as error:
            raise InputError(f"{table}: {error}") from error
        except OSError as error:
            raise InputError(f"cannot read {table}: {error.strerror}") from error
        for row in rows:
            path = prefix + row.file
            if path in files:
                raise InputError(f"{table} names {row.file} twice; one row a picture is expected")
            files[path] = sizes.get(path, -1)
            found = {name: prefix + file for name, file in row.files.items()}
            others.update(found.values())
            if base.MASK in found:
                masks[path] = found.pop(base.MASK)
            features[path] = {**row.features, **{n: {"file": file} for n, file in found.items()}}
    pictures = [(path, size) for path, size in files.items() if path not in others]
    pictures += [file for file in listing.files if file[0] not in files and file[0] not in others]
    return Told(tuple(pictures), masks, features)


def pair_masks(files: Sequence[tuple[str, int]]) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Tells masks that lie beside their images from the images.

    A file is a mask when its name is an image's with "_mask" before the extension, or when its
    path is an image's with the folder "images" replaced by "masks"; the extensions may differ.

    Returns:
        The images, and for each image that has one, the relative path of its mask.
    """
    by_stem = {os.path.splitext(path)[0]: path for path, _ in files}
    masks: dict[str, str] = {}
    for stem, path in by_stem.items():
        for candidate in _mask_stems(stem):
            if candidate in by_stem and candidate != stem:
                masks[path] = by_stem[candidate]
                break
    taken = set(masks.values())
    return [file for file in files if file[0] not in taken], masks


def _mask_stems(stem: str) -> list[str]:
    parts = stem.split("/")
    swapped = ["masks" if part == "images" else part for part in parts]
    return [stem + _MASK_SUFFIX, "/".join(swapped)]
