"""Writes the files that the shipped models are trained with: digits by class, scenes with masks.

Run it as `python -m models.shipped.digit_files FOLDER`; see make_models.sh.
"""

import os
import sys

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from models.shipped.digit_scenes import CLASS_NAMES, scene

DIGIT_NAMES = CLASS_NAMES[1:]
SIDE_PX = 32
SCENES = 8000
SCENES_SEED = 20
SCENE_HW = (96, 96)  # smaller than the demo's scenes: more digits per second of training


def enlarged_digit(glyph: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """A digit that people can see: uint8 [32, 32], 0 to 255, of one of 8x8 levels 0 to 16."""
    small = Image.fromarray(np.round(glyph * (255 / 16)).astype(np.uint8))
    return np.asarray(small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def write_digits(folder: str) -> None:
    """Writes all digits of scikit-learn as folder/<name of the class>/<number>.png."""
    digits = load_digits()
    for number, (glyph, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = os.path.join(folder, DIGIT_NAMES[label], f"{number:04d}.png")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(enlarged_digit(glyph)).save(path)


def write_scenes(folder: str) -> None:
    """Writes scenes as folder/images/<number>.png with folder/masks/<number>.png: class ids.

    No digit of theirs is in a scene of the demo (`digit_scenes`, split "train").
    """
    for name in ("images", "masks"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    for number in range(SCENES):
        pixels, mask = scene(SCENES_SEED, number, split="train", size_hw=SCENE_HW)
        name = f"{number:05d}.png"
        Image.fromarray(pixels).save(os.path.join(folder, "images", name), compress_level=1)
        Image.fromarray(mask).save(os.path.join(folder, "masks", name))


if __name__ == "__main__":
    write_digits(os.path.join(sys.argv[1], "digits"))
    write_scenes(os.path.join(sys.argv[1], "scenes"))
