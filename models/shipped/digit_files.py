"""Writes the files that classifier and generator are trained with: digits by class.

Run it as `python -m models.shipped.digit_files FOLDER`; see make_models.sh.
"""

import os
import sys

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from models.shipped.digit_scenes import CLASS_NAMES

DIGIT_NAMES = CLASS_NAMES[1:]
SIDE_PX = 32


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


if __name__ == "__main__":
    write_digits(os.path.join(sys.argv[1], "digits"))
