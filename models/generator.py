"""A bound generator: noise and labels in, or pictures in; uint8 pictures out.

    Generator     what `draw` gives for items          ->  pictures
    Translator    uint8 pictures, H x W                ->  pictures, often of another size

The model's numbers become bytes on the accelerator: low..high of its range to 0..255, rounded,
what is outside cut off and counted.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from models.answers import Image
from models.binding import Binding, Placement
from models.devices import make_turn
from models.errors import ModelError
from models.graphs import nhwc
from models.latents import batch_inputs
from models.loading import import_tensorflow, load_signature
from models.segmenter import AroundSegmenter

Draw = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Made:
    """A picture that a model made.

    Attributes:
        pixels: uint8 [H, W, 3] RGB, or [H, W] grey.
        finite: whether all its numbers were finite; the pixels mean nothing when not.
        clipped: share of the numbers that were outside the range by more than a grey level, 0
            to 1. Large for a wrong range.
        mask: uint8 [h, w], class ids of its pixels, when it was made of a mask.
    """

    pixels: npt.NDArray[np.uint8]
    finite: bool
    clipped: float
    mask: npt.NDArray[np.uint8] | None = None


class Generator:
    """Runs a SavedModel that takes no picture. Load it once per process; threads may share it."""

    def __init__(self, path: str, binding: Binding, batch_size: int = 1) -> None:
        """Loads the model. Raises ModelError."""
        self.binding = binding
        self.batch_size = binding.fixed_batch or batch_size
        self._tf = import_tensorflow()
        self._turn = make_turn()
        self._predict = load_signature(path, binding)
        self._finish = picture_graph(self._tf, binding)

    def __call__(self, items: Sequence[Draw]) -> list[Made]:
        """Makes a picture of each item; always by full batches, the last item fills them.

        Raises:
            ValueError: more items than a batch holds, or an answer of the wrong shape.
            tf.errors.OpError: what the model itself raises.
        """
        with self._turn:
            return _made(self._finish(self.answer(items)), self.binding)

    def answer(self, items: Sequence[Draw]) -> Any:
        """The model's own output, a row for each item."""
        if not 0 < len(items) <= self.batch_size:
            raise ValueError(f"got {len(items)} items, expected 1 to {self.batch_size}")
        inputs = batch_inputs(self._tf, self.binding, list(items), self.batch_size)
        output = self._predict(**inputs)[self.binding.output_name]
        if output.shape.rank == 0 or output.shape[0] != self.batch_size:
            raise ValueError(
                f"the model answered the shape {output.shape} for a batch of {self.batch_size}; "
                "run it with --batch_size=1"
            )
        return output[: len(items)]


class Translator(AroundSegmenter):
    """Runs a SavedModel from pictures to pictures. Load it once per process; threads may share."""

    def __init__(self, path: str, binding: Binding, batch_size: int = 1) -> None:
        """Loads the model. Raises ModelError."""
        super().__init__(path, binding, batch_size)
        self._finish = picture_graph(import_tensorflow(), binding)

    def __call__(self, images: Sequence[Image]) -> list[Made]:
        """Makes a picture of each, at the size at which the model sees it times its own scale.

        Args:
            images: uint8 [H, W, 3] each, RGB, that the model sees at one size.

        Raises:
            ValueError, tf.errors.OpError: as Segmenter does.
        """
        with self._model.turn:
            return self._translate(images)

    def _translate(self, images: Sequence[Image]) -> list[Made]:
        scores, runs = self._model.answer(images)
        answers: list[Made] = []
        for run in runs:
            placed = self.binding.placed(run.shape[1:3])
            part = scores[len(answers) : len(answers) + len(run)]
            made = _made(_cut(self._finish(part), placed), self.binding)
            if self.binding.channels == "Y" and self.binding.output_channels != "L":
                made = [_coloured(grey, image) for grey, image in zip(made, run, strict=True)]
            elif self.binding.takes_mask:
                made = [_masked(picture, mask) for picture, mask in zip(made, run, strict=True)]
            answers += made
        return answers


class MadeScores(AroundSegmenter):
    """The numbers of the pictures that a Translator makes, before they become bytes."""

    def __call__(self, images: Sequence[Image]) -> list[npt.NDArray[Any]]:
        """float32 [h, w, C] of each picture, uint8 [H, W, 3]. Raises as Translator does."""
        output, _ = self._model.answer(images)
        return list(nhwc(import_tensorflow(), output, self.binding).numpy())


def picture_graph(tf: Any, binding: Binding) -> Any:
    """A function of the model's output: uint8 [n, h, w, C] in RGB or grey, and by picture whether
    it is finite and the share of numbers outside the range."""
    low, high = binding.output_range or (0.0, 255.0)
    scale = tf.constant(255.0 / (high - low))

    @tf.function(reduce_retracing=True, autograph=False)
    def finish(output: Any, scale: Any) -> dict[str, Any]:
        x = tf.cast(nhwc(tf, output, binding), tf.float32)
        finite = tf.reduce_all(tf.math.is_finite(x), axis=[1, 2, 3])
        x = (x - low) * scale
        outside = tf.cast((x < -1.0) | (x > 256.0), tf.float32)
        if x.shape[-1] == 3 and binding.output_channels == "BGR":
            x = tf.reverse(x, [-1])
        return {
            "pixels": tf.cast(tf.round(tf.clip_by_value(x, 0.0, 255.0)), tf.uint8),
            "finite": finite,
            "clipped": tf.reduce_mean(outside, axis=[1, 2, 3]),
        }

    return lambda output: finish(output, scale)


def _made(arrays: Mapping[str, Any], binding: Binding) -> list[Made]:
    pixels = np.asarray(arrays["pixels"])
    channels = pixels.shape[-1]
    if channels not in (1, 3, 4):
        raise ModelError(
            f"output {binding.output_name!r} has {channels} channels, expected 1, 3 or 4 of a "
            "picture; choose another by --output_name, or give --output_layout"
        )
    pixels = pixels[..., 0] if channels == 1 else pixels[..., :3]  # a fourth is transparency
    rows = zip(pixels, np.asarray(arrays["finite"]), np.asarray(arrays["clipped"]), strict=True)
    return [Made(picture, bool(finite), float(clipped)) for picture, finite, clipped in rows]


def _cut(arrays: dict[str, Any], placed: Placement) -> dict[str, Any]:
    """The part of what was made that shows the picture, not what was put around it."""
    if placed.fills:
        return arrays
    pixels = arrays["pixels"]
    scales = [pixels.shape[axis + 1] / placed.canvas_hw[axis] for axis in (0, 1)]
    (top, left), (height, width) = (
        [round(side * scale) for side, scale in zip(pair, scales, strict=True)]
        for pair in (placed.offset_yx, placed.size_hw)
    )
    return arrays | {"pixels": pixels[:, top : top + height, left : left + width]}


def _masked(made: Made, mask: Image) -> Made:
    """A picture with the mask that it was made of, at its own size by nearest neighbour."""
    return dataclasses.replace(made, mask=resized_ids(mask[..., 0], made.pixels.shape[:2]))


def resized_ids(ids: npt.NDArray[Any], size_hw: tuple[int, int]) -> npt.NDArray[Any]:
    """Class ids, uint8 or uint16 [H, W], at another size by nearest neighbour."""
    mask = Pillow.fromarray(np.ascontiguousarray(ids))
    resized = mask.resize(size_hw[::-1], Pillow.Resampling.NEAREST)
    return np.asarray(resized).astype(ids.dtype)


def _coloured(grey: Made, image: Image) -> Made:
    """A picture of which only the brightness was made, with the colours of the one it came from.

    They are enlarged by bicubic interpolation, as in the papers of super-resolution (Dong et al.
    2016, section 4.1); in floats, for Pillow's own YCbCr cuts off fractions and darkens. The
    formulas are JPEG's (ITU-T T.871, section 7).
    """
    height, width = grey.pixels.shape
    red, green, blue = (image[..., channel].astype(np.float32) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    differences = (blue - luma) / 1.772, (red - luma) / 1.402
    cb, cr = (_enlarged(difference, (width, height)) for difference in differences)
    y = grey.pixels.astype(np.float32)
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return dataclasses.replace(grey, pixels=np.clip(np.round(rgb), 0, 255).astype(np.uint8))


def _enlarged(plane: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    return np.asarray(Pillow.fromarray(plane).resize(size, Pillow.Resampling.BICUBIC))
