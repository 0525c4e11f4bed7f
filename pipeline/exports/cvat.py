"""CVAT's "Segmentation mask 1.1": Pascal VOC's folders in a zip, masks in the classes' colours.

The format: https://docs.cvat.ai/docs/dataset_management/formats/format-smask/. CVAT tells classes
by colour, refuses colours that labelmap.txt does not name, and takes black as background. datumaro,
of which CVAT reads with a fork, strips lines, skips those that begin with # and wants each name
once.
"""

import io
import zipfile

import numpy as np
from PIL import Image

from models.errors import UserError
from pipeline.exports.samples import Source, samples
from pipeline.exports.target import Target

ARCHIVE = "segmentation_mask.zip"
_BLACK = (0, 0, 0)
_BACKGROUND = "background"
_TIME = (1980, 1, 1, 0, 0, 0)  # the same run gives the same bytes
_FOLDER = "SegmentationClass"


def cvat(source: Source, target: Target) -> int:
    """One zip for CVAT's "Upload annotations", with images beside. Returns the number of images.

    Pixels of the ignore id become background.

    Raises:
        UserError: the classes cannot be told apart by colour or by name, or the name of a class or
            image would not be read as it is.
    """
    _check(source)
    palette = np.zeros((max(source.ignore_id, *source.ids) + 1, 3), np.uint8)
    for row in source.classes:
        palette[row.id] = row.rgb
    names: list[str] = []
    with (
        target.growing(ARCHIVE) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for sample in samples(source):
            if _lost(sample.name):
                raise UserError(
                    f"the image name {sample.name!r} cannot stand in CVAT's list of images, where "
                    "spaces at the ends are lost and # begins a comment; rename it, or its folder"
                )
            names.append(sample.name)
            buffer = io.BytesIO()
            Image.fromarray(palette[sample.mask]).save(buffer, "PNG")
            _add(archive, f"{_FOLDER}/{sample.name}.png", buffer.getvalue())
            target.create(f"images/{sample.name}.{sample.extension}", sample.image)
        listed = "".join(f"{name}\n" for name in names)
        _add(archive, "ImageSets/Segmentation/default.txt", listed.encode())
        _add(archive, "labelmap.txt", label_map(source).encode())
    return len(names)


def label_map(source: Source) -> str:
    """labelmap.txt: a line `name:red,green,blue::` for each class."""
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{','.join(map(str, rgb))}::" for name, rgb in _labels(source)]
    return "\n".join(lines) + "\n"


def _labels(source: Source) -> list[tuple[str, tuple[int, int, int]]]:
    """(name, colour) of the classes, and of a background where none is black."""
    rows = [(row.name, row.rgb) for row in source.classes]
    return rows if _BLACK in [rgb for _, rgb in rows] else [(_BACKGROUND, _BLACK), *rows]


def _lost(line: str) -> bool:
    """Whether a line of CVAT's files is read as another, or not at all."""
    return line != line.strip() or not line or line[0] == "#" or bool(set(line) & set("\r\n"))


def _check(source: Source) -> None:
    owner: dict[tuple[int, int, int], str] = {}
    for row in source.classes:
        if _lost(row.name) or ":" in row.name:
            raise UserError(
                f"the class name {row.name!r} cannot stand in CVAT's labelmap.txt, in which : "
                "parts fields, # begins a comment and spaces at the ends are lost; name classes "
                "otherwise by --classes"
            )
        if (other := owner.setdefault(row.rgb, row.name)) != row.name:
            raise UserError(
                f"{other!r} and {row.name!r} have one colour, {row.rgb}, and CVAT tells classes by "
                "colour; give them others in legend.json"
            )
    names = [name for name, _ in _labels(source)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"two classes are named {twice[0]!r}, and CVAT wants each name once; name them "
            f"otherwise, or give {_BACKGROUND!r} the colour #000000, in legend.json"
        )


def _add(archive: zipfile.ZipFile, path: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(path, _TIME), data, zipfile.ZIP_DEFLATED)
