"""The classifier: a picture's label by convolution, pooling and dense layers (LeCun et al. 1998).

    picture ─ [convolution, convolution, pool] x depth ─ flatten ─ dense ─ dense ─ logits
                                                                    └ features

As in the tutorial, and in LeNet-5's figure 2, pooling halves the resolution step by step, and
dense layers see what is left. A dense layer is y = W x + b: every output is a weighted sum of all
inputs. It ends in logits of all classes, not in one sigmoid, and is trained by

    cross-entropy = -log softmax(logits)[label],  softmax(z)[k] = exp(z[k]) / sum over j exp(z[j])

(Goodfellow et al. 2016, equations 6.29 and 6.12). Max pooling of 2x2 keeps the largest of four:
out[y, x, c] = max over i, j in {0, 1} of in[2y + i, 2x + j, c].
"""

import dataclasses
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """What decides a classifier.

    Attributes:
        classes: how many labels it tells apart.
        size_hw: (height, width) at which it sees pictures; both at least 2^depth.
        depth: how often the resolution is halved.
        width: channels of the first level; doubled by each below.
        features: numbers in the layer before the last, which describe a picture.
        dropout: share of them that is left out in a training step (Srivastava et al. 2014).
    """

    classes: int
    size_hw: tuple[int, int]
    depth: int = 2
    width: int = 16
    features: int = 64
    dropout: float = 0.3


def build_classifier(config: ClassifierConfig) -> keras.Model:
    """The network.

    Input "image": float32 [N, H, W, 3] of `size_hw`, RGB, 0 to 255. Outputs by name: "logits"
    float32 [N, classes] and "features" float32 [N, features].

    Raises:
        ValueError: a number of the configuration is out of range.
    """
    if config.classes < 2 or config.depth < 1 or min(config.size_hw) < 2**config.depth:
        raise ValueError(
            f"got {config.classes} classes, depth {config.depth}, size {config.size_hw}; expected "
            f"at least 2 classes, depth 1, and sides of 2^depth = {2**config.depth}"
        )
    image = keras.Input((*config.size_hw, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="to_minus1_1")(image)
    for level in range(config.depth):
        for step in "ab":
            x = _convolution(x, config.width * 2**level, f"level{level}{step}")
        x = keras.layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(config.features, activation="relu", name="dense")(x)
    features = keras.layers.Activation("linear", dtype="float32", name="features")(x)
    x = keras.layers.Dropout(config.dropout, name="dropout")(x)
    logits = keras.layers.Dense(config.classes, dtype="float32", name="logits")(x)
    return keras.Model(image, {"logits": logits, "features": features}, name="classifier")


def _convolution(x: Any, width: int, name: str) -> Any:
    x = keras.layers.Conv2D(
        width, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
