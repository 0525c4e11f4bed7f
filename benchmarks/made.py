"""The data and the models that are measured with, made from a seed."""

import dataclasses
import io
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from models.card import CARD_FILE
from models.networks.unet import UNetConfig, build_unet
from models.shipped.digit_scenes import scene

CLASSES = 12
_KINDS = 64  # different pictures; repeated, for making them takes longer than measuring


@dataclasses.dataclass(frozen=True)
class Dataset:
    """TFRecord shards of JPEGs.

    Attributes:
        folder: where they are.
        images: how many pictures.
        shards: in how many files of equal length.
        side_px: of the squares.
    """

    folder: Path
    images: int
    shards: int
    side_px: int


def make_dataset(root: Path, images: int, shards: int, side_px: int) -> Dataset:
    """Writes shards, once. Pictures: digits over photographs, JPEG of quality 90."""
    made = Dataset(root / f"{images}x{side_px}in{shards}", images, shards, side_px)
    if made.folder.exists():
        return made
    encoded = _pictures(side_px)
    unfinished = made.folder.with_suffix(".part")
    unfinished.mkdir(parents=True, exist_ok=True)
    per_shard = images // shards
    for shard in range(shards):
        with tf.io.TFRecordWriter(
            str(unfinished / f"images-{shard:05d}-of-{shards:05d}.tfrecord")
        ) as file:
            for number in range(shard * per_shard, (shard + 1) * per_shard):
                example = tf.train.Example()
                features = example.features.feature
                features["image/encoded"].bytes_list.value.append(encoded[number % _KINDS])
                features["image/filename"].bytes_list.value.append(b"%06d.jpg" % number)
                file.write(example.SerializeToString())
    unfinished.rename(made.folder)
    return made


def make_files(root: Path, images: int, side_px: int) -> Path:
    """The same pictures as files of a folder, once."""
    folder = root / f"{images}x{side_px}files"
    if not folder.exists():
        folder.mkdir(parents=True)
        encoded = _pictures(side_px)
        for number in range(images):
            (folder / f"{number:06d}.jpg").write_bytes(encoded[number % _KINDS])
    return folder


def _pictures(side_px: int) -> list[bytes]:
    return [_jpeg(scene(7, number, size_hw=(side_px, side_px))[0]) for number in range(_KINDS)]


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def make_models(root: Path) -> dict[str, str]:
    """SavedModels, once: uint8 [n, H, W, 3] `image` to float32 [n, H, W, 12] `logits`.

    cheap: one 1x1 convolution. middle, heavy: U-Nets of depth 3, 8 and 32 channels wide.
    """
    found = {name: str(root / name) for name in ("cheap", "middle", "heavy")}
    for name, path in found.items():
        if not Path(path).exists():
            keras.utils.set_random_seed(1)
            served = _Served(_network(name))
            signatures = {"serving_default": served.logits, "examples": served.masks}
            tf.saved_model.save(served, path, signatures=signatures)
            card = Path(path) / CARD_FILE
            card.parent.mkdir(exist_ok=True)
            card.write_text("input: {multiple_of: 8}\n")  # three levels of pooling
    return found


def _network(name: str) -> keras.Model:
    if name == "cheap":
        image = keras.Input((None, None, 3))
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
        return keras.Model(image, keras.layers.Conv2D(CLASSES, 1)(scaled))
    return build_unet(UNetConfig(CLASSES, depth=3, width={"middle": 8, "heavy": 32}[name]))


class _Served(tf.Module):
    """A network behind two signatures: of pictures, and of tf.Examples, as tfx-bsl wants it."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network
        self.weights = [weight.value for weight in network.weights]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "image")])
    def logits(self, image):  # type: ignore[no-untyped-def]  # a signature's argument
        return {"logits": self.network(tf.cast(image, tf.float32), training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def masks(self, examples):  # type: ignore[no-untyped-def]
        wanted = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        encoded = tf.io.parse_example(examples, wanted)["image/encoded"]
        image = tf.map_fn(
            lambda data: tf.io.decode_jpeg(data, channels=3), encoded, fn_output_signature=tf.uint8
        )
        scores = self.logits(image)["logits"]
        return {"mask": tf.cast(tf.argmax(scores, -1, output_type=tf.int32), tf.uint8)}
