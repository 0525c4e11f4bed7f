"""LinkNet, the small segmenter (Chaurasia, Culurciello 2017, arXiv:1707.03718, figure 1).

    picture ─ convolution ──────────────── add ─ convolution ─ 1x1 ─ scores
                  └ stride 2, two convolutions ── add ─ convolution ─ up ┘
                              └ stride 2, two convolutions ─ up ┘

What the way down has seen is added to the way up, where a U-Net copies it beside: half the channels
there, and one convolution where the U-Net has two. Of the paper's residual blocks their plain form
is left, and resolution is doubled by repetition behind a 1x1 convolution. Channels grow by 1.6 a
level. It has a sixth of the weights of a U-Net of its depth and width, and takes a third to two
fifths of its processor time (depth 4, width 16 and 12, on 96x96 pixels): for small objects, small
models, and processors without an accelerator. Sides must be
multiples of 2^depth; formulas are in unet.py.
"""

import dataclasses
from typing import Any

import keras

from models.networks.levels import Levels

_GROWTH = 1.6


@dataclasses.dataclass(frozen=True)
class LinkNetConfig(Levels):
    """What decides a LinkNet."""

    width: int = 12

    @property
    def widths(self) -> list[int]:
        """Channels by level: multiples of 4, which processors like."""
        return [
            max(4, 4 * round(self.width * _GROWTH**level / 4)) for level in range(self.depth + 1)
        ]


def build_linknet(config: LinkNetConfig) -> keras.Model:
    """The network.

    Input "image": float32 [N, H, W, 3], RGB, 0 to 255. Output: float32 [N, H, W, classes] logits.

    Raises:
        ValueError: a number of the configuration is out of range.
    """
    config.check()
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="to_minus1_1")(image)
    first, *deeper = config.widths
    x = _convolution(x, first, "down0")
    skips = [x]
    for level, width in enumerate(deeper, 1):
        x = _convolution(x, width, f"down{level}a", strides=2)
        x = _convolution(x, width, f"down{level}b")
        skips.append(x)
    for level in reversed(range(config.depth)):
        width = config.widths[level]
        x = keras.layers.Conv2D(width, 1, use_bias=False, name=f"narrow{level}")(x)
        x = keras.layers.UpSampling2D(2, name=f"up{level}")(x)
        x = keras.layers.Add(name=f"add{level}")([x, skips[level]])
        x = _convolution(x, width, f"join{level}")
    # float32 also where the rest computes in 16 bit: a softmax of those is too coarse
    scores = keras.layers.Conv2D(config.classes, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, scores, name="linknet")


def _convolution(x: Any, width: int, name: str, strides: int = 1) -> Any:
    x = keras.layers.Conv2D(
        width, 3, strides=strides, padding="same", use_bias=False, name=name
    )(x)  # fmt: skip
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
