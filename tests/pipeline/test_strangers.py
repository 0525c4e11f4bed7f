"""Models of strangers: what `inspect` prints at the end runs as it stands."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline import cli

Export = Callable[[str], None]


def conditional_gan(path: str) -> None:
    module = tf.Module()
    module.dense = tf.Variable(tf.random.stateless_normal([128, 784], seed=[1, 2]))
    module.classes = tf.Variable(tf.random.stateless_normal([10, 784], seed=[3, 4]))

    def make(noise: Any, label: Any) -> Any:
        x = noise @ module.dense + tf.gather(module.classes, label[:, 0])
        return {"picture": tf.tanh(tf.reshape(x, [-1, 28, 28, 1]))}

    function = tf.function(make).get_concrete_function(
        noise=tf.TensorSpec([None, 128], tf.float32, name="noise"),
        label=tf.TensorSpec([None, 1], tf.int32, name="label"),
    )
    tf.saved_model.save(module, path, signatures=function)


def latent_decoder(path: str) -> None:
    import keras

    model = keras.Sequential(
        [
            keras.Input((100,)),
            keras.layers.Dense(7 * 7 * 4),
            keras.layers.Reshape((7, 7, 4)),
            keras.layers.Conv2DTranspose(1, 4, strides=4, padding="same", activation="tanh"),
        ]
    )
    model.export(path, verbose=False)


def unet_of_124_classes(path: str) -> None:
    """As Keras 2 saved it: with its optimizer, and int64 ids as the answer."""
    import tf_keras

    image = tf_keras.Input((64, 64, 3))
    x = tf_keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(image)
    x = tf_keras.layers.Conv2DTranspose(124, 2, 2)(x)
    scores = tf_keras.Model(image, x)
    scores.compile(tf_keras.optimizers.legacy.Adam(), "mse")
    scores.train_on_batch(np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 64, 124)))
    ids = tf_keras.layers.Lambda(lambda t: tf.argmax(t, -1))(x)
    model = tf_keras.Model(image, ids)
    model.optimizer = scores.optimizer
    model.save(path, save_format="tf")


def binary_unet(path: str) -> None:
    import tf_keras

    image = tf_keras.Input((64, 64, 3))
    x = tf_keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = tf_keras.layers.Conv2D(1, 1, activation="sigmoid")(x)
    tf_keras.Model(image, x).save(path, save_format="tf")


def portrait_without_signature(path: str) -> None:
    """As onnx2tf writes it: batch 1, NHWC in, NCHW softmax out, nothing but a function."""
    kernel = tf.random.stateless_normal([3, 3, 3, 2], seed=[1, 2])

    def call(x: Any) -> Any:
        return tf.transpose(tf.nn.softmax(tf.nn.conv2d(x, kernel, 1, "SAME")), [0, 3, 1, 2])

    spec = tf.TensorSpec((1, 48, 80, 3), tf.float32, name="x")
    tf.saved_model.save(tf.function(call).get_concrete_function(spec), path)


def encoded_with_a_key(path: str) -> None:
    """As AutoML's containers take them; all pictures are resized to one square."""
    kernel = tf.random.stateless_normal([3, 3, 3, 4], seed=[1, 2])

    def serve(image_bytes: Any, key: Any) -> Any:
        def decode(data: Any) -> Any:
            image = tf.io.decode_image(data, 3, tf.float32, expand_animations=False)
            return tf.image.resize(image, [64, 64])

        x = tf.map_fn(decode, image_bytes, tf.TensorSpec([64, 64, 3], tf.float32))
        return {"scores": tf.nn.softmax(tf.nn.conv2d(x, kernel, 1, "SAME")), "key": key}

    strings = [tf.TensorSpec([None], tf.string, name=name) for name in ("image_bytes", "key")]
    tf.saved_model.save(
        tf.Module(), path, signatures=tf.function(serve).get_concrete_function(*strings)
    )


def encoder_and_decoder(path: str) -> None:
    """Two endpoints; the first, which cannot be run, is the usual one."""
    import keras

    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(100)]
    )
    decoder = keras.Sequential(
        [
            keras.Input((100,)),
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Reshape((8, 8, 1)),
        ]
    )
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.track(decoder)
    for name, model in (("encode", encoder), ("decode", decoder)):
        spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        archive.add_endpoint(name, model.call, [spec])
    archive.write_out(path, verbose=False)


def two_vectors_of_floats(path: str) -> None:
    """Noise and a one-hot label, without names that say so."""
    import keras

    noise, label = keras.Input((64,)), keras.Input((10,))
    x = keras.layers.Dense(48, activation="tanh")(keras.layers.Concatenate()([noise, label]))
    keras.Model([noise, label], keras.layers.Reshape((4, 4, 3))(x)).export(path, verbose=False)


def many_outputs(path: str) -> None:
    """As a detector's: boxes, scores and instances, and one map."""
    kernel = tf.random.stateless_normal([3, 3, 3, 6], seed=[1, 2])

    def serve(image: Any) -> Any:
        x = tf.cast(image, tf.float32) / 255.0
        return {
            "boxes": tf.ones([1, 100, 4]),
            "instances": tf.ones([1, 100, 33, 33]),
            "multiclass_scores": tf.ones([1, 100, 91]),
            "picture": x,
            "semantic_logits": tf.nn.conv2d(x, kernel, 1, "SAME"),
            "total": tf.ones([1]),
        }

    spec = tf.TensorSpec([1, None, None, 3], tf.uint8, name="image")
    tf.saved_model.save(
        tf.Module(), path, signatures=tf.function(serve).get_concrete_function(spec)
    )


def methods_of_a_hub_model(path: str) -> None:
    """No signature, two methods: scores, and features that would ask for more."""

    class Hub(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.random.stateless_normal([3, 3, 3, 5], seed=[1, 2]))

        @tf.function
        def predict(self, x: Any) -> Any:
            return tf.nn.softmax(tf.nn.conv2d(x, self.kernel, 1, "SAME"))

        @tf.function
        def get_features(self, x: Any) -> Any:
            return [tf.nn.conv2d(x, self.kernel, stride, "SAME") for stride in (2, 4)]

    model = Hub()
    spec = tf.TensorSpec([None, None, None, 3], tf.float32)
    for method in (model.predict, model.get_features):
        method.get_concrete_function(spec)
    tf.saved_model.save(model, path)


@pytest.mark.parametrize(
    "export",
    [
        encoded_with_a_key,
        encoder_and_decoder,
        two_vectors_of_floats,
        many_outputs,
        methods_of_a_hub_model,
        conditional_gan,
        latent_decoder,
        unet_of_124_classes,
        binary_unet,
        portrait_without_signature,
    ],
)
@pytest.mark.parametrize("by_card", [False, True])
def test_the_command_that_inspect_prints_runs(
    export: Export,
    by_card: bool,
    photos: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, out = str(tmp_path / "model"), tmp_path / "out"
    export(model)
    more = [f"--write_card={tmp_path}/card.yaml"] if by_card else []
    assert cli.main(["inspect", model, *more]) == 0
    text = capsys.readouterr().out
    command = next(line for line in text.splitlines() if line.strip().startswith("pixelmill "))
    words = [{"IMAGES": photos, "OUT": str(out)}.get(w, w) for w in shlex.split(command)]
    assert cli.main([*words[1:], *(["--count=20"] if "--count=1000" in words else [])]) == 0
    written = list(out.glob("masks/*/*.png")) or list(out.glob("images/*.tfrecord"))
    assert written
    if words[1] == "segment":
        with Image.open(written[0]) as mask:
            assert mask.mode == "L"
