"""One copy, ready to be written: its pictures, its row and what it adds to the metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from transforms import sums
from transforms.augmentation.drawing import Operation
from transforms.augmentation.looking import counts_of
from transforms.augmentation.provenance import Provenance, operations_json, partners_of
from transforms.augmentation.recipe import Recipe
from transforms.augmentation.scene import Scene
from transforms.picture_files import CHANGED as OF_SYNTHETIC
from transforms.picture_files import PictureFormat, encode_picture
from transforms.png import encode_png
from transforms.records import Encoded, Result

# IPTC's terms, cv.iptc.org/newscodes/digitalsourcetype: changed by rules, or put together as well
CHANGED, COMPOSED = "algorithmicallyEnhanced", "compositeSynthetic"


def encode_outputs(
    scene: Scene, operations: Sequence[Operation], recipe: Recipe
) -> dict[str, Encoded]:
    """The encoded picture, as the recipe wants it, and the mask, a PNG."""
    source = COMPOSED if partners_of(operations) else CHANGED
    if scene.generators:
        source = OF_SYNTHETIC
    how = PictureFormat(recipe.format, recipe.quality, source)
    outputs = {"images": Encoded(encode_picture(scene.pixels, how), recipe.format)}
    if scene.mask is not None:
        outputs["masks"] = Encoded(encode_png(scene.mask), "png")
    return outputs


def encode_copy(scene: Scene, found: Provenance, recipe: Recipe) -> Result:
    """The result for a copy; pixels of classes that have names are counted in a table besides."""
    outputs = encode_outputs(scene, found.operations, recipe)
    height, width = scene.pixels.shape[:2]
    counts = counts_of(scene, recipe.ignore_id)
    brightness = round(float(scene.pixels.mean()), 3)
    row: dict[str, Any] = {
        "source_key": found.source,
        "copy": found.copy,
        "width": width,
        "height": height,
        "format": recipe.format,
        "image_bytes": len(outputs["images"].data),
        "brightness": brightness,
        "label": scene.labels[0][0] if scene.labels else None,
        "pseudo_confidence": found.pseudo_confidence,
        "operations": operations_json(found.operations),
        "partners": partners_of(found.operations),
    }
    measured: sums.Sums = {
        "copies": 1,
        "brightness": sums.byte_histogram(brightness),
        "widths": {str(width): 1},
        "heights": {str(height): 1},
        "operations": _counted([each["step"] for each in found.operations]),
    }
    if scene.labels:
        measured["labels"] = {str(scene.labels[0][0]): 1}
    if scene.mask is not None:
        pixels = height * width
        ignored = pixels - sum(counts.values())
        row |= {
            "classes": list(counts),
            "class_pixels": list(counts.values()),
            "ignored": ignored / pixels,
        }
        measured |= {
            "pixels": pixels,
            "ignored_pixels": ignored,
            "made_pixels": {str(c): n for c, n in counts.items()},
            "made_images": {str(c): 1 for c in counts},
        }
        if recipe.classes:
            measured |= _table(counts, len(recipe.classes))
    return Result(outputs, row, measured)


def _table(counts: dict[int, int], classes: int) -> sums.Sums:
    """Pixels and pictures of named classes, int64 [classes] each."""
    pixels = np.zeros(classes, np.int64)
    for class_id, count in counts.items():
        if class_id < classes:
            pixels[class_id] = count
    return {"class_pixels": pixels, "class_images": (pixels > 0).astype(np.int64)}


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: list(names).count(name) for name in sorted(set(names))}
