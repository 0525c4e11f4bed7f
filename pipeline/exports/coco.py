"""COCO: panoptic PNGs with their segments, and annotations with run-length encoded masks.

Both hold one segment for each class in an image: masks of classes know no instances. The formats:
https://cocodataset.org/#format-data.
"""

import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.exports.samples import Class, Sample, Source, samples
from pipeline.exports.target import JsonLists, Target

_LISTS = ("images", "annotations")


def coco_panoptic(source: Source, target: Target) -> int:
    """panoptic.json, panoptic/ with PNGs whose colours are segment ids (class id + 1, 0 is no
    class), and images/. Returns the number of images."""
    with JsonLists(target, "panoptic.json", _LISTS) as lists:
        count = 0
        for count, sample in enumerate(samples(source), 1):
            path = f"{sample.name}.png"
            segments = [
                {"id": row.id + 1, "category_id": row.id, **_extent(inside), "iscrowd": 0}
                for row, inside in _classes(source, sample)
            ]
            ids = np.where(sample.mask == source.ignore_id, 0, sample.mask.astype(np.uint32) + 1)
            target.create(f"panoptic/{path}", _png(panoptic_rgb(ids)))
            note = {"image_id": count, "file_name": path, "segments_info": segments}
            lists.add("annotations", json.dumps(note).encode())
            _add_image(lists, target, count, sample)
        lists.write(_categories(source, stuff=True))
    return count


def coco_rle(source: Source, target: Target) -> int:
    """annotations.json with uncompressed run lengths, and images/. Returns the number of images."""
    with JsonLists(target, "annotations.json", _LISTS) as lists:
        count = number = 0
        for count, sample in enumerate(samples(source), 1):
            for row, inside in _classes(source, sample):
                number += 1
                note = {
                    "id": number,
                    "image_id": count,
                    "category_id": row.id,
                    "segmentation": {"size": list(inside.shape), "counts": run_lengths(inside)},
                    **_extent(inside),
                    "iscrowd": 0,
                }
                lists.add("annotations", json.dumps(note).encode())
            _add_image(lists, target, count, sample)
        lists.write(_categories(source, stuff=False))
    return count


def run_lengths(inside: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of runs down the columns, of pixels outside first: COCO's uncompressed RLE."""
    flat = inside.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [len(flat)]])).tolist()
    return [0, *lengths] if len(flat) and flat[0] else lengths


def panoptic_rgb(ids: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Segment ids [H, W] as COCO's colours, uint8 [H, W, 3]: id = R + 256 G + 65,536 B."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def _classes(source: Source, sample: Sample) -> list[tuple[Class, npt.NDArray[np.bool_]]]:
    there = set(np.unique(sample.mask).tolist())
    return [(row, sample.mask == row.id) for row in source.classes if row.id in there]


def _extent(inside: npt.NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    size = [int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
    return {"area": int(inside.sum()), "bbox": [left, top, *size]}


def _add_image(lists: JsonLists, target: Target, number: int, sample: Sample) -> None:
    path = f"{sample.name}.{sample.extension}"
    target.create(f"images/{path}", sample.image)
    height, width = sample.mask.shape
    image = {"id": number, "file_name": path, "width": width, "height": height}
    lists.add("images", json.dumps(image).encode())


def _categories(source: Source, stuff: bool) -> bytes:
    rows = [
        {
            "id": row.id,
            "name": row.name,
            "supercategory": "",
            **({"color": list(row.rgb), "isthing": 0} if stuff else {}),
        }
        for row in source.classes
    ]
    info = {"description": "masks made by pixelmill"}
    return f'"info": {json.dumps(info)},\n"categories": {json.dumps(rows)}'.encode()


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
