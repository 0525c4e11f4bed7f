"""What is held of a picture grows with its width, not with its height."""

import io
import tracemalloc

import numpy as np
from PIL import Image

from models.answers import Segmentation
from transforms.clock import Clock
from transforms.decode import DecodePolicy
from transforms.png import PngRows
from transforms.records import Result
from transforms.tiling.mask_mosaic import MaskMosaic
from transforms.tiling.rows import open_rows
from transforms.tiling.tiled_work import cuts
from transforms.tiling.windows import Tiling

CLASSES = 19


def finish(values):
    mask = values.argmax(-1).astype(np.uint8)
    counts = np.bincount(mask.ravel(), minlength=CLASSES)
    return Segmentation(mask, None, counts, None, True, True)


def peak_of(height):
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, 1500, 3), 90, np.uint8)).save(buffer, "PNG")
    tracemalloc.start()
    rows = open_rows(buffer.getvalue(), DecodePolicy(), streamed_pixels=1)
    grid = Tiling((128, 128), (32, 32), "gaussian").grid(rows.facts.size_hw, fixed=False)
    mosaic = MaskMosaic(
        grid, finish, False, PngRows, lambda facts, mask: Result({}, {"mask": mask}, {})
    )
    for row, column, cut in cuts(rows, grid, Clock()):
        mosaic.add(row, column, np.zeros((*cut.pixels.shape[:2], CLASSES), np.float32))
    assert mosaic.result(rows.facts).row["mask"].class_pixels.sum() == height * 1500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_four_times_the_height_takes_the_same_memory():
    peak_of(300)  # what is imported and cached once
    low, high = peak_of(600), peak_of(2400)
    assert high < 1.1 * low, f"{low / 1e6:.1f} MB and {high / 1e6:.1f} MB"
