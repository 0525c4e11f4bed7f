"""The two Sequential networks of the CNN tutorial behind this project, and what is wrong with them.

They are here as the tutorial has them, so that all it shows runs, trains, and can be compared.
Nothing of the project uses them.

What such tutorials write of the layers, and what holds:

    "convolution: y = sum of x w"          says neither which x, nor how many y. It needs the
                                           kernel's size, stride, padding and dilation, a sum over
                                           the channels and a bias; and Keras does not turn the
                                           kernel: `sizes.convolved_size`
    "pooling: y = mean of x in a window"   is average pooling. MaxPooling2D, which stands in the
                                           code, takes the largest; by default its windows do not
                                           overlap, and what does not fill one is dropped
    "transposed convolution undoes it"     it restores the size, not the values:
                                           `sizes.transposed_size`

A dense layer of D inputs x [N, D] and M outputs, with weights W [D, M] and bias b [M], is

    y[n, m] = activation(b[m] + sum over d < D of x[n, d] W[d, m])

and of a map [N, H, W, C] Keras' Dense mixes the channels only: hence the Flatten before it, which
gives every position weights of its own and so fixes the picture's size. The losses, per example
(Goodfellow, Bengio, Courville 2016, "Deep Learning", sections 6.2.2.2 and 6.2.2.3):

    binary cross-entropy of a sigmoid p and a truth t in 0..1:    - t log p - (1 - t) log(1 - p)
    softmax cross-entropy of logits z [C] and the true class t:   - z[t] + log(sum of exp z[c])

The derivative of the second by z[c] is softmax(z)[c] - (1 if c == t else 0).
"""

from __future__ import annotations

import keras
from keras import layers


def tutorial_segmenter(size_hw: tuple[int, int], channels: int = 3) -> keras.Sequential:
    """The tutorial's "segmenter". It segments nothing: it is a classifier of whole pictures.

    Its answer is one sigmoid for the picture, whichever pixels made it so. Two pictures with the
    object in different places have the same truth, 1, and get the same answer; no mask can be
    computed from it. Flatten and Dense fix the size of the picture, and hold nearly all weights
    (7.4 of 7.4 million for 128 x 128 pixels).

    Instead: the project's segmenter, a U-Net, has no Flatten and no Dense. It answers a logit for
    every pixel and class, is trained by softmax cross-entropy at every pixel that has a true class,
    and takes pictures of any size. What this network can do, the project's classifier does, with
    one output for each of several classes.

    Args:
        size_hw: height and width, each 10 or more for two valid 3x3 convolutions and two poolings.
        channels: of the picture.

    Returns:
        Compiled. float32 [N, H, W, channels] in 0..1 -> float32 [N, 1] in 0..1, to be fitted to
        truths of 0 and 1, shape [N, 1].
    """
    network = keras.Sequential(
        [
            keras.Input((*size_hw, channels)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="dense"),
            layers.Dense(1, activation="sigmoid", name="answer"),
        ],
        name="tutorial_segmenter",
    )
    network.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return network


def tutorial_generator(
    size_hw: tuple[int, int], channels: int = 1, noise_size: int = 100
) -> keras.Sequential:
    """The tutorial's "generator". It learns one picture: the mean of all.

    It is fitted to pairs of noise and picture that have nothing to do with each other. Binary
    cross-entropy, expected over the pictures t, is least where p is the mean of t, pixel by pixel;
    the noise tells nothing of t, so the best answer is the same grey picture for every noise. (If
    the same pairs come again in every epoch, a large network may learn them by heart, which makes
    no new pictures either.) It has no label, so none can be asked for. And where the last layer is
    a tanh, as in other copies of the tutorial, the loss is not defined where p is negative; Keras
    clips p there, and no gradient comes back.

    Instead: the project's generator takes the label as an input beside the noise, and is not
    compared with a picture chosen at random: its training partner, which is part of the same
    module, ties noise and picture together.

    Args:
        size_hw: height and width, multiples of 4.
        channels: of the picture.
        noise_size: numbers that a picture is made of.

    Returns:
        Compiled. float32 [N, noise_size], normal -> float32 [N, H, W, channels] in 0..1, to be
        fitted to pictures of the same shape and range.
    """
    height, width = size_hw[0] // 4, size_hw[1] // 4
    network = keras.Sequential(
        [
            keras.Input((noise_size,)),
            layers.Dense(height * width * 64, activation="relu"),
            layers.Reshape((height, width, 64)),
            layers.Conv2DTranspose(64, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(channels, 3, padding="same", activation="sigmoid"),
        ],
        name="tutorial_generator",
    )
    network.compile("adam", "binary_crossentropy")
    return network
