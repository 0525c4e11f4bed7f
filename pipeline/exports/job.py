"""`pixelmill export`: a run's images and masks in the form of another tool."""

from pipeline.exports.coco import coco_panoptic, coco_rle
from pipeline.exports.cvat import cvat
from pipeline.exports.folders import croissant, hf_imagefolder
from pipeline.exports.samples import open_source
from pipeline.exports.target import Target

_WRITERS = {
    "hf_imagefolder": hf_imagefolder,
    "coco_panoptic": coco_panoptic,
    "coco_rle": coco_rle,
    "cvat": cvat,
    "croissant": croissant,
}


def run_export(run: str, folder: str, name: str) -> int:
    """Exports a run into a new folder. Returns the number of images.

    Raises:
        UserError: the run cannot be expressed so, or the folder is not empty.
        OSError: the storage failed.
    """
    source, target = open_source(run), Target(folder)
    try:
        return _WRITERS[name](source, target)
    finally:
        target.finish()
