"""What each kind of Keras layer does to what its input sees of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from models.networks.reach import Reach
from models.networks.sizes import convolved_size, paddings, transposed_size, window_size


@dataclass(frozen=True)
class Seen:
    """What a tensor sees of the picture.

    reaches:   of its rows and columns; None once its positions are no longer those of a map
    axes:      those of the tensor that run over the picture, () if each value is of all of it
    whole_by:  the layer through which it sees the whole picture, if it does
    """

    reaches: tuple[Reach, Reach] | None
    axes: tuple[int, ...]
    whole_by: str | None = None

    def whole(self, name: str) -> Seen:
        """The same, seeing the whole picture since the layer `name`, or since an earlier one."""
        return replace(self, whole_by=self.whole_by or name)


Rule = Callable[[Any, Any, Seen], Seen]
"""What the output of a layer sees: from the layer, the node of its call, what its inputs see."""


def mixed(layer: Any, node: Any, seen: Seen) -> Seen:
    """Every output may see every input, or what it sees grows with the picture."""
    return replace(seen.whole(layer.name), reaches=None, axes=tuple(range(1, _rank(node))))


def _same(layer: Any, node: Any, seen: Seen) -> Seen:
    """Position by position: activations, dropout, sums of branches."""
    return seen


def _window(layer: Any, node: Any, seen: Seen) -> Seen:
    """Convolution and pooling: output j sees j s - p, j s - p + d, ..., j s - p + (k - 1) d."""
    kernels = getattr(layer, "kernel_size", None) or layer.pool_size
    dilations = getattr(layer, "dilation_rate", (1, 1))

    def along(axis: int, reach: Reach) -> Reach:
        kernel, stride, dilation = kernels[axis], layer.strides[axis], dilations[axis]
        before, _ = paddings(reach.size, kernel, stride, layer.padding, dilation)
        size = reach.size and convolved_size(reach.size, kernel, stride, layer.padding, dilation)
        taps = range(-before, kernel * dilation - before, dilation)
        return reach.through(Fraction(stride), lambda j: [j * stride + tap for tap in taps], size)

    return _along_both(seen, along)


def _transposed(layer: Any, node: Any, seen: Seen) -> Seen:
    """Transposed convolution: output j sees every a with a s + u d - p = j for a tap u < k."""

    def along(axis: int, reach: Reach) -> Reach:
        kernel, stride = layer.kernel_size[axis], layer.strides[axis]
        dilation = layer.dilation_rate[axis]
        window = window_size(kernel, dilation)
        before, _ = paddings(None, kernel, stride, layer.padding, dilation)
        size = reach.size and transposed_size(reach.size, kernel, stride, layer.padding, dilation)
        if layer.output_padding is not None:
            extra = layer.output_padding[axis] + (window % 2 if layer.padding == "same" else window)
            size = reach.size and stride * (reach.size - 1) + extra
            before = max(window - extra, 0) // 2
        taps = range(-before, kernel * dilation - before, dilation)
        return reach.through(
            Fraction(1, stride),
            lambda j: [(j - tap) // stride for tap in taps if (j - tap) % stride == 0],
            size,
        )

    return _along_both(seen, along)


SUPPORT = {"bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}
"""Where the kernels of resizing end, in positions of the smaller map."""


def _upsampled(layer: Any, node: Any, seen: Seen) -> Seen:
    """Repeated, or interpolated about the centres: output j lies at (j + 1/2) / u - 1/2.

    The kernels are 0 at whole distances: an output that lies on a position sees it alone.
    """

    def along(axis: int, reach: Reach) -> Reach:
        factor = layer.size[axis]

        def taps(j: int) -> range:
            if layer.interpolation == "nearest":
                return range(j // factor, j // factor + 1)
            place = Fraction(2 * j + 1, 2 * factor) - Fraction(1, 2)
            if place.denominator == 1:
                return range(int(place), int(place) + 1)
            support = SUPPORT[layer.interpolation]
            return range(math.ceil(place - support), math.floor(place + support) + 1)

        return reach.through(Fraction(1, factor), taps, reach.size and reach.size * factor)

    return _along_both(seen, along)


def _padded(layer: Any, node: Any, seen: Seen) -> Seen:
    """Rows and columns added around: output j sees j - before."""

    def along(axis: int, reach: Reach) -> Reach:
        before, after = layer.padding[axis]
        size = reach.size and reach.size + before + after
        return reach.through(Fraction(1), lambda j: [j - before], size)

    return _along_both(seen, along)


def _cropped(layer: Any, node: Any, seen: Seen) -> Seen:
    """Rows and columns cut off: output j sees j + before."""

    def along(axis: int, reach: Reach) -> Reach:
        before, after = layer.cropping[axis]
        size = reach.size and reach.size - before - after
        return reach.through(Fraction(1), lambda j: [j + before], size)

    return _along_both(seen, along)


def _along_both(seen: Seen, along: Callable[[int, Reach], Reach]) -> Seen:
    if seen.reaches is None:
        return seen
    return replace(seen, reaches=(along(0, seen.reaches[0]), along(1, seen.reaches[1])))


def _pooled_globally(layer: Any, node: Any, seen: Seen) -> Seen:
    return replace(seen.whole(layer.name), reaches=None, axes=())


def _over_all_axes(layer: Any, node: Any, seen: Seen) -> Seen:
    """Attention, and normalisation by the statistics of a picture: positions stay, all are seen."""
    return seen.whole(layer.name) if seen.axes else seen


def _over_its_axes(layer: Any, node: Any, seen: Seen) -> Seen:
    """Softmax and normalisation over the axes that the layer names; concatenation along one."""
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    over_space = {axis % _rank(node) for axis in axes} & set(seen.axes)
    return seen.whole(layer.name) if over_space else seen


def _dense(layer: Any, node: Any, seen: Seen) -> Seen:
    """Over the last axis, which is space after Flatten."""
    last = _rank(node) - 1
    if last not in seen.axes:
        return seen
    axes = tuple(axis for axis in seen.axes if axis != last)
    return replace(seen.whole(layer.name), reaches=None, axes=axes)


def _reshaped(layer: Any, node: Any, seen: Seen) -> Seen:
    """Flatten, Reshape, Permute: the positions are lost; channels stay if last and as many."""
    before, after = node.input_tensors[0].shape, node.outputs[0].shape
    if not seen.axes:
        return seen
    last = len(after) - 1
    channels_stay = before[-1] == after[-1] and len(before) - 1 not in seen.axes and last > 1
    return replace(seen, reaches=None, axes=tuple(range(1, last if channels_stay else last + 1)))


def _rank(node: Any) -> int:
    return len(node.outputs[0].shape)


WINDOWS = (_window, _transposed, _upsampled, _padded, _cropped)
"""The rules that need a map, with rows and columns."""

_NAMES: dict[Rule, str] = {
    _window: "Conv2D DepthwiseConv2D SeparableConv2D MaxPooling2D AveragePooling2D",
    _transposed: "Conv2DTranspose",
    _upsampled: "UpSampling2D",
    _padded: "ZeroPadding2D",
    _cropped: "Cropping2D",
    _same: (
        "Activation ELU LeakyReLU PReLU ReLU Identity Rescaling Normalization BatchNormalization "
        "Dropout SpatialDropout2D AlphaDropout GaussianDropout GaussianNoise "
        "ActivityRegularization Add Average Maximum Minimum Multiply Subtract "
        # of keras.ops and of +, -, *, / between tensors
        "Relu Relu6 LeakyRelu Elu Selu Gelu Silu Sigmoid HardSigmoid HardSilu Softplus Tanh "
        "Divide TrueDivide Negative Absolute Exp Log Sqrt Square Power Clip Cast"
    ),
    _pooled_globally: "GlobalAveragePooling2D GlobalMaxPooling2D",
    _over_all_axes: (
        "GroupNormalization Attention AdditiveAttention MultiHeadAttention GroupedQueryAttention"
    ),
    _over_its_axes: "LayerNormalization RMSNormalization UnitNormalization Softmax Concatenate",
    _dense: "Dense",
    _reshaped: "Flatten Reshape Permute",
    mixed: "EinsumDense Dot AdaptiveAveragePooling2D AdaptiveMaxPooling2D",
}
RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""Class name of a layer of Keras: its rule."""
