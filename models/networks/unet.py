"""U-Net, the segmenter (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597, figure 1).

    picture ─ two convolutions ───────────── copy ───────────── two convolutions ─ 1x1 ─ scores
                     └ pool ─ two convolutions ─ copy ─ two convolutions ─ up ┘
                                      └ pool ─ two convolutions ─ up ┘

Every convolution is 3x3 with a border of zeros, so that the scores are as large as the picture
(the paper's lose 184 pixels of it), followed by normalisation and ReLU. A level has half the
resolution and twice the channels of the one above. There is no dense layer: the same weights take
a picture of any size whose sides are multiples of 2^depth (models/networks/export.py pads others).

What a convolution computes, for output channel o at row y and column x (Keras' Conv2D; strictly
a cross-correlation, for the kernel is not mirrored; Goodfellow et al. 2016, equation 9.6):

    out[y, x, o] = bias[o] + sum over i, j, c of in[y + i - 1, x + j - 1, c] * kernel[i, j, c, o]

Its size, that of pooling and of the transposed convolution: models/networks/geometry.py.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import keras

from models.networks.levels import Levels

Norm = Literal["batch", "instance", "group"]
GROUPS = 8


@dataclasses.dataclass(frozen=True)
class UNetConfig(Levels):
    """What decides a U-Net; channels are doubled by each level below the first.

    Attributes:
        width: a multiple of 8 for the norm "group".
        norm: "batch" (Ioffe & Szegedy 2015) is fastest, and exact for tiles, since its statistics
            are fixed when it predicts (see `settle`). "instance" (Ulyanov et al. 2016) and "group"
            (Wu & He 2018) also learn from batches of one or two, but look at the whole picture.
    """

    norm: Norm = "batch"


def build_unet(config: UNetConfig) -> keras.Model:
    """The network.

    Input "image": float32 [N, H, W, 3], RGB, 0 to 255. Output: float32 [N, H, W, classes] logits.

    Raises:
        ValueError: a number of the configuration is out of range.
    """
    config.check()
    if config.norm == "group" and config.width % GROUPS:
        raise ValueError(f"width is {config.width}, a multiple of {GROUPS} is needed by groups")
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="to_minus1_1")(image)
    skips = []
    for level in range(config.depth):
        x = _two_convolutions(x, config.width * 2**level, config, f"down{level}")
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = _two_convolutions(x, config.width * 2**config.depth, config, "bottom")
    for level in reversed(range(config.depth)):
        x = _double(x, config.width * 2**level, f"up{level}")
        x = keras.layers.Concatenate(name=f"copy{level}")([skips[level], x])
        x = _two_convolutions(x, config.width * 2**level, config, f"join{level}")
    # float32 also where the rest computes in 16 bit: a softmax of those is too coarse
    scores = keras.layers.Conv2D(config.classes, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, scores, name="unet")


def _two_convolutions(x: Any, width: int, config: UNetConfig, name: str) -> Any:
    for step in "ab":
        x = keras.layers.Conv2D(
            width,
            3,
            padding="same",
            use_bias=False,  # the normalisation adds its own
            kernel_initializer="he_normal",
            name=f"{name}{step}",
        )(x)
        x = _normalised(x, config, f"{name}{step}_norm")
        x = keras.layers.ReLU(name=f"{name}{step}_relu")(x)
    return x


def _double(x: Any, width: int, name: str) -> Any:
    """Twice the resolution by a transposed convolution of 2x2 with stride 2.

    Each input pixel writes a 2x2 block of its own, out[2y+i, 2x+j, o] = sum over c of
    in[y, x, c] * kernel[i, j, o, c], so that there is no checkerboard of overlaps
    (Odena et al. 2016, distill.pub/2016/deconv-checkerboard).
    """
    return keras.layers.Conv2DTranspose(width, 2, strides=2, name=name)(x)


def _normalised(x: Any, config: UNetConfig, name: str) -> Any:
    if config.norm == "batch":
        return keras.layers.BatchNormalization(name=name)(x)
    groups = -1 if config.norm == "instance" else GROUPS  # -1: each channel is a group of its own
    return keras.layers.GroupNormalization(groups, name=name)(x)


def settle(network: keras.Model, images: Iterable[Any]) -> None:
    """Gives batch normalisation the statistics of the network as it is, from some batches.

    While it trains, it keeps averages over steps whose weights were others: early in a training,
    or where pictures are of many kinds, predictions by them are far off (Wu & Johnson 2021,
    arXiv:2105.07576, section 3: "precise" statistics). Nothing else changes.

    Args:
        images: batches as in training, float32 [N, H, W, 3].
    """
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    usual = [norm.momentum for norm in norms]
    for number, batch in enumerate(images if norms else ()):
        for norm in norms:
            norm.momentum = number / (number + 1)  # so that all batches count alike
        network(batch, training=True)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
