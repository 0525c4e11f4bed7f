"""Real digits as files, a few to train with and the others to test with, and made ones of them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

from models.shipped.digit_files import DIGIT_NAMES

Pictures = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def split_digits(per_class: int) -> tuple[Pictures, Labels, Pictures, Labels]:
    """`per_class` digits of each class, drawn by chance, and all others: uint8 [N, 8, 8] and int64
    [N], twice."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = np.round(digits.images[order] * (255 / 16)).astype(np.uint8)
    labels = digits.target[order].astype(np.int64)
    earlier = np.asarray([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    few = earlier < per_class
    return pictures[few], labels[few], pictures[~few], labels[~few]


def warped(picture: Pictures, rng: np.random.Generator) -> Pictures:
    """A digit, uint8 [8, 8], a little turned, slanted, scaled and pulled about (as Simard et al.
    2003)."""
    turn, slant = np.deg2rad(rng.uniform(-10, 10, 2))
    turned = np.asarray([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    scaled = np.diag(np.exp(rng.uniform(-0.1, 0.1, 2)))
    affine = turned @ [[1, 0], [np.tan(slant), 1]] @ scaled
    at = np.einsum("ij,jyx->iyx", affine, np.mgrid[:8, :8] - 3.5) + 3.5
    at += np.stack([ndimage.zoom(rng.normal(0, 0.5, (3, 3)), 8 / 3, order=1) for _ in "yx"])
    moved = ndimage.map_coordinates(picture.astype(np.float64), at, order=3)
    return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def write_labelled(folder: Path, pictures: Pictures, labels: Labels) -> str:
    """Writes folder/<name of the class>/<number>.png; returns the folder."""
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        path = folder / DIGIT_NAMES[label] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return str(folder)
