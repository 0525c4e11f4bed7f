"""Output sizes and the formulas of the layers, against Keras."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.networks.sizes import convolved_size, paddings, transposed_size, window_size

SETTINGS = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MODES = st.sampled_from(["valid", "same"])
SMALL = st.integers(1, 5)


def keras_size(layer: keras.layers.Layer, size: int) -> int:
    return int(layer.compute_output_shape((1, size, size, 1))[1])


@SETTINGS
@given(size=st.integers(13, 30), kernel=SMALL, stride=SMALL, padding=MODES, dilation=SMALL)
def test_sizes_are_those_of_keras(
    size: int, kernel: int, stride: int, padding: str, dilation: int
) -> None:
    if window_size(kernel, dilation) <= size and 1 in (stride, dilation):  # what Keras can
        layer = keras.layers.Conv2D(
            1, kernel, strides=stride, padding=padding, dilation_rate=dilation
        )
        assert convolved_size(size, kernel, stride, padding, dilation) == keras_size(layer, size)
        layer = keras.layers.Conv2DTranspose(
            1, kernel, strides=stride, padding=padding, dilation_rate=dilation
        )
        assert transposed_size(size, kernel, stride, padding, dilation) == keras_size(layer, size)
    pool = keras.layers.MaxPooling2D(kernel, strides=stride, padding=padding)
    assert convolved_size(size, kernel, stride, padding) == keras_size(pool, size)


@SETTINGS
@given(size=st.integers(9, 40), kernel=SMALL, stride=SMALL, zeros=st.integers(0, 4))
def test_transposing_undoes_the_size_where_the_stride_leaves_no_rest(
    size: int, kernel: int, stride: int, zeros: int
) -> None:
    zeros = min(zeros, kernel // 2)
    small = convolved_size(size, kernel, stride, zeros)
    rest = (size + 2 * zeros - kernel) % stride
    assert transposed_size(small, kernel, stride, zeros) == size - rest


def test_a_window_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ModelError, match="window of 9 positions does not fit into 8"):
        convolved_size(8, 5, dilation=2)


# The formulas of the docstrings, written as they stand there.


def convolve(x, w, b, stride, padding, dilation):
    """convolved_size: x [H, W, C], w [K, L, C, M], b [M]."""
    size, kernel = x.shape[0], w.shape[0]
    p, _ = paddings(size, kernel, stride, padding, dilation)
    out = convolved_size(size, kernel, stride, padding, dilation)
    y = np.zeros((out, out, w.shape[3]))
    for i, j, m in np.ndindex(y.shape):
        y[i, j, m] = b[m]
        for u, v, c in np.ndindex(w.shape[:3]):
            row, column = i * stride + u * dilation - p, j * stride + v * dilation - p
            if 0 <= row < size and 0 <= column < size:
                y[i, j, m] += w[u, v, c, m] * x[row, column, c]
    return y


def pool(x, kernel, stride, padding, summary):
    """convolved_size: summary is max or mean."""
    size = x.shape[0]
    p, _ = paddings(size, kernel, stride, padding, 1)
    out = convolved_size(size, kernel, stride, padding)
    y = np.zeros((out, out, x.shape[2]))
    for i, j, c in np.ndindex(y.shape):
        rows = [i * stride + u - p for u in range(kernel)]
        columns = [j * stride + v - p for v in range(kernel)]
        inside = [r for r in rows if 0 <= r < size], [r for r in columns if 0 <= r < size]
        y[i, j, c] = summary(x[np.ix_(*inside)][..., c])
    return y


def transposed_convolve(x, w, b, stride, padding, dilation):
    """transposed_size: x [H, W, C], w [K, L, M, C], b [M]."""
    kernel = w.shape[0]
    p, _ = paddings(None, kernel, stride, padding, dilation)
    out = transposed_size(x.shape[0], kernel, stride, padding, dilation)
    y = np.zeros((out, out, w.shape[2])) + b
    for a, e, c in np.ndindex(x.shape):
        for u, v, m in np.ndindex(w.shape[:3]):
            i, j = a * stride + u * dilation - p, e * stride + v * dilation - p
            if 0 <= i < out and 0 <= j < out:
                y[i, j, m] += w[u, v, m, c] * x[a, e, c]
    return y


@settings(SETTINGS, max_examples=15)
@given(kernel=SMALL, stride=SMALL, padding=MODES, dilation=SMALL, size=st.integers(6, 8))
def test_convolution_and_its_transpose(
    kernel: int, stride: int, padding: str, dilation: int, size: int
) -> None:
    if window_size(kernel, dilation) > size or 1 not in (stride, dilation):
        dilation = 1
    rng = np.random.default_rng(kernel + 10 * stride)
    x, b = rng.normal(size=(size, size, 2)).astype("f"), rng.normal(size=3).astype("f")
    options = {"strides": stride, "padding": padding, "dilation_rate": dilation}
    w = rng.normal(size=(kernel, kernel, 2, 3)).astype("f")
    layer = keras.layers.Conv2D(3, kernel, **options)
    ours = convolve(x, w, b, stride, padding, dilation)
    np.testing.assert_allclose(ours, answer(layer, w, b, x), atol=1e-4)
    w = w.transpose(0, 1, 3, 2)  # outputs before inputs
    layer = keras.layers.Conv2DTranspose(3, kernel, **options)
    ours = transposed_convolve(x, w, b, stride, padding, dilation)
    np.testing.assert_allclose(ours, answer(layer, w, b, x), atol=1e-4)


def answer(layer, w, b, x):
    """What a layer of Keras answers with these weights."""
    layer.build((1, *x.shape))
    layer.set_weights([w, b])
    return np.asarray(layer(x[None]))[0]


@settings(SETTINGS, max_examples=15)
@given(kernel=SMALL, stride=SMALL, padding=MODES, size=st.integers(6, 9))
def test_pooling(kernel: int, stride: int, padding: str, size: int) -> None:
    x = np.random.default_rng(size).normal(size=(size, size, 2)).astype("f")
    for kind, summary in (("Max", np.max), ("Average", np.mean)):
        layer = getattr(keras.layers, f"{kind}Pooling2D")(kernel, strides=stride, padding=padding)
        ours = pool(x, kernel, stride, padding, summary)
        np.testing.assert_allclose(ours, np.asarray(layer(x[None]))[0], atol=1e-5)


def test_what_keras_calls_convolution_does_not_turn_the_kernel() -> None:
    from scipy.signal import convolve2d, correlate2d

    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(7, 7)), rng.normal(size=(3, 3))
    ours = convolve(x[..., None], w[..., None, None], [0.0], 1, "valid", 1)[..., 0]
    np.testing.assert_allclose(ours, correlate2d(x, w, "valid"))
    np.testing.assert_allclose(ours, convolve2d(x, w[::-1, ::-1], "valid"))
    assert not np.allclose(ours, convolve2d(x, w, "valid"))
