"""Measures what kernel size, stride, pooling and dilation cost and bring; writes the page's tables.

Run it as `python docs/kernel_and_stride.py`. It took six minutes on two CPU cores that were
busy with three times as much other work, and rewrites what stands between the marks of
kernel_and_stride.md.

The first table: scikit-learn's 8x8 digits, enlarged to 16 x 16, are told apart by four convolutions
of 12 channels, each with batch normalisation and ReLU, a 1x1 convolution to 10 logits, and the mean
of these over the map: what an output does not see, no later layer adds. All are trained alike: same
digits, steps, rate and seeds. The second table has no network: true masks of digit scenes are
made smaller by a step, and larger again.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.networks.geometry import receptive_field
from models.shipped import digit_scenes
from transforms.confusion import confusion_matrix, iou_per_class

PAGE = Path(__file__).with_suffix(".md")
SIZE_HW = (16, 16)
CHANNELS, CLASSES = 12, 10
EPOCHS, BATCH, PEAK_RATE = 6, 64, 1e-2
SEEDS = (1, 2, 3)
TIMED_HW = (256, 256)
SCENES, STEPS = 100, (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Variant:
    """Four convolutions; a block of `twice` has two of them, one after the other."""

    name: str
    kernel: int = 3
    strides: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1)
    pool: bool = False
    twice: bool = False


HALVING = (2, 2, 2, 1)
VARIANTS = (
    Variant("kernel 3"),
    Variant("kernel 5", kernel=5),
    Variant("kernel 7", kernel=7),
    Variant("two kernels of 3 for each 5", twice=True),
    Variant("kernel 3, dilations 1, 2, 4, 8", dilations=(1, 2, 4, 8)),
    Variant("kernel 3, stride 2, three times", strides=HALVING),
    Variant("kernel 3, stride 1, max pooling 2, three times", strides=HALVING, pool=True),
    Variant("kernel 5, stride 2, three times", kernel=5, strides=HALVING),
    Variant("kernel 3, first stride 4", strides=(4, 1, 1, 1)),
    Variant("kernel 7, first stride 4", kernel=7, strides=(4, 1, 1, 1)),
)


def network(variant: Variant, size_hw: tuple[int | None, int | None]) -> keras.Model:
    """float32 [N, H, W, 1] in -1..1 -> logits of every position, [N, h, w, 10]."""
    inputs = x = keras.Input((*size_hw, 1))
    for stride, dilation in zip(variant.strides, variant.dilations, strict=True):
        for again in range(2 if variant.twice else 1):
            x = layers.Conv2D(
                CHANNELS,
                variant.kernel,
                strides=1 if variant.pool or again else stride,
                dilation_rate=dilation,
                padding="same",
                use_bias=False,
            )(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        if variant.pool and stride > 1:
            x = layers.MaxPooling2D(stride)(x)
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1)(x))


def multiply_adds_per_pixel(variant: Variant) -> float:
    """Of the convolutions, by pixel of the picture: outputs x taps x channels in x channels out."""
    total = 0
    for layer in network(variant, TIMED_HW).layers:
        if isinstance(layer, layers.Conv2D):
            height, width = layer.output.shape[1:3]
            total += height * width * math.prod(layer.kernel.shape)
    return total / math.prod(TIMED_HW)


def digits(split: digit_scenes.Split) -> tuple[Any, Any]:
    """float32 [N, 16, 16, 1] in -1..1, each pixel four, and int64 [N]."""
    found = load_digits()
    chosen = digit_scenes.digit_indices(split)
    pictures = found.images[chosen].astype(np.float32) / 8 - 1
    return pictures.repeat(2, axis=1).repeat(2, axis=2)[..., None], found.target[chosen]


def accuracy(variant: Variant, seed: int) -> float:
    """Of held-out digits, after training with weights and an order that the seed gives."""
    keras.utils.set_random_seed(seed)
    bare = network(variant, SIZE_HW)
    model = keras.Model(bare.input, layers.GlobalAveragePooling2D()(bare.output))
    pictures, labels = digits("train")
    steps = EPOCHS * len(pictures) // BATCH
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(PEAK_RATE, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.fit(pictures, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    pictures, labels = digits("demo")
    return float((np.asarray(model(pictures, training=False)).argmax(-1) == labels).mean())


def msec_per_picture(variant: Variant) -> float:
    """Processor time, of all cores together, for one picture of TIMED_HW: the least of 15 runs."""
    model = network(variant, TIMED_HW)
    picture = tf.zeros((1, *TIMED_HW, 1))
    run = tf.function(lambda x: model(x, training=False))
    run(picture)
    seconds = []
    for _ in range(15):
        start = time.process_time()
        run(picture).numpy()
        seconds.append(time.process_time() - start)
    return 1000 * min(seconds)


def table_of_networks() -> Iterable[str]:
    """Line by line."""
    yield "| four convolutions | weights | multiply-adds | field | step | msec | accuracy |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for variant in VARIANTS:
        bare = network(variant, (None, None))
        field = receptive_field(bare)
        assert field.window_hw is not None and field.stride_hw is not None
        found = [f"{accuracy(variant, seed):.3f}" for seed in SEEDS]
        yield (
            f"| {variant.name} | {bare.count_params():,} | {multiply_adds_per_pixel(variant):,.0f} "
            f"| {field.window_hw[0]} | {field.stride_hw[0]} | {msec_per_picture(variant):.1f} "
            f"| {min(found)} to {max(found)} |"
        )


def table_of_steps() -> Iterable[str]:
    """Line by line."""
    yield "| step | mean IoU of 11 classes |"
    yield "|--:|--:|"
    _, masks = digit_scenes.scenes(2, range(SCENES))
    classes = len(digit_scenes.CLASS_NAMES)
    for step in STEPS:
        parts = layers.AveragePooling2D(step)(np.eye(classes, dtype=np.float32)[masks])
        back = layers.UpSampling2D(step, interpolation="bilinear")(parts)
        confusion = confusion_matrix(masks, np.asarray(back).argmax(-1), classes)
        yield f"| {step} | {np.nanmean(iou_per_class(confusion)):.3f} |"


def write(name: str, lines: Iterable[str]) -> None:
    """Puts a table between its marks in the page, and shows it while it grows."""
    table = []
    for line in lines:
        print(line, flush=True)
        table.append(line + "\n")
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(before + begin + "".join(table) + end + after, encoding="utf-8")


def main() -> None:
    """Measures, and puts the tables into the page."""
    start = time.monotonic()
    write("steps", table_of_steps())
    write("networks", table_of_networks())
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
