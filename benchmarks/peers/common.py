"""What all peers share: an example in, a mask out."""

import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image


class Job(NamedTuple):
    """The arguments of a peer."""

    shards: list[str]
    model: str
    out: Path
    batch_size: int


def job() -> Job:
    """From the command line; makes the folder for the output."""
    source, model, out, batch_size = sys.argv[1:]
    Path(out).mkdir(parents=True)
    return Job(sorted(map(str, Path(source).glob("*.tfrecord"))), model, Path(out), int(batch_size))


def mask_function(path: str) -> Any:
    """A function of uint8 [n, H, W, 3] to uint8 [n, H, W], argmax in the graph."""
    model = tf.saved_model.load(path)
    signature = model.signatures["serving_default"]

    @tf.function(reduce_retracing=True)
    def masks(images: Any) -> Any:
        scores = signature(image=images)["logits"]
        return tf.cast(tf.argmax(scores, -1, output_type=tf.int32), tf.uint8)

    masks.model = model  # a signature holds its variables only weakly
    return masks


def parse(serialized: bytes) -> tuple[bytes, bytes]:
    """Name and encoded picture of a tf.Example."""
    features = tf.train.Example.FromString(serialized).features.feature
    return (
        features["image/filename"].bytes_list.value[0],
        features["image/encoded"].bytes_list.value[0],
    )


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)))


def encode(mask: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of level 1, as pixelmill writes them."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", compress_level=1)
    return file.getvalue()


def example(name: bytes, png: bytes) -> bytes:
    """A serialized tf.Example of a mask."""
    made = tf.train.Example()
    made.features.feature["image/filename"].bytes_list.value.append(name)
    made.features.feature["image/segmentation/class/encoded"].bytes_list.value.append(png)
    return bytes(made.SerializeToString())
