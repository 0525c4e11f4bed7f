"""A small world of labelled pictures: its generators, good and bad, and its classifier.

A picture is 16x16 grey: a blob in the quadrant that is its class, on uneven ground.
"""

from pathlib import Path
from typing import Any

import numpy as np

from models.loading import import_tensorflow

CLASSES = ("north_west", "north_east", "south_west", "south_east")
SIDE, NOISE = 16, 8
KINDS = ("good", "ignores_label", "collapsed", "copies")


def _pictures(tf: Any, noise: Any, label: Any) -> Any:
    """float32 [n, 16, 16, 1] in 0..255 from noise [n, 8] and labels [n]."""
    row = tf.cast(label // 2, tf.float32) * 8 + 3.5 + noise[:, 0] * 0.8
    column = tf.cast(label % 2, tf.float32) * 8 + 3.5 + noise[:, 1] * 0.8
    grid = tf.range(SIDE, dtype=tf.float32)

    def per_row(x: Any) -> Any:
        return tf.reshape(x, [-1, 1, 1])

    squared = per_row(row) * 0 + (grid[:, tf.newaxis] - per_row(row)) ** 2
    squared += (grid[tf.newaxis, :] - per_row(column)) ** 2
    width = 2.0 + 0.3 * tf.tanh(per_row(noise[:, 2]))
    blob = (170.0 + 20 * tf.tanh(per_row(noise[:, 3]))) * tf.exp(-squared / (2 * width**2))
    ground = 40.0 + 3 * per_row(noise[:, 4])
    ground += per_row(noise[:, 5]) * 0.6 * (grid[:, tf.newaxis] - 7.5)
    ground += per_row(noise[:, 6]) * 0.6 * (grid[tf.newaxis, :] - 7.5)
    ground += 4 * per_row(noise[:, 7]) * tf.sin(grid[:, tf.newaxis] * grid[tf.newaxis, :] / 9)
    return tf.clip_by_value(blob + ground, 0.0, 255.0)[..., tf.newaxis]


def export_generator(path: str | Path, kind: str, training: np.ndarray | None = None) -> str:
    """One of KINDS: noise [N, 8], label [N] -> image [N, 16, 16, 1] in 0..255.

    Args:
        training: uint8 [n, 16, 16] that "copies" copies, as many of each class, by class.
    """
    tf = import_tensorflow()

    def make(noise: Any, label: Any) -> Any:
        if kind == "ignores_label":
            label = tf.cast(noise[:, 2] > 0, tf.int32) * 2 + tf.cast(noise[:, 3] > 0, tf.int32)
        elif kind == "collapsed":
            noise = tf.zeros_like(noise)
        elif kind == "copies":
            known = tf.constant(training[..., np.newaxis].astype(np.float32))
            each = len(training) // len(CLASSES)
            chosen = tf.cast(tf.abs(tf.reduce_sum(noise, axis=1)) * 1000, tf.int32) % each
            return {"image": tf.gather(known, label * each + chosen)}
        return {"image": _pictures(tf, noise, label)}

    function = tf.function(make).get_concrete_function(
        noise=tf.TensorSpec([None, NOISE], tf.float32, name="noise"),
        label=tf.TensorSpec([None], tf.int32, name="label"),
    )
    tf.saved_model.save(tf.Module(), str(path), signatures=function)
    return str(path)


def export_classifier(path: str | Path, size: int | None = SIDE) -> str:
    """uint8 [N, size, size, 3] -> logits [N, 4], features [N, 16]: means of parts."""
    tf = import_tensorflow()

    def look(image: Any) -> Any:
        x = tf.reduce_mean(tf.cast(image, tf.float32), axis=-1, keepdims=True)
        x = tf.image.resize(x, [SIDE, SIDE])
        quadrants = tf.reshape(tf.nn.avg_pool2d(x, 8, 8, "VALID"), [-1, 4])
        features = tf.reshape(tf.nn.avg_pool2d(x, 4, 4, "VALID"), [-1, 16]) / 32
        return {"logits": quadrants * 0.3, "features": features}

    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="image")
    function = tf.function(look).get_concrete_function(image=spec)
    tf.saved_model.save(tf.Module(), str(path), signatures=function)
    return str(path)
