"""How many outputs a convolution, a pooling or a transposed convolution has, and what they are.

Sources of the sizes:
    Dumoulin, Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285
    Keras 3 and TensorFlow for what "same" padding means
"""

from __future__ import annotations

from typing import Literal

from models.errors import ModelError

Padding = Literal["valid", "same"] | int


def window_size(kernel: int, dilation: int = 1) -> int:
    """Positions from the first to the last that a kernel of k taps covers: d (k - 1) + 1."""
    return dilation * (kernel - 1) + 1


def convolved_size(
    size: int, kernel: int, stride: int = 1, padding: Padding = "valid", dilation: int = 1
) -> int:
    """Outputs along one axis of a convolution or of pooling.

    What Keras calls convolution is cross-correlation, the kernel is not turned round
    (Goodfellow, Bengio, Courville 2016, "Deep Learning", equation 9.6). With stride s, dilation d,
    padding p before, kernel w of K x L taps, C channels in, and x zero outside of the picture:

        y[i, j, m] = b[m] + sum over u < K, v < L, c < C of
                     w[u, v, c, m] x[i s + u d - p, j s + v d - p, c]

    Pooling slides a window in the same way, over each channel apart, and has no weights:

        max pooling       y[i, j, c] = max over u < K, v < L of x[i s + u - p, j s + v - p, c]
        average pooling   y[i, j, c] = mean over the same; over what is in the picture alone

    Positions that padding made never win a maximum. The number of outputs of n positions is

        floor((n + p_before + p_after - (d (k - 1) + 1)) / s) + 1

    (Dumoulin and Visin, relationship 15), where "valid" has no padding, and "same" has what makes
    it ceil(n / s).

    Args:
        size: positions of the input, 1 or more.
        kernel: taps.
        stride: positions from one window to the next; pooling's default in Keras is its kernel.
        padding: "valid", "same", or zeros added on either side.
        dilation: positions from one tap to the next.

    Raises:
        ModelError: if the window is larger than the padded input.
    """
    before, after = paddings(size, kernel, stride, padding, dilation)
    spare = size + before + after - window_size(kernel, dilation)
    if spare < 0:
        raise ModelError(
            f"a window of {window_size(kernel, dilation)} positions does not fit into "
            f"{size + before + after}; take larger pictures, fewer layers or padding='same'"
        )
    return spare // stride + 1


def transposed_size(
    size: int, kernel: int, stride: int = 1, padding: Padding = "valid", dilation: int = 1
) -> int:
    """Outputs along one axis of a transposed convolution, as Keras' Conv2DTranspose counts them.

    It is the transpose, not the inverse, of the convolution of the same kernel: every input
    spreads the kernel over the outputs, and what overlaps is added,

        y[i, j, m] = b[m] + sum of w[u, v, m, c] x[a, e, c]
                     over all a, e, c, u, v with a s + u d - p = i and e s + v d - p = j

    n inputs give s (n - 1) + d (k - 1) + 1 - 2 p outputs (Dumoulin and Visin, relationship 13).
    Keras gives n s for "same", and for "valid" s - (d (k - 1) + 1) more where that is positive:
    it answers at least n s. Where s does not divide k, neighbouring outputs are sums of different
    numbers of inputs: the checkerboard of Odena, Dumoulin, Olah 2016, "Deconvolution and
    checkerboard artifacts", Distill.
    """
    if padding == "same":
        return size * stride
    window = window_size(kernel, dilation)
    if padding == "valid":
        return stride * (size - 1) + max(window, stride)
    return stride * (size - 1) + window - 2 * padding


def paddings(
    size: int | None, kernel: int, stride: int, padding: Padding, dilation: int
) -> tuple[int, int]:
    """Zeros before and after the input; of "same" and an unknown size, if the stride divides it.

    TensorFlow's "same" puts the odd zero after, and its number depends on the size.
    """
    if isinstance(padding, int):
        return padding, padding
    if padding == "valid":
        return 0, 0
    beyond = stride if size is None or size % stride == 0 else size % stride
    total = max(window_size(kernel, dilation) - beyond, 0)
    return total // 2, total - total // 2
