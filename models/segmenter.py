"""A bound segmenter: uint8 pictures in, uint8 masks and confidence out, the rest in TensorFlow.

Three graphs run on the accelerator:

    prepare   uint8 [n, H, W, 3]  ->  the model's dtype, size, range, channels and layout
    predict   the SavedModel's signature on a batch of one fixed shape
    finish    scores [n, h, w, C]  ->  masks, confidence and histograms of H x W

Scores are resized (bilinear) before the argmax, which is right; class ids by nearest neighbour.
Sizes of pictures may differ within a batch when the model's size is fixed: prepare and finish run
once for each run of equal sizes, predict once for all.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from models.binding import Binding
from models.errors import ModelError
from models.loading import import_tensorflow, load_signature

BINS = 256
_FINISH_BYTES = 128 << 20  # of scores at the size of the pictures, for one call of finish
Image = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The answer for one picture.

    Attributes:
        mask: uint8 or, above 255 classes, uint16 [H, W], class ids.
        confidence: uint8 [H, W], probability of the chosen class times 255; None for a model
            that answers class ids only.
        class_pixels: int64 [C], pixels by class.
        histograms: int64 [3, 256] of confidence, entropy / log C, and the margin of the two
            likeliest classes, each over [0, 1] in steps of 1/255; None with class ids.
        finite: whether all scores were finite numbers. The rest means nothing when not.
        in_range: whether all class ids were within [0, C).
    """

    mask: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    confidence: Image | None
    class_pixels: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64] | None
    finite: bool
    in_range: bool


class Segmenter:
    """Runs one SavedModel, one batch at a time. Load it once per process; threads may share it."""

    def __init__(self, path: str, binding: Binding, batch_size: int = 1) -> None:
        """Loads the model.

        Args:
            path: folder of the SavedModel.
            binding: with kind, output layout and classes known (see models/probe.py).
            batch_size: pictures in a full batch; a signature with a fixed batch decides.

        Raises:
            ModelError: it cannot be loaded.
        """
        self.binding = binding
        self.batch_size = binding.fixed_batch or batch_size
        self._tf = import_tensorflow()
        self._turn = threading.Lock()
        self._predict = load_signature(path, binding)
        self._prepare = _prepare_graph(self._tf, binding)
        self._finish = _finish_graph(self._tf, binding)

    def __call__(self, images: Sequence[Image]) -> list[Segmentation]:
        """Segments pictures that the model sees at one size (see Binding.model_size_hw).

        Args:
            images: uint8 [H, W, 3] each, RGB; at most `batch_size` of them.

        Returns:
            One answer for each picture, of the picture's own size.

        Raises:
            ValueError: more pictures than a batch holds, or an answer of the wrong shape.
            tf.errors.OpError: what the model itself raises.
        """
        if not 0 < len(images) <= self.batch_size:
            raise ValueError(f"got {len(images)} pictures, expected 1 to {self.batch_size}")
        runs = self._runs(images)
        sizes_hw = [run.shape[1:3] for run in runs]
        model_hw = self.binding.model_size_hw(sizes_hw[0])
        answers: list[Segmentation] = []
        with self._turn:
            prepared = [self._prepare(run, model_hw) for run in runs]
            scores = self.scores(self._tf.concat(prepared, 0) if len(prepared) > 1 else prepared[0])
            for run, size_hw in zip(runs, sizes_hw, strict=True):
                part = scores[len(answers) : len(answers) + len(run)]
                answers.extend(_split(self._finish(part, size_hw), len(run)))
        return answers

    def _runs(self, images: Sequence[Image]) -> list[npt.NDArray[np.uint8]]:
        """Neighbours of equal size, stacked; as many as finish may hold in memory at once."""
        runs = []
        for (height, width, _), group in groupby(images, key=lambda image: image.shape):
            same = list(group)
            scores_bytes = height * width * max(2, self.binding.num_classes) * 4
            step = max(1, _FINISH_BYTES // scores_bytes)
            runs += [np.stack(same[i : i + step]) for i in range(0, len(same), step)]
        return runs

    def scores(self, batch: Any) -> Any:
        """The model's own output for a prepared batch, padded to its fixed shape and cut again."""
        rows = batch.shape[0]
        padded = self.padded_rows(rows)
        if padded > rows:
            batch = self._tf.pad(batch, [[0, padded - rows], [0, 0], [0, 0], [0, 0]])
        output = self._predict(**{self.binding.input_name: batch})[self.binding.output_name]
        if output.shape[0] != padded:
            raise ValueError(
                f"the model answered {output.shape[0]} rows for a batch of {padded}; "
                "masks could not be told apart. Run it with --batch_size=1"
            )
        return output[:rows]

    def padded_rows(self, rows: int) -> int:
        """How many rows the model is given for so many pictures.

        With one size of input always a full batch. Where every size of picture makes batches of
        its own, a short one is padded to a power of two: few shapes, and little wasted work.
        """
        if self.binding.fixed_batch is not None or self.binding.size_hw is not None:
            return self.batch_size
        return min(self.batch_size, 1 << (rows - 1).bit_length())

    def prepare(self, images: npt.NDArray[np.uint8]) -> Any:
        """What the model is given for uint8 [n, H, W, 3] pictures of one size."""
        return self._prepare(images, self.binding.model_size_hw(images.shape[1:3]))


def _split(outputs: Mapping[str, Any], rows: int) -> list[Segmentation]:
    arrays = {name: value.numpy() for name, value in outputs.items()}
    confidence, histograms = arrays.get("confidence"), arrays.get("histograms")
    return [
        Segmentation(
            mask=arrays["mask"][row],
            confidence=None if confidence is None else confidence[row],
            class_pixels=arrays["class_pixels"][row].astype(np.int64),
            histograms=None if histograms is None else histograms[:, row].astype(np.int64),
            finite=bool(arrays["finite"][row]),
            in_range=bool(arrays["in_range"][row]),
        )
        for row in range(rows)
    ]


def _prepare_graph(tf: Any, binding: Binding) -> Any:
    low, high = binding.value_range
    dtype = tf.as_dtype(binding.input_dtype)
    resizes = binding.size_hw is not None or binding.max_side_px is not None
    # Arguments, not constants: TensorFlow turns x / constant into x * (1 / constant), and pixels
    # would differ in the last bit from those of the people who trained the model.
    divisor = tf.constant(255.0 / (high - low))
    std = tf.constant(binding.std or (1.0,), tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8),
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([None], tf.float32),
        ]
    )
    def prepare(images: Any, size_hw: Any, divisor: Any, std: Any) -> Any:
        if (low, high, resizes, dtype) == (0.0, 255.0, False, tf.uint8):
            x = images  # nothing to compute, and no rounding through floats
        else:
            x = tf.cast(images, tf.float32)
            if resizes:
                x = _resize_bilinear(tf, x, size_hw)
            if (low, high) != (0.0, 255.0):
                x = x / divisor + low  # as people write it: x / 255, or x / 127.5 - 1
        if binding.channels == "BGR":
            x = tf.reverse(x, [-1])
        elif binding.channels == "L":
            weights = tf.constant([[0.299], [0.587], [0.114]])  # ITU-R 601-2, as Pillow's "L"
            x = tf.tensordot(tf.cast(x, tf.float32), weights, 1)
        if binding.mean is not None:
            x = tf.cast(x, tf.float32) - tf.constant(binding.mean, tf.float32)
        if binding.std is not None:
            x = tf.cast(x, tf.float32) / std
        if binding.input_layout == "NCHW":
            x = tf.transpose(x, [0, 3, 1, 2])
        return x if x.dtype == dtype else _cast(tf, x, dtype)

    def call(images: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> Any:
        return prepare(images, tf.constant(size_hw, tf.int32), divisor, std)

    return call


def _finish_graph(tf: Any, binding: Binding) -> Any:
    classes = max(binding.num_classes, 1)
    mask_dtype = (
        tf.uint8
        if classes <= 255 or (binding.kind == "class_ids" and classes <= 256)
        else (tf.uint16)
    )

    @tf.function(reduce_retracing=True)
    def finish(output: Any, size_hw: Any) -> dict[str, Any]:
        scores = _nhwc(tf, output, binding)
        rows = tf.shape(scores)[0]
        if binding.kind == "class_ids":
            ids = tf.cast(scores, tf.int32)
            ids = tf.image.resize(ids, size_hw, method="nearest")[..., 0]
            good = tf.reduce_all((ids >= 0) & (ids < classes), axis=[1, 2])
            ids = tf.clip_by_value(ids, 0, classes - 1)
            return {
                "mask": tf.cast(ids, mask_dtype),
                "class_pixels": _count(tf, ids, rows, classes),
                "finite": tf.ones_like(good),
                "in_range": good,
            }
        scores = tf.cast(scores, tf.float32)
        finite = tf.reduce_all(tf.math.is_finite(scores), axis=[1, 2, 3])
        scores = _resize_bilinear(tf, scores, size_hw)
        probabilities = _probabilities(tf, scores, binding)
        if scores.shape[-1] == 1:
            ids = tf.cast(probabilities[..., 1] > binding.threshold, tf.int32)
        else:
            ids = tf.argmax(scores, axis=-1, output_type=tf.int32)
        chosen = tf.one_hot(ids, classes, on_value=True, off_value=False, dtype=tf.bool)
        first = tf.reduce_max(tf.where(chosen, probabilities, 0.0), axis=-1)
        second = tf.reduce_max(tf.where(chosen, 0.0, probabilities), axis=-1)
        entropy = -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1)
        confidence = _to_byte(tf, first)
        bytes_ = (confidence, _to_byte(tf, entropy / np.log(classes)), _to_byte(tf, first - second))
        return {
            "mask": tf.cast(ids, mask_dtype),
            "confidence": confidence,
            "class_pixels": _count(tf, ids, rows, classes),
            "histograms": tf.stack([_count(tf, b, rows, BINS) for b in bytes_]),
            "finite": finite,
            "in_range": tf.ones_like(finite),
        }

    def call(output: Any, size_hw: tuple[int, int]) -> Any:
        return finish(output, tf.constant(size_hw, tf.int32))

    return call


def _nhwc(tf: Any, output: Any, binding: Binding) -> Any:
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


def _resize_bilinear(tf: Any, x: Any, size_hw: Any) -> Any:
    same = tf.reduce_all(tf.shape(x)[1:3] == size_hw)
    return tf.cond(same, lambda: x, lambda: tf.image.resize(x, size_hw))


def _to_byte(tf: Any, x: Any) -> Any:
    return tf.cast(tf.round(tf.clip_by_value(x, 0.0, 1.0) * 255.0), tf.uint8)


def _cast(tf: Any, x: Any, dtype: Any) -> Any:
    return tf.saturate_cast(tf.round(x) if dtype.is_integer else x, dtype)


def _count(tf: Any, values: Any, rows: Any, size: int) -> Any:
    """int32 [n, size]: how often each value of [0, size) is in each of n pictures."""
    offsets = tf.range(rows)[:, tf.newaxis, tf.newaxis] * size
    flat = tf.reshape(tf.cast(values, tf.int32) + offsets, [-1])
    counts = tf.math.bincount(flat, minlength=rows * size, maxlength=rows * size)
    return tf.reshape(counts, [rows, size])
