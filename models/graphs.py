"""The graphs before and after a model, which run where it runs.

    prepare   uint8 [n, H, W, 3]  ->  the model's dtype, size, range, channels and layout, or its
              encoded pictures
    finish    scores [n, h, w, C]  ->  codes of class ids (answers.py) and confidence of H x W
    scores    scores [n, h, w, C]  ->  scores of H x W, for those who add several up

Scores are resized (bilinear) before the argmax, which is right; class ids by nearest neighbour.
Where the sides must be multiples of a number, pictures are continued to the right and below by
their own mirror image; where they must fit a size, bars may be put around them. What the model
says of all that is cut off.
"""

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.answers import codes_of
from models.argmax import finite, is_compiled, make_argmax
from models.binding import Binding, Placement
from models.errors import ModelError
from models.shapes import Shape

_GRID = 32
_PLACES = 256  # whose numbers are kept as tensors, which take longer to make than to use


def prepare_graph(tf: Any, binding: Binding) -> Any:
    """A function of uint8 [n, H, W, 3] and their placement: the model's input."""
    if binding.takes_mask:
        return _mask_graph(tf, binding)
    low, high = binding.value_range
    dtype = tf.as_dtype(binding.input_dtype if binding.role == "image" else "uint8")
    resizes = binding.size_hw is not None or binding.max_side_px is not None
    # Arguments, not constants: TensorFlow turns x / constant into x * (1 / constant), and pixels
    # would differ in the last bit from those of the people who trained the model.
    divisor = tf.constant(255.0 / (high - low))
    std = tf.constant(binding.std or (1.0,), tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8),
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([2, 2], tf.int32),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([None], tf.float32),
        ],
        autograph=False,
    )
    def prepare(images: Any, size_hw: Any, bars: Any, divisor: Any, std: Any) -> Any:
        if (low, high, resizes, dtype) == (0.0, 255.0, False, tf.uint8):
            x = images  # nothing to compute, and no rounding through floats
        else:
            x = tf.cast(images, tf.float32)
            if resizes:
                x = _resize_bilinear(tf, x, size_hw)
            if binding.fit in ("letterbox", "pad"):
                x = tf.pad(x, [[0, 0], bars[0], bars[1], [0, 0]], constant_values=binding.fill)
            if (low, high) != (0.0, 255.0):
                x = x / divisor + low  # as people write it: x / 255, or x / 127.5 - 1
        if binding.multiple_of is not None:
            x = _continued(tf, x, _padded(size_hw, binding))
        if binding.channels == "BGR":
            x = tf.reverse(x, [-1])
        elif binding.channels in ("L", "Y"):
            weights = tf.constant([[0.299], [0.587], [0.114]])  # ITU-R 601-2, as Pillow's "L"
            x = tf.tensordot(tf.cast(x, tf.float32), weights, 1)
        if binding.mean is not None:
            x = tf.cast(x, tf.float32) - tf.constant(binding.mean, tf.float32)
        if binding.std is not None:
            x = tf.cast(x, tf.float32) / std
        if binding.input_layout == "NCHW":
            x = tf.transpose(x, [0, 3, 1, 2])
        x = x if x.dtype == dtype else _cast(tf, x, dtype)
        if binding.role == "image":
            return x
        return tf.map_fn(tf.io.encode_png, x, fn_output_signature=tf.string)

    @functools.lru_cache(_PLACES)
    def geometry(placed: Placement) -> tuple[Any, Any]:
        spare = [placed.canvas_hw[axis] - placed.size_hw[axis] for axis in (0, 1)]
        first = placed.offset_yx
        bars = [(first[axis], spare[axis] - first[axis]) for axis in (0, 1)]
        with tf.init_scope():  # kept for all graphs, not made within one
            return tf.constant(placed.size_hw), tf.constant(bars)

    concrete = prepare.get_concrete_function()  # called in half the time

    def call(images: npt.NDArray[np.uint8], placed: Placement) -> Any:
        x = concrete(tf.convert_to_tensor(images), *geometry(placed), divisor, std)
        return _examples(tf, x.numpy(), binding.feature) if binding.role == "example" else x

    return call


def _mask_graph(tf: Any, binding: Binding) -> Any:
    """The same for masks, whose three channels are all the class ids: ids or one-hot."""
    dtype = tf.as_dtype(binding.input_dtype)

    @tf.function(reduce_retracing=True, autograph=False)
    def prepare(masks: Any, size_hw: Any) -> Any:
        x = tf.image.resize(tf.cast(masks[..., :1], tf.int32), size_hw, method="nearest")
        if binding.multiple_of is not None:
            x = _continued(tf, x, _padded(size_hw, binding))
        if binding.channels == "one_hot":
            x = tf.one_hot(x[..., 0], binding.input_classes, dtype=tf.float32)
        if binding.input_layout == "NCHW":
            x = tf.transpose(x, [0, 3, 1, 2])
        return tf.saturate_cast(x, dtype)

    return lambda masks, placed: prepare(tf.constant(masks), tf.constant(placed.size_hw))


def grid_step(size_hw: tuple[int, int]) -> int:
    """Every how many rows and columns confidence is measured: at some 32 x 32 pixels of a mask.

    All of them would cost more than many a model. Odd, for what networks with strides answer
    repeats every 2^k pixels.
    """
    return math.isqrt(size_hw[0] * size_hw[1]) // _GRID | 1


def finish_graph(tf: Any, binding: Binding, with_confidence: bool = True) -> Any:
    """A function of the model's output, the masks' (height, width), the placement of the pictures
    in what the model saw, and the (first, end) rows of the masks that are wanted.

    Args:
        with_confidence: answer the confidence of each pixel, not only its histogram on a grid.

    The function's last argument, how many pictures there are, is given for shapes that go on
    coming (see models/shapes.py): they have graphs of their own.
    """
    codes = codes_of(binding)
    argmax = make_argmax(tf, codes)
    as_they_are = binding.id_offset == 0 and binding.void_id is None

    def renumbered(ids: Any) -> Any:
        """Of the model's own ids [n, H, W], or their codes: the codes of the masks."""
        if as_they_are:
            return tf.cast(ids, codes.dtype)
        ids = tf.cast(ids, tf.int32)
        void = ids + binding.id_offset < 0
        if binding.void_id is not None:
            void |= ids == binding.void_id
        moved = tf.where(void, codes.void, ids + binding.id_offset)
        return tf.cast(tf.where(ids < codes.bad, moved, ids), codes.dtype)

    @functools.cache
    def graph(shape: Shape) -> Any:
        """Of scores [n, H, W, C] at the size of the masks: None for whatever it may be."""

        @tf.function(reduce_retracing=True, autograph=False)
        def finish(output: Any, size_hw: Any, place: Any, band: Any, step: Any) -> dict[str, Any]:
            scores = _of_pictures(tf, output, place, binding)
            rows = tf.shape(scores)[0]
            if binding.kind == "class_ids":
                # before the cast to int32, which would wrap large ids around
                known = (scores >= 0) & (scores < binding.num_scores)
                if binding.void_id is not None:
                    known |= scores == binding.void_id
                good = tf.reduce_all(known, axis=[1, 2, 3])
                ids = tf.cast(tf.where(known, scores, tf.zeros_like(scores)), tf.int32)
                ids = tf.image.resize(ids, size_hw, method="nearest")[:, band[0] : band[1], :, 0]
                return {"codes": renumbered(ids), "good": good}
            good = tf.cond(
                _is_of(tf, scores, size_hw),  # the argmax looks at them
                lambda: tf.ones([rows], tf.bool),
                lambda: finite(tf, scores),
            )
            scores = tf.ensure_shape(_resize_rows(tf, scores, size_hw, band), shape)
            if scores.shape[-1] == 1:
                ids = _probabilities(tf, scores, binding)[..., 1] > binding.threshold
                good &= finite(tf, scores)
            else:
                ids = argmax(scores)
            on_grid = [_on_grid(tf, x, size_hw, band[0], step) for x in (scores, ids)]
            answer = {
                "codes": renumbered(ids),
                "good": good,
                "certainty": _certainty(tf, binding, *on_grid),
            }
            if with_confidence:
                answer["confidence"] = _to_byte(tf, _chosen(tf, binding, scores, ids)[0])
            return answer

        return finish

    @functools.lru_cache(_PLACES)
    def geometry(size_hw: tuple[int, int], placed: Placement, band: tuple[int, int]) -> list[Any]:
        place = (placed.canvas_hw, placed.offset_yx, placed.size_hw)
        settings = (size_hw, place, band, grid_step(size_hw))
        with tf.init_scope():
            return [tf.constant(value, tf.int32) for value in settings]

    def call(
        output: Any,
        size_hw: tuple[int, int],
        placed: Placement,
        band: tuple[int, int],
        rows: int | None = None,
    ) -> Any:
        settings = geometry(size_hw, placed, band)
        shape = (rows, band[1] - band[0], size_hw[1], None)
        scores = output.shape[1 if binding.output_layout == "NCHW" else -1]
        gains = binding.kind != "class_ids" and len(output.shape) == 4 and scores > 1
        compiles = rows is not None and gains and is_compiled(tf, scores)
        return graph(shape if compiles else (None,) * 4)(output, *settings)

    return call


def scores_graph(tf: Any, binding: Binding, as_probabilities: bool) -> Any:
    """A function of the model's output, the (height, width) of the pictures and their placement in
    what the model saw: scores [n, H, W, C] as finish takes them to the argmax, or class ids.

    Args:
        as_probabilities: of logits, their softmax or sigmoid.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def scores(output: Any, size_hw: Any, place: Any) -> Any:
        x = _of_pictures(tf, output, place, binding)
        if binding.kind == "class_ids":
            return tf.image.resize(x, size_hw, method="nearest")
        x = _resize_bilinear(tf, x, size_hw)
        if as_probabilities and binding.kind == "logits":
            return tf.sigmoid(x) if x.shape[-1] == 1 else tf.nn.softmax(x)
        return x

    def call(output: Any, size_hw: tuple[int, int], placed: Placement) -> Any:
        place = (placed.canvas_hw, placed.offset_yx, placed.size_hw)
        return scores(output, *(tf.constant(pair, tf.int32) for pair in (size_hw, place)))

    return call


def nhwc(tf: Any, output: Any, binding: Binding) -> Any:
    """[n, h, w, C] from an output in NHWC or NCHW, or without its axis of one channel."""
    if output.shape.rank == 3:
        return output[..., tf.newaxis]
    if output.shape.rank != 4:
        raise ModelError(
            f"output {binding.output_name!r} has shape {output.shape}, expected [n, height, width, "
            "classes]; choose another by --output_name"
        )
    return tf.transpose(output, [0, 2, 3, 1]) if binding.output_layout == "NCHW" else output


def _probabilities(tf: Any, scores: Any, binding: Binding) -> Any:
    if scores.shape[-1] == 1:
        p = tf.sigmoid(scores) if binding.kind == "logits" else tf.clip_by_value(scores, 0.0, 1.0)
        return tf.concat([1.0 - p, p], axis=-1)
    return tf.nn.softmax(scores) if binding.kind == "logits" else tf.clip_by_value(scores, 0.0, 1.0)


def _on_grid(tf: Any, x: Any, size_hw: Any, first_row: Any, step: Any) -> Any:
    """The pixels of every step-th row and column of the mask, of a band that begins at a row.

    A mask that is narrower than a step has one, in its middle; a band may have none.
    """
    start_yx = tf.minimum(step // 2, size_hw // 2)
    height, width = tf.shape(x)[1], tf.shape(x)[2]
    rows = tf.range(tf.minimum((start_yx[0] - first_row) % step, height), height, step)
    return tf.gather(tf.gather(x, rows, axis=1), tf.range(start_yx[1], width, step), axis=2)


def _chosen(tf: Any, binding: Binding, scores: Any, ids: Any) -> tuple[Any, Any, Any]:
    """Of scores [n, h, w, C] and the ids chosen [n, h, w]: probability of the choice, the highest
    of the others, and of all, [n, h, w, max(C, 2)]."""
    probabilities = _probabilities(tf, scores, binding)
    chosen = tf.one_hot(
        tf.cast(ids, tf.int32), max(binding.num_scores, 1), True, False, dtype=tf.bool
    )
    first = tf.reduce_max(tf.where(chosen, probabilities, 0.0), axis=-1)
    second = tf.reduce_max(tf.where(chosen, 0.0, probabilities), axis=-1)
    return first, second, probabilities


def _certainty(tf: Any, binding: Binding, scores: Any, ids: Any) -> Any:
    """Confidence, entropy / log C and margin, uint8 [n, 3, h, w] of [0, 1]."""
    first, second, probabilities = _chosen(tf, binding, scores, ids)
    entropy = -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1)
    share = entropy / np.log(max(binding.num_scores, 1))
    return _to_byte(tf, tf.stack([first, share, first - second], axis=1))


def _padded(size_hw: Any, binding: Binding) -> Any:
    multiple = binding.multiple_of or 1
    return (size_hw + multiple - 1) // multiple * multiple


def _continued(tf: Any, x: Any, size_hw: Any) -> Any:
    """[n, H, W, C] made larger at the bottom and the right by mirroring, as often as it takes."""

    def mirrored() -> Any:
        larger = x
        for axis in (1, 2):
            side = tf.shape(x)[axis]
            place = tf.range(size_hw[axis - 1]) % (2 * side)
            larger = tf.gather(larger, tf.minimum(place, 2 * side - 1 - place), axis=axis)
        return larger

    return tf.cond(_is_of(tf, x, size_hw), lambda: x, mirrored)


def _of_pictures(tf: Any, output: Any, place: Any, binding: Binding) -> Any:
    """The part of an output that is of the pictures, [n, h, w, C]: float32, or class ids."""
    x = nhwc(tf, output, binding)
    if binding.kind != "class_ids":
        x = tf.cast(x, tf.float32)
    elif x.dtype == tf.bool:
        x = tf.cast(x, tf.int32)
    if binding.multiple_of is not None or binding.fit in ("letterbox", "pad"):
        return _cut(tf, x, place, binding)
    return x


def _cut(tf: Any, scores: Any, place: Any, binding: Binding) -> Any:
    """The part of the scores that is the picture, at the size at which the model saw it."""
    canvas, first, size_hw = place[0], place[1], place[2]
    if binding.kind == "class_ids":
        scores = tf.image.resize(tf.cast(scores, tf.int32), canvas, method="nearest")
    else:
        scores = _resize_bilinear(tf, scores, canvas)
    end = first + size_hw
    return scores[:, first[0] : end[0], first[1] : end[1]]


def _examples(tf: Any, images: npt.NDArray[Any], feature: str) -> Any:
    """Serialized tf.Examples of encoded PNGs; the format's feature is named beside the image's."""
    beside = f"{feature.rpartition('/')[0] or 'image'}/format"

    def example(data: bytes) -> bytes:
        values = {feature: data, beside: b"png"}
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in values.items()
        }
        proto = tf.train.Example(features=tf.train.Features(feature=features))
        return bytes(proto.SerializeToString(deterministic=True))

    return tf.constant([example(data) for data in images.tolist()], tf.string)


def _is_of(tf: Any, x: Any, size_hw: Any) -> Any:
    return tf.reduce_all(tf.shape(x)[1:3] == size_hw)


def _resize_bilinear(tf: Any, x: Any, size_hw: Any) -> Any:
    return tf.cond(_is_of(tf, x, size_hw), lambda: x, lambda: tf.image.resize(x, size_hw))


def _resize_rows(tf: Any, x: Any, size_hw: Any, band: Any) -> Any:
    """Rows band[0] to band[1] of what _resize_bilinear gives, without making the others."""
    whole = tf.reduce_all(band == [0, size_hw[0]])
    return tf.cond(
        whole,
        lambda: _resize_bilinear(tf, x, size_hw),
        lambda: _resize_band(tf, x, size_hw, band),
    )


def _resize_band(tf: Any, x: Any, size_hw: Any, band: Any) -> Any:
    """First along the rows, then across them: the order of TensorFlow's ResizeBilinear kernel."""
    height = tf.shape(x)[1]
    scale = tf.cast(height, tf.float32) / tf.cast(size_hw[0], tf.float32)
    place = (tf.cast(tf.range(band[0], band[1]), tf.float32) + 0.5) * scale - 0.5
    upper = tf.maximum(tf.cast(tf.floor(place), tf.int32), 0)
    lower = tf.minimum(tf.cast(tf.math.ceil(place), tf.int32), height - 1)
    part = x[:, upper[0] : lower[-1] + 1]
    part = tf.image.resize(part, [tf.shape(part)[1], size_hw[1]])
    above, below = (tf.gather(part, rows - upper[0], axis=1) for rows in (upper, lower))
    weight = (place - tf.floor(place))[:, tf.newaxis, tf.newaxis]
    return above + (below - above) * weight


def _to_byte(tf: Any, x: Any) -> Any:
    return tf.cast(tf.round(tf.clip_by_value(x, 0.0, 1.0) * 255.0), tf.uint8)


def _cast(tf: Any, x: Any, dtype: Any) -> Any:
    return tf.saturate_cast(tf.round(x) if dtype.is_integer else x, dtype)
