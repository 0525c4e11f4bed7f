"""Tiny SavedModels of every shape, exported once per session, and the real ones where they are.

saved          name of a recipe below -> folder of the SavedModel
bound          the same, with a card -> its probed binding
picture        height, width, seed -> uint8 RGB
real_data      the folder that PIXELMILL_REAL_DATA names, or the test is skipped
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.binding import Binding
from models.card import load_card
from models.loading import import_tensorflow
from models.probe import probe
from models.rules import bind
from models.signatures import read_model

Head = Callable[[Any, Any], Any]


def _scores(tf: Any, x: Any, kernel: Any, stride: int) -> Any:
    return tf.nn.conv2d(tf.cast(x, tf.float32), kernel, stride, "SAME")


HEADS: dict[str, Head] = {
    "logits": lambda tf, y: y,
    "softmax": lambda tf, y: tf.nn.softmax(y),
    "sigmoid": lambda tf, y: tf.sigmoid(y),
    "sigmoid_rank3": lambda tf, y: tf.sigmoid(y)[..., 0],
    "int32": lambda tf, y: tf.argmax(y, -1, tf.int32),
    "int64": lambda tf, y: tf.argmax(y, -1)[..., tf.newaxis],
    "bool": lambda tf, y: y[..., 0] > 0.0,
    "float_ids": lambda tf, y: tf.cast(tf.argmax(y, -1), tf.float32),
    "colours": lambda tf, y: tf.cast(tf.clip_by_value(y * 99, 0, 255), tf.uint8),
    "labels": lambda tf, y: tf.sigmoid(y),
    "nan": lambda tf, y: y + tf.math.log(-y * 0.0 - 1.0),
    # not a number when the picture is all black
    "nan_if_black": lambda tf, y: (
        y + 0.0 / tf.sign(tf.reduce_max(tf.abs(y), axis=[1, 2, 3], keepdims=True))
    ),
    "drop": lambda tf, y: y[1:],
    "drop_if_many": lambda tf, y: tf.cond(tf.shape(y)[0] > 1, lambda: y[1:], lambda: y),
    "raise": lambda tf, y: tf.ensure_shape(tf.reshape(y, [-1, 7, 7, 11]), [None, 7, 7, 11]),
    "vector": lambda tf, y: tf.reduce_mean(y, axis=[1, 2]),
    "scalar": lambda tf, y: tf.reduce_mean(y),
}

# name -> differences from a network of free NHWC floats with logits of 3 classes
RECIPES: dict[str, dict[str, Any]] = {
    "logits": {},
    "fixed": {"shape": (None, 32, 48, 3)},
    "classes300_fixed": {"shape": (None, 32, 48, 3), "classes": 300},
    "int32_fixed": {"shape": (None, 32, 48, 3), "head": "int32"},
    "fixed_square": {"shape": (None, 64, 64, 3), "stride": 16},
    "one_side": {"shape": (None, 32, None, 3)},
    "batch1": {"shape": (1, None, None, 3)},
    "batch4": {"shape": (4, 32, 48, 3)},
    "uint8": {"dtype": "uint8"},
    "uint8_fixed": {"dtype": "uint8", "shape": (None, 32, 48, 3)},
    "grey": {"shape": (None, None, None, 1)},
    "nchw_out": {"nchw_out": True},
    "nchw": {"shape": (None, 32, 48, 3), "nchw_in": True, "nchw_out": True},
    "nchw_free": {"nchw_in": True, "nchw_out": True},
    "stride4": {"stride": 4},
    "stride4_nchw": {"stride": 4, "nchw_out": True},
    "stride16_21": {"stride": 16, "classes": 21},
    "stride16_21_nchw": {"stride": 16, "classes": 21, "nchw_out": True},
    "classes300": {"classes": 300},
    "classes72_stride4": {"classes": 72, "stride": 4},
    "classes288": {"classes": 288},
    "classes64_square": {"shape": (None, 64, 64, 3), "classes": 64},
    "softmax": {"head": "softmax"},
    "sigmoid": {"head": "sigmoid", "classes": 1},
    "sigmoid_rank3": {"head": "sigmoid_rank3", "classes": 1},
    "logit": {"classes": 1},
    "int32": {"head": "int32"},
    "int64": {"head": "int64"},
    "int32_stride4": {"head": "int32", "stride": 4},
    "ids40": {"head": "int32", "classes": 40},
    "bool": {"head": "bool"},
    "float_ids": {"head": "float_ids"},
    "colours": {"head": "colours"},
    "labels": {"head": "labels"},
    "nan": {"head": "nan"},
    "nan_if_black": {"head": "nan_if_black"},
    "drop": {"head": "drop"},
    "drop_if_many": {"head": "drop_if_many"},
    "raise": {"head": "raise"},
    "vector": {"head": "vector"},
    "scalar": {"head": "scalar"},
}


def _export_network(
    folder: str,
    *,
    shape: tuple[int | None, ...] = (None, None, None, 3),
    dtype: str = "float32",
    classes: int = 3,
    stride: int = 1,
    head: str = "logits",
    nchw_in: bool = False,
    nchw_out: bool = False,
) -> None:
    """A 3x3 convolution; `shape` is NHWC, whatever the layout of the input is."""
    tf = import_tensorflow()
    module = tf.Module()
    module.kernel = tf.Variable(_kernel(shape[3], classes, dtype))
    if nchw_in:
        shape = (shape[0], shape[3], shape[1], shape[2])

    def call(image: Any) -> Any:
        x = tf.transpose(image, [0, 2, 3, 1]) if nchw_in else image
        y = HEADS[head](tf, _scores(tf, x, module.kernel, stride))
        return {"out": tf.transpose(y, [0, 3, 1, 2]) if nchw_out else y}

    image = tf.TensorSpec(shape, dtype, name="image")
    function = tf.function(call).get_concrete_function(image=image)
    tf.saved_model.save(module, folder, signatures=function)


def _kernel(channels: int, classes: int, dtype: str) -> np.ndarray:
    """Weights that differ by class and sum to about 0, so that every class is chosen somewhere."""
    kernel = np.random.default_rng(channels).normal(0, 1, (3, 3, channels, classes))
    kernel -= kernel.mean(axis=(0, 1, 2))
    return (kernel * (0.02 if dtype == "uint8" else 4)).astype(np.float32)


def _export_outputs(folder: str, **heads: str) -> None:
    """One network with several outputs: name -> head."""
    tf = import_tensorflow()
    module = tf.Module()
    module.kernel = tf.Variable(_kernel(3, 3, "float32"))

    def call(image: Any) -> Any:
        y = _scores(tf, image, module.kernel, 1)
        return {name: HEADS[head](tf, y) for name, head in heads.items()}

    image = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    function = tf.function(call).get_concrete_function(image=image)
    tf.saved_model.save(module, folder, signatures=function)


def _export_two_inputs(folder: str) -> None:
    tf = import_tensorflow()
    function = tf.function(
        lambda image, label: {"out": image * tf.reshape(label, [-1, 1, 1, 1])}
    ).get_concrete_function(
        image=tf.TensorSpec((None, None, None, 3), tf.float32, name="image"),
        label=tf.TensorSpec((None,), tf.float32, name="label"),
    )
    tf.saved_model.save(tf.Module(), folder, signatures=function)


def _export_strings(folder: str, name: str = "image_bytes", batch: bool = True) -> None:
    """Takes encoded images, or tf.Examples of them where `name` says so; logits of 3 classes."""
    tf = import_tensorflow()
    kernel = tf.constant(_kernel(3, 3, "float32"))

    def decode(data: Any) -> Any:
        if "example" in name:
            features = {
                "image/encoded": tf.io.FixedLenFeature([], tf.string),
                "image/format": tf.io.FixedLenFeature([], tf.string),
            }
            data = tf.io.parse_single_example(data, features)["image/encoded"]
        return tf.io.decode_image(data, 3, tf.float32, expand_animations=False)

    def call(strings: Any) -> Any:
        spec = tf.TensorSpec((None, None, 3), tf.float32)
        if not batch:
            image = tf.ensure_shape(decode(strings), (None, None, 3))
            return {"out": _scores(tf, image[tf.newaxis], kernel, 1)[0]}
        return {"out": _scores(tf, tf.map_fn(decode, strings, spec), kernel, 1)}

    spec = tf.TensorSpec((None,) if batch else (), tf.string, name=name)
    function = tf.function(call, input_signature=[spec])
    tf.saved_model.save(tf.Module(), folder, signatures=function)


def _export_unet(folder: str) -> None:
    """Halves twice, doubles twice and adds: the sides must be multiples of 4."""
    tf = import_tensorflow()
    kernel = tf.constant(_kernel(3, 3, "float32"))

    def call(image: Any) -> Any:
        low = tf.nn.avg_pool2d(image, 4, 4, "VALID")
        back = tf.repeat(tf.repeat(low, 4, axis=1), 4, axis=2)
        return {"out": _scores(tf, back + image, kernel, 1)}

    spec = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    function = tf.function(call, input_signature=[spec])
    tf.saved_model.save(tf.Module(), folder, signatures=function)


def _export_signatures(folder: str, *names: str) -> None:
    tf = import_tensorflow()
    function = tf.function(lambda image: {"out": image * 2.0}).get_concrete_function(
        image=tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    )
    tf.saved_model.save(tf.Module(), folder, signatures=dict.fromkeys(names, function))


def _export_unknown_rank(folder: str) -> None:
    tf = import_tensorflow()
    function = tf.function(lambda x: {"out": x * 2.0}).get_concrete_function(
        x=tf.TensorSpec(None, tf.float32, name="x")
    )
    tf.saved_model.save(tf.Module(), folder, signatures=function)


def _export_keras3(folder: str) -> None:
    import keras

    image = keras.Input((None, None, 3), name="image")
    scores = keras.layers.Conv2D(3, 3, padding="same")(image)
    model = keras.Model(image, scores)
    model.set_weights([_kernel(3, 3, "float32"), np.zeros(3)])
    model.export(folder, verbose=False)


def _export_keras2_with_optimizer(folder: str) -> None:
    """As TensorFlow 2.4 to 2.15 wrote them: Keras 3 alone cannot load its optimizer."""
    import tf_keras

    layer = tf_keras.layers.Conv2D(2, 3, padding="same", input_shape=(None, None, 3))
    model = tf_keras.Sequential([layer])
    model.compile(tf_keras.optimizers.legacy.Adam(), "mse")
    model.train_on_batch(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8, 2)))
    model.save(folder, save_format="tf")


def _export_onnx2tf(folder: str) -> None:
    """As onnx2tf does: the concrete function itself, without a signature; NHWC in, NCHW out."""
    tf = import_tensorflow()
    kernel = tf.constant(_kernel(3, 3, "float32"))
    function = tf.function(
        lambda image: tf.transpose(tf.nn.softmax(_scores(tf, image, kernel, 1)), [0, 3, 1, 2])
    ).get_concrete_function(tf.TensorSpec((1, 32, 48, 3), tf.float32, name="input"))
    tf.saved_model.save(function, folder)


def _export_flag_without_default(folder: str) -> None:
    """A function that was called with a flag, in training and not; the flag has no default."""
    tf = import_tensorflow()

    class Net(tf.Module):
        def __init__(self) -> None:
            self.kernel = tf.Variable(_kernel(3, 3, "float32"))

        @tf.function
        def __call__(self, image: Any, training: bool) -> Any:
            y = _scores(tf, image, self.kernel, 1)
            return tf.nn.softmax(y) if training else y

    net = Net()
    for training in (True, False):
        net(tf.zeros([1, 32, 48, 3]), training=training)
    tf.saved_model.save(net, folder)


def _export_called_object(folder: str) -> None:
    """A module that was called twice, in training too; another function beside."""
    tf = import_tensorflow()

    class Net(tf.Module):
        def __init__(self) -> None:
            self.kernel = tf.Variable(_kernel(3, 3, "float32"))

        @tf.function
        def __call__(self, image: Any, training: bool = False) -> Any:
            scores = _scores(tf, image, self.kernel, 1)
            return [tf.nn.softmax(scores) if training else scores]

        @tf.function
        def ids(self, *, image: Any) -> Any:
            return {"ids": tf.argmax(_scores(tf, image, self.kernel, 1), -1)}

    net = Net()
    free = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    net(tf.zeros((1, 8, 8, 3)))
    net.__call__.get_concrete_function(free)
    net.__call__.get_concrete_function(free, training=True)
    net.ids.get_concrete_function(image=free)
    tf.saved_model.save(net, folder, signatures={})


def _export_tf1(folder: str, *tag_sets: list[str], by_reference: bool = False) -> None:
    """As TensorFlow 1 did. A reference variable as an output is what TF 2 cannot import."""
    v1 = import_tensorflow().compat.v1
    builder = v1.saved_model.Builder(folder)
    for index, tags in enumerate(tag_sets or (["serve"],)):
        with v1.Session(graph=v1.Graph()) as session:
            kernel = v1.get_variable(
                "kernel", initializer=_kernel(3, 3, "float32"), use_resource=not by_reference
            )
            image = v1.placeholder("float32", (None, None, None, 3), "image")
            scores = v1.nn.conv2d(image, kernel, 1, "SAME")
            build = v1.saved_model.predict_signature_def
            signatures = {"serving_default": build({"image": image}, {"out": scores})}
            if by_reference:
                signatures["weights"] = build({"image": image}, {"kernel": kernel})
            session.run(v1.global_variables_initializer())
            if index:
                builder.add_meta_graph(tags, signatures)
            else:
                builder.add_meta_graph_and_variables(session, tags, signatures)
    builder.save()


_OTHERS: dict[str, Callable[[str], None]] = {
    "ids_and_scores": lambda d: _export_outputs(d, ids="int32", probabilities="softmax"),
    "two_scores": lambda d: _export_outputs(d, logits="logits", probabilities="softmax"),
    "scores_and_vector": lambda d: _export_outputs(d, logits="logits", means="vector"),
    "two_inputs": _export_two_inputs,
    "bytes": _export_strings,
    "one_string": lambda d: _export_strings(d, batch=False),
    "examples": lambda d: _export_strings(d, "examples"),
    "unet": _export_unet,
    "several_signatures": lambda d: _export_signatures(d, "day", "night"),
    "several_with_default": lambda d: _export_signatures(d, "a", "serving_default", "z"),
    "no_signature": _export_signatures,
    "onnx2tf": _export_onnx2tf,
    "called_object": _export_called_object,
    "flag_without_default": _export_flag_without_default,
    "tf1": _export_tf1,
    "tf1_by_reference": lambda d: _export_tf1(d, by_reference=True),
    "eval_only": lambda d: _export_tf1(d, ["eval"]),
    "no_tag": lambda d: _export_tf1(d, []),
    "serve_and_gpu": lambda d: _export_tf1(d, ["gpu", "serve"], ["serve"]),
    "train_and_eval": lambda d: _export_tf1(d, ["train"], ["eval"]),
    "unknown_rank": _export_unknown_rank,
    "keras3": _export_keras3,
    "keras2_with_optimizer": _export_keras2_with_optimizer,
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Exports a recipe on first use; the folder is shared, do not write to it."""
    made: dict[str, str] = {}

    def export(name: str) -> str:
        if name not in made:
            folder = str(tmp_path_factory.mktemp("saved") / name)
            if name in RECIPES:
                _export_network(folder, **RECIPES[name])
            else:
                _OTHERS[name](folder)
            made[name] = folder
        return made[name]

    return export


@pytest.fixture(scope="session")
def bound(saved: Callable[[str], str]) -> Callable[..., Binding]:
    """Binds and probes a recipe with a card of {dotted field: value}; floats are of 0..1."""
    made: dict[str, Binding] = {}

    def bind_and_probe(name: str, **card: Any) -> Binding:
        key = f"{name} {sorted(card.items())}"
        if key not in made:
            path = saved(name)
            fields = {field.replace("__", "."): value for field, value in card.items()}
            info = read_model(path)
            if not RECIPES.get(name, {}).get("dtype"):
                fields = {"input.range": "0,1"} | fields
            made[key] = probe(path, bind(info, load_card(None, fields)))
        return made[key]

    return bind_and_probe


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Patches of colour with noise on them, so that masks have regions and edges."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng([seed, height, width])
        patches = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
        smooth = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        noisy = smooth + rng.normal(0, 30, smooth.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("PIXELMILL_REAL_DATA")
    if not folder:
        pytest.skip("PIXELMILL_REAL_DATA does not name the folder of real images and models")
    return Path(folder)
