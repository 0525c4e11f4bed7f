"""Windows in tests: models that are cut into them, and scores joined in a plain loop."""

import io
import itertools

import keras
import numpy as np
from PIL import Image

from models.card import load_card, own_card
from models.networks.export import ServedSegmenter, export
from models.networks.unet import UNetConfig, build_unet
from models.probe import probe
from models.rules import bind
from models.signatures import read_model
from transforms.clock import Clock
from transforms.decode import DecodePolicy, decode
from transforms.tiling.canvas import Canvas
from transforms.tiling.rows import WholeRows
from transforms.tiling.tiled_work import cuts


def bound(path):
    return probe(path, bind(read_model(path), load_card(own_card(path), {})))


def unet(norm):
    keras.utils.set_random_seed(3)
    return build_unet(UNetConfig(classes=4, depth=2, width=8, norm=norm)), 4


def saved(network, multiple, path):
    """Path and binding of a network that is exported there."""
    export(ServedSegmenter(network, multiple), path, "input: {range: '0,255'}", {})
    return path, bound(path)


def tiled(run, image, tiling):
    """Scores by windows, in a plain loop over the pieces."""
    grid = tiling.grid(image.shape[:2], fixed=False)
    buffer = io.BytesIO()
    Image.fromarray(image[:1, :1]).save(buffer, "PNG")
    facts = decode(buffer.getvalue(), DecodePolicy()).facts
    facts = facts.__class__(**{**facts.__dict__, "size_hw": image.shape[:2]})
    canvas, whole = Canvas(*grid), None
    for row, column, cut in cuts(WholeRows(image, facts), grid, Clock()):
        (y, x), block = canvas.add(row, column, run([cut.pixels])[0])
        if whole is None:
            whole = np.full((*image.shape[:2], block.shape[-1]), np.nan, np.float32)
        whole[y : y + block.shape[0], x : x + block.shape[1]] = block
    return whole


def seams(axis):
    """Where one window ends to be the one that counts most: the middles of overlaps."""
    return [
        (previous.start + axis.window + following.start + 1) // 2
        for previous, following in itertools.pairwise(axis.spans)
    ]


def near_seams(tiling, size_hw):
    """bool [H, W]: the pixels that are within 6 of a seam."""
    near = np.zeros(size_hw, bool)
    rows, columns = tiling.grid(size_hw, fixed=False)
    for y in seams(rows):
        near[y - 6 : y + 6] = True
    for x in seams(columns):
        near[:, x - 6 : x + 6] = True
    return near
