"""Trains, measures and exports the shipped segmenter.

Run it as `python -m models.shipped.train_digits_segmenter`.
Writes next to this file the SavedModel folder `digits_segmenter/` and `digits_segmenter.json`
with what was measured on it. It took 14 minutes on two CPU cores shared with other work. It has a
network and a recipe of its own: of scenes of ten kinds of digits, the U-Net of `pixelmill train
segmenter` (depth 3, width 12, 26,000 squares) learned less in as many minutes: mean IoU 0.30.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from models.card import CARD_FILE
from models.networks.geometry import receptive_field
from models.shipped import digit_scenes

SEED = 20
HELD_OUT_SEED = 1_000_020
HELD_OUT_SCENES = 200
CLASSES = len(digit_scenes.CLASS_NAMES)
STRIDE = 16
TRAIN_SCENES = 8000
TRAIN_SIZE_HW = (96, 96)  # smaller than the demo's scenes: more digits per second of training
EPOCHS = 4
BATCH = 16
PEAK_RATE = 4e-3
WARMUP_STEPS = 100
WIDTHS = (12, 20, 32, 56, 72)  # channels at stride 1, 2, 4, 8, 16
HERE = Path(__file__).parent
EXPORT_DIR = HERE / "digits_segmenter"
JSON_PATH = HERE / "digits_segmenter.json"


def build_network() -> keras.Model:
    """A small U-Net with additive skips.

    Input float32 [N, H, W, 3] in 0..255, H and W multiples of 16; output logits float32
    [N, H, W, 11].
    """
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    x = _block(x, WIDTHS[0])
    skips = [x]
    for width in WIDTHS[1:]:
        x = _block(x, width, strides=2)
        if width > WIDTHS[1]:
            x = _block(x, width, separable=width == WIDTHS[-1])
        skips.append(x)
    for skip, width in zip(skips[-2::-1], WIDTHS[-2::-1], strict=True):
        x = keras.layers.Conv2D(width, 1, use_bias=False)(x)
        x = keras.layers.UpSampling2D(2)(x)
        x = _block(keras.layers.Add()([x, skip]), width, separable=width == WIDTHS[-2])
    return keras.Model(inputs, keras.layers.Conv2D(CLASSES, 1)(x))


def _block(x: Any, width: int, *, strides: int = 1, separable: bool = False) -> Any:
    layer = keras.layers.SeparableConv2D if separable else keras.layers.Conv2D
    x = layer(width, 3, strides=strides, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.95)(x)
    return keras.layers.ReLU()(x)


def train(network: keras.Model) -> float:
    """Makes the training scenes and fits the network to them; returns the seconds it took."""
    start = time.monotonic()
    images, masks = digit_scenes.scenes(
        SEED, range(TRAIN_SCENES), split="train", size_hw=TRAIN_SIZE_HW
    )
    rate = keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 20,
        EPOCHS * TRAIN_SCENES // BATCH - WARMUP_STEPS,
        warmup_target=PEAK_RATE,
        warmup_steps=WARMUP_STEPS,
    )
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    network.fit(images, masks, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    return time.monotonic() - start


class Segmenter(tf.Module):
    """The exported object: the network behind one signature for images of any size."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self._network = network.call  # a bare function: Keras objects stay out of the SavedModel
        self.weights = [weight.value for weight in network.weights]

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "image")],
        autograph=False,
    )
    def logits(self, image: Any) -> dict[str, Any]:
        """uint8 RGB [N, H, W, 3] in 0..255 -> {"logits": float32 [N, H, W, 11]}."""
        height, width = tf.shape(image)[1], tf.shape(image)[2]
        # Repeats the last row and column up to the next multiple of the stride.
        rows = tf.minimum(tf.range(-(-height // STRIDE) * STRIDE), height - 1)
        columns = tf.minimum(tf.range(-(-width // STRIDE) * STRIDE), width - 1)
        padded = tf.gather(tf.gather(image, rows, axis=1), columns, axis=2)
        scores = self._network(tf.cast(padded, tf.float32), training=False)
        return {"logits": scores[:, :height, :width]}


def export(network: keras.Model, folder: Path) -> None:
    """Writes the SavedModel, replacing `folder`; nothing in it names a path of this machine."""
    module = Segmenter(network)
    with tempfile.TemporaryDirectory() as temp:
        tf.saved_model.save(
            module,
            temp,
            signatures={"serving_default": module.logits},
            options=tf.saved_model.SaveOptions(save_debug_info=False),
        )
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(temp, folder)


def add_cards(folder: Path, card: dict[str, Any]) -> None:
    """Writes into a SavedModel the card that pixelmill reads, and one for people.

    Args:
        card: what was measured, as in `digits_segmenter.json`.
    """
    fields = {
        "signature": "serving_default",
        "classes": list(digit_scenes.CLASS_NAMES),
        "output": {"name": "logits", "kind": "logits", "layout": "NHWC"},
        "receptive_field": list(receptive_field(build_network()).size_hw or ()),
    }
    photographs = "; ".join(digit_scenes.PHOTO_CREDITS.values())
    lines = [
        "# Handwritten digits over photographs, segmented",
        "",
        "Takes uint8 RGB pictures of any size, `image` [N, H, W, 3]; gives `logits`.",
        "",
        f"- Parameters: {card['parameters']:,}; receptive field: {{}} x {{}} pixels".format(
            *fields["receptive_field"]
        ),
        f"- Data: {card['train_scenes']:,} scenes of digits of the UCI repository over photographs",
        f"- Licence: Apache-2.0. Photographs: {photographs}",
        f"- Mean IoU {card['mean_iou']:.4f}, pixel accuracy {card['pixel_accuracy']:.4f} on "
        f"{card['held_out_scenes']} scenes of digits that it was not trained with",
        "",
        "| class | IoU |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in card["iou"].items()),
    ]
    for name, text in (
        (CARD_FILE, yaml.safe_dump(fields, sort_keys=False)),
        ("assets.extra/MODEL_CARD.md", "\n".join(lines) + "\n"),
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def measure(folder: Path, count: int = HELD_OUT_SCENES) -> dict[str, Any]:
    """Scores the SavedModel in `folder` on the first `count` held-out scenes.

    Returns:
        Intersection over union per class, their mean over the 11 classes (pixels pooled over
        all scenes), pixel accuracy, all in [0, 1], and milliseconds per 128x128 image.
    """
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    seconds = []
    for first in range(0, count, 8):
        images, truth = digit_scenes.scenes(
            HELD_OUT_SEED, range(first, min(first + 8, count)), split="demo"
        )
        start = time.monotonic()
        logits = signature(image=tf.constant(images))["logits"].numpy()
        seconds.append((time.monotonic() - start) / len(images))
        cells = truth.astype(np.int64) * CLASSES + logits.argmax(-1)
        confusion += np.bincount(cells.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    return {
        "held_out_seed": HELD_OUT_SEED,
        "held_out_scenes": count,
        "mean_iou": round(float(iou.mean()), 4),
        "iou": {
            name: round(float(value), 4)
            for name, value in zip(digit_scenes.CLASS_NAMES, iou, strict=True)
        },
        "pixel_accuracy": round(float(hits.sum() / confusion.sum()), 4),
        "msec_per_image": round(1000 * float(np.median(seconds)), 1),
    }


def main() -> None:
    """Trains, exports, measures the exported folder and writes what was measured."""
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    network = build_network()
    print(f"{network.count_params()} parameters")
    seconds = train(network)
    export(network, EXPORT_DIR)
    card = measure(EXPORT_DIR) | {
        "parameters": network.count_params(),
        "train_scenes": TRAIN_SCENES,
        "epochs": EPOCHS,
        "train_seconds": round(seconds),
        "bytes": sum(file.stat().st_size for file in EXPORT_DIR.rglob("*") if file.is_file()),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
    add_cards(EXPORT_DIR, card)
    text = json.dumps(card, indent=2) + "\n"
    JSON_PATH.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
