"""`pixelmill demo`: the main job on data and a model that come with the project.

Real handwritten digits over real photographs make scenes whose masks are known exactly. They are
packed, segmented by the shipped model, and the masks are compared with the truth. Then new digits
are generated, checked by the shipped classifier, and compared with the real ones.
"""

import io
import os
import shlex

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from models import shipped
from models.shipped.digit_files import DIGIT_NAMES, write_digits
from models.shipped.digit_scenes import CLASS_NAMES, PHOTO_CREDITS, scene
from pipeline import cli, run_files
from transforms import storage
from transforms.confusion import confusion_matrix, iou_per_class
from transforms.formats.base import BadRecord
from transforms.formats.tfrecord import read_records

_SEED = 2026
_SCENES_PER_SHARD = 24
_DIGITS_PER_SHARD = 125


def demo(output: str, scenes: int, digits: int, verbose: bool) -> int:
    """Runs the demo into a folder. Returns an exit code; raises UserError like the commands do."""
    make_scenes(f"{output}/scenes", scenes)
    model = _shipped("digits_segmenter")
    more = ["--verbose"] if verbose else []
    pack = ["pack", f"--input={output}/scenes", f"--output={output}/shards"]
    segment = ["segment", f"--input={output}/shards/images", f"--output={output}/segmented"]
    commands = [
        [*pack, f"--images_per_shard={_SCENES_PER_SHARD}"],
        [*segment, f"--model={model}"],
    ]
    for command in commands:
        if (code := _run([*command, *more])) != 0:
            return code
    confusion = compare(f"{output}/shards", f"{output}/segmented")
    iou = iou_per_class(confusion)
    print("\ncompared with the exact masks:")
    for name, value in zip(CLASS_NAMES, iou, strict=True):
        print(f"  IoU  {name:<11}{value:7.3f}")
    print(f"  mean IoU   {np.nanmean(iou):7.3f}")
    print(f"\nphotographs: {'; '.join(PHOTO_CREDITS.values())}")
    write_digits(f"{output}/digits")
    if (code := _run([*generation(output, digits), *more])) != 0:
        return code
    print()
    for name in ("segmented", "generated"):
        print(f"report: {os.path.abspath(os.path.join(output, name, run_files.REPORT))}")
    return 0


def generation(output: str, digits: int) -> list[str]:
    """The command that generates as many digits, the same number of each."""
    return [
        "generate",
        f"--model={_shipped('digits_generator')}",
        f"--per_class={max(1, digits // len(DIGIT_NAMES))}",
        f"--verifier={_shipped('digits_classifier')}",
        "--accept=agree",
        f"--reference={output}/digits",
        f"--images_per_shard={_DIGITS_PER_SHARD}",
        "--batch_size=32",
        f"--output={output}/generated",
    ]


def _run(command: list[str]) -> int:
    print("\n$ pixelmill", shlex.join(command), flush=True)
    return cli.main(command)


def _shipped(name: str) -> str:
    """A model that comes along."""
    return os.path.join(os.path.dirname(shipped.__file__), name)


def make_scenes(folder: str, count: int) -> None:
    """Writes `count` scenes to folder/images (JPEG) and folder/masks (PNG of class ids)."""
    for index in range(count):
        image, mask = scene(_SEED, index, split="demo")
        for name, pixels, options in (
            (f"images/scene_{index:04d}.jpg", image, {"format": "JPEG", "quality": 92}),
            (f"masks/scene_{index:04d}.png", mask, {"format": "PNG"}),
        ):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, **options)
            storage.write(folder, name, buffer.getvalue())
    storage.delete_tree(os.path.join(folder, storage.TEMPORARY))


def compare(packed: str, segmented: str) -> npt.NDArray[np.int64]:
    """The confusion matrix of a run's masks with those in the shards that it read.

    Args:
        packed: OUT of a pack run, whose shards hold true masks.
        segmented: OUT of the segment run over these shards.

    Returns:
        int64 [C, C] over all pixels; rows are the truth.
    """
    classes = len(CLASS_NAMES)
    total = np.zeros((classes, classes), np.int64)
    for shard in run_files.read_plan(segmented).shards:
        truth = _masks(os.path.join(packed, "images", os.path.basename(shard.root)))
        found = _masks(os.path.join(segmented, "masks", f"{shard.name}.tfrecord"))
        if truth.keys() != found.keys():
            raise ValueError(f"shard {shard.name}: not all images have a mask")
        for key in truth:
            total += confusion_matrix(truth[key], found[key], classes)
    return total


def _masks(path: str) -> dict[bytes, npt.NDArray[np.uint8]]:
    masks = {}
    with storage.open_read(path) as file:
        for data in read_records(file):
            if isinstance(data, BadRecord):
                raise ValueError(f"{path}: {data.message}")
            features = tf.train.Example.FromString(data).features.feature
            encoded = features["image/segmentation/class/encoded"].bytes_list.value[0]
            key = features["image/filename"].bytes_list.value[0]
            masks[key] = np.asarray(Image.open(io.BytesIO(encoded)))
    return masks
