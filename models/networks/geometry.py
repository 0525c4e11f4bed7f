"""The receptive field of a Keras model: how much of the picture an output depends on.

Source: Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks",
Distill, https://distill.pub/2019/computing-receptive-fields. The sizes of maps are in `sizes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import keras

from models.errors import ModelError
from models.networks.layer_reach import RULES, WINDOWS, Seen, mixed
from models.networks.reach import Reach
from models.networks.sizes import convolved_size, transposed_size, window_size

__all__ = ["Field", "convolved_size", "receptive_field", "transposed_size", "window_size"]


@dataclass(frozen=True)
class Field:
    """What one output of a model depends on. Pairs are height and width.

    window_hw:   pixels from the first to the last that an output sees through windows; with strides
                 and upsampling this can differ from output to output, and is that of the most.
                 It is not cut at the picture's border. None where the output is no map
    margins_hw:  of these, the most (above, below) and (left, right) of the pixels under the output:
                 what a tile needs around it
    stride_hw:   pixels from one output to the next, 1/2 if the output is twice as large
    period_hw:   a picture moved by so many pixels gives the same output, moved: tiles must begin at
                 multiples of it
    whole_by:    name of the first layer through which every output sees the whole picture, such as
                 a global pooling, or a normalisation by the statistics of the picture
    """

    window_hw: tuple[int, int] | None
    margins_hw: tuple[tuple[int, int], tuple[int, int]] | None
    stride_hw: tuple[Fraction, Fraction] | None
    period_hw: tuple[int, int] | None
    whole_by: str | None

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """The receptive field in pixels; None if it is the whole picture."""
        return None if self.whole_by else self.window_hw


def receptive_field(model: keras.Model) -> Field:
    """How much of the picture one output of a model depends on.

    For a single path of convolutions and poolings with kernels k, strides s and dilations d
    it is, as Araujo, Norris and Sim derive in their equation 2 (there with d = 1),

        r = 1 + sum over layers l of d_l (k_l - 1) * product over i < l of s_i

    and with several paths the union of what they see. Upsampling after strides makes it differ
    from output to output, so here it is counted: see `Reach`. Layers as they work in inference:
    batch normalisation is an affine map of each channel. It says what can reach an output, not
    how much does: most of it comes from the middle (Luo, Li, Urtasun, Zemel 2016, "Understanding
    the effective receptive field in deep convolutional neural networks", arXiv:1701.04128).

    Args:
        model: Sequential, Functional or nested, built, with one input of rank 4, the picture, and
            one output; further inputs (labels, noise) do not count. Where the picture's size is
            not fixed, it is taken to be a multiple of the model's strides: on it depends on which
            side "same" padding puts its zeros.

    Raises:
        ModelError: if the model is no graph of layers, has no or several pictures or outputs, or
            has a layer that is not known here.
    """
    graph = _graph(model)
    pictures = [tensor for tensor in graph.inputs if len(tensor.shape) == 4]
    if len(pictures) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"model '{model.name}' has {len(pictures)} inputs of rank 4 and {len(graph.outputs)} "
            f"outputs, a receptive field is that of one output in one picture; give "
            f"keras.Model(inputs, output) of the two that are meant"
        )
    space = _space(graph)
    reaches = tuple(Reach.of_picture(pictures[0].shape[axis]) for axis in space)
    seen = [
        Seen((reaches[0], reaches[1]), space) if tensor is pictures[0] else None
        for tensor in graph.inputs
    ]
    found = _through_graph(graph, seen, space)[0]
    if found is None:
        raise ModelError(f"the output of model '{model.name}' does not depend on its picture")
    if found.reaches is None or found.axes != space:
        return Field(None, None, None, None, found.whole_by)
    rows, columns = found.reaches
    return Field(
        window_hw=(rows.window_px, columns.window_px),
        margins_hw=(rows.margins_px, columns.margins_px),
        stride_hw=(rows.step, columns.step),
        period_hw=(rows.period_px, columns.period_px),
        whole_by=found.whole_by,
    )


def _graph(model: Any) -> Any:
    """The Functional model behind a model."""
    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if not isinstance(graph, keras.Model) or not hasattr(graph, "_nodes_by_depth"):
        raise ModelError(
            f"model '{getattr(model, 'name', model)}' is no graph of layers, a Sequential or "
            f"Functional model that has its input shape is expected; give it keras.Input(...), or "
            f"write the subclass as a function that returns keras.Model(inputs, outputs)"
        )
    return graph


def _space(graph: Any) -> tuple[int, int]:
    """The axes of rows and columns, as the first layer that has a data format says."""
    formats = (getattr(layer, "data_format", None) for layer in graph.layers)
    first = next(filter(None, formats), keras.config.image_data_format())
    return (2, 3) if first == "channels_first" else (1, 2)


def _through_graph(
    graph: Any, seen: Sequence[Seen | None], space: tuple[int, int]
) -> list[Seen | None]:
    """What the outputs of a graph see if its inputs see `seen`."""
    known = {id(tensor): each for tensor, each in zip(graph.inputs, seen, strict=True)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                inputs = [known[id(tensor)] for tensor in node.input_tensors]
                found = _through_node(node, inputs, space)
                known |= {id(tensor): each for tensor, each in zip(node.outputs, found)}  # noqa: B905
    return [known[id(tensor)] for tensor in graph.outputs]


def _through_node(
    node: Any, inputs: Sequence[Seen | None], space: tuple[int, int]
) -> list[Seen | None]:
    """What the outputs of one call of a layer see."""
    layer = node.operation
    if isinstance(layer, keras.Model):
        return _through_graph(_graph(layer), inputs, space)
    pictures = [each for each in inputs if each is not None]
    if not pictures:
        return [None] * len(node.outputs)
    while type(layer) is keras.layers.SpectralNormalization:
        layer = layer.layer  # it normalises the weights, not the map
    rule = RULES.get(type(layer).__name__)
    if rule is None or not type(layer).__module__.startswith("keras."):
        raise ModelError(
            f"layer '{layer.name}' is a {type(layer).__name__}, whose reach is not known; build "
            f"the model of Keras' own layers for convolution, pooling, resizing and merging"
        )
    expected = "channels_first" if space == (2, 3) else "channels_last"
    if getattr(layer, "data_format", None) not in (None, expected):
        raise ModelError(
            f"layer '{layer.name}' has {layer.data_format}, others of its model {expected}; give "
            f"all layers one data_format"
        )
    merged = _merged(layer, pictures)
    if rule in WINDOWS and merged.reaches is None:
        found = mixed(layer, node, merged)
    else:
        found = rule(layer, node, merged)
    return [found] * len(node.outputs)


def _merged(layer: Any, seen: Sequence[Seen]) -> Seen:
    """What a position of several inputs of a layer sees together."""
    first, *others = sorted(seen, key=lambda each: each.reaches is None)
    for other in others:
        first = replace(first, whole_by=first.whole_by or other.whole_by)
        if first.reaches is None or other.reaches is None:
            continue
        pairs = list(zip(first.reaches, other.reaches, strict=True))
        if first.axes == other.axes and all(a.step == b.step for a, b in pairs):
            rows, columns = (a.merged(b) for a, b in pairs)
            first = replace(first, reaches=(rows, columns))
        else:  # they drift apart, the further from the corner the more
            first = first.whole(layer.name)
    return first
