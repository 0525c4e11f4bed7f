"""From a trained network to a SavedModel that takes pictures of any size.

    signature         input                          outputs
    serving_default   image: uint8 [N, H, W, 3]      segmenter: logits [N, H, W, C]
                                                     classifier: logits [N, C], features [N, F]
    encoded           image_bytes: string [N]        the same, of PNG, JPEG, GIF or BMP files
    serving_default   noise [N, Z], label [N]        generator: image [N, H, W, C], -1 to 1

What a picture needs before the network, the graph does: a segmenter's is continued at the bottom
and the right by its last row and column to a multiple of the network's stride, and the scores are
cut again; a classifier's is resized (bilinear). The card lies in the SavedModel, where
`pixelmill` finds it (models/card.py).
"""

import os
from collections.abc import Mapping
from typing import Any

import keras

from models.card import CARD_FILE
from models.loading import import_tensorflow

tf: Any = import_tensorflow()


class ServedSegmenter(tf.Module):
    """A segmenting network behind two signatures."""

    def __init__(self, network: keras.Model, multiple_px: int) -> None:
        """Args: network: float32 [N, H, W, 3] of multiples of `multiple_px` to logits."""
        super().__init__()
        self._network = network.call  # a bare function: Keras objects stay out of the SavedModel
        self.variables_of_network = [weight.value for weight in network.weights]
        self._multiple_px = multiple_px

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "image")], autograph=False
    )
    def serve(self, image: Any) -> dict[str, Any]:
        """uint8 RGB [N, H, W, 3] -> {"logits": float32 [N, H, W, C]}."""
        height, width = tf.shape(image)[1], tf.shape(image)[2]
        multiple = self._multiple_px
        rows = tf.minimum(tf.range(-(-height // multiple) * multiple), height - 1)
        columns = tf.minimum(tf.range(-(-width // multiple) * multiple), width - 1)
        padded = tf.gather(tf.gather(image, rows, axis=1), columns, axis=2)
        scores = self._network(tf.cast(padded, tf.float32), training=False)
        return {"logits": scores[:, :height, :width]}

    @tf.function(
        input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")], autograph=False
    )
    def serve_encoded(self, image_bytes: Any) -> dict[str, Any]:
        """Encoded pictures, all of one size -> {"logits": float32 [N, H, W, C]}."""
        spec = tf.TensorSpec((None, None, 3), tf.uint8)
        images = tf.map_fn(_decoded, image_bytes, fn_output_signature=spec)
        return dict(self.serve(images))


class ServedClassifier(tf.Module):
    """A classifying network behind two signatures."""

    def __init__(self, network: keras.Model, size_hw: tuple[int, int]) -> None:
        """Args: network: float32 [N, *size_hw, 3] to logits and features by name."""
        super().__init__()
        self._network = network.call
        self.variables_of_network = [weight.value for weight in network.weights]
        self._size_hw = size_hw

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "image")], autograph=False
    )
    def serve(self, image: Any) -> dict[str, Any]:
        """uint8 RGB [N, H, W, 3] -> {"logits": float32 [N, C], "features": float32 [N, F]}."""
        return dict(self._network(resized(image, self._size_hw), training=False))

    @tf.function(
        input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")], autograph=False
    )
    def serve_encoded(self, image_bytes: Any) -> dict[str, Any]:
        """Encoded pictures of any sizes -> the same."""
        spec = tf.TensorSpec((*self._size_hw, 3), tf.float32)
        images = tf.map_fn(
            lambda data: resized(_decoded(data)[tf.newaxis], self._size_hw)[0],
            image_bytes,
            fn_output_signature=spec,
        )
        return dict(self._network(images, training=False))


class ServedGenerator(tf.Module):
    """A generating network behind one signature."""

    def __init__(self, network: keras.Model, latent: int) -> None:
        """Args: network: of inputs "noise" float32 [N, latent] and "label" int32 [N]."""
        super().__init__()
        self._network = network.call
        self.variables_of_network = [weight.value for weight in network.weights]
        self.serve = tf.function(
            self._serve,
            input_signature=[
                tf.TensorSpec((None, latent), tf.float32, "noise"),
                tf.TensorSpec((None,), tf.int32, "label"),
            ],
            autograph=False,
        )

    def _serve(self, noise: Any, label: Any) -> dict[str, Any]:
        made = self._network({"noise": noise, "label": label}, training=False)
        return {"image": tf.cast(made, tf.float32)}


def resized(image: Any, size_hw: tuple[int, int]) -> Any:
    """uint8 [N, H, W, 3] -> float32 [N, *size_hw, 3], 0 to 255, bilinear."""
    return tf.image.resize(tf.cast(image, tf.float32), size_hw)


def export(served: Any, folder: str, card: str, about: Mapping[str, str]) -> None:
    """Writes a SavedModel that holds its own card.

    Args:
        served: one of the modules above.
        folder: that must not exist yet.
        card: YAML of its model card (see models/card.py).
        about: further files by name, for assets.extra, where TensorFlow keeps what is not its own.
    """
    signatures = {"serving_default": served.serve}
    if hasattr(served, "serve_encoded"):
        signatures["encoded"] = served.serve_encoded
    # without debug information: it names paths of the machine
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(served, folder, signatures=signatures, options=options)
    for name, text in {CARD_FILE: card, **about}.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _decoded(data: Any) -> Any:
    return tf.io.decode_image(data, channels=3, expand_animations=False)
