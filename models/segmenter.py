"""A bound segmenter: uint8 pictures in, uint8 masks and confidence out, the rest in TensorFlow.

Three graphs run on the accelerator, the first and the last of models/graphs.py:

    prepare   uint8 [n, H, W, 3]  ->  what the model takes
    predict   the SavedModel's signature on a batch of one fixed shape
    finish    scores [n, h, w, C]  ->  codes of class ids and confidence of H x W

Sizes of pictures may differ within a batch when the model's size is fixed: prepare and finish run
once for each run of equal sizes, predict once for all.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from models.answers import Image, Segmentation, answers
from models.binding import Binding, Part, Placement
from models.devices import make_turn
from models.graphs import finish_graph, prepare_graph
from models.latents import batch_inputs
from models.loading import import_tensorflow, load_signature
from models.whole import WholeBatch

_FINISH_BYTES = 64 << 20  # of scores at the size of the masks, for one call of finish
_NEAR_BYTES = 16 << 20  # of pictures as floats and their scores, for one call of a CPU's model


class Segmenter:
    """Runs one SavedModel, one batch at a time. Load it once per process; threads may share it."""

    def __init__(
        self,
        path: str,
        binding: Binding,
        batch_size: int = 1,
        mask_at_model_size: bool = False,
        with_confidence: bool = True,
    ) -> None:
        """Loads the model.

        Args:
            path: folder of the SavedModel.
            binding: with kind, output layout and classes known (see models/probe.py).
            batch_size: pictures in a full batch; a signature with a fixed batch decides.
            mask_at_model_size: masks are as large as the model saw the pictures, or their parts.
            with_confidence: answer the confidence of every pixel.

        Raises:
            ModelError: it cannot be loaded.
        """
        self.binding = binding
        self.batch_size = binding.fixed_batch or batch_size
        self._mask_at_model_size = mask_at_model_size
        self._tf = import_tensorflow()
        self.turn = make_turn()
        self._few_shapes = binding.xla or bool(self._tf.config.list_logical_devices("GPU"))
        self._predict = load_signature(path, binding)
        self._prepare = prepare_graph(self._tf, binding)
        self._finish = finish_graph(self._tf, binding, with_confidence)
        self._whole: WholeBatch | None = None
        if not self._few_shapes:
            self._whole = WholeBatch(self._tf, binding, self._prepare, self._output, self._finish)

    def __call__(self, images: Sequence[Image]) -> list[Segmentation]:
        """Segments pictures that the model sees at one size (see Binding.model_size_hw).

        Args:
            images: uint8 [H, W, 3] each, RGB; at most `batch_size` of them.

        Returns:
            One answer for each picture, of the picture's own size or the model's.

        Raises:
            ValueError: more pictures than a batch holds, or an answer of the wrong shape.
            tf.errors.OpError: what the model itself raises.
        """
        self._check(images)
        seen = [self.binding.seen(image.shape[:2]).of(image) for image in images]
        with self.turn:
            found = self._segmented(seen)
        if self._mask_at_model_size or self.binding.fit != "crop":
            return found
        return [
            _uncropped(answer, image.shape[:2], self.binding.seen(image.shape[:2]))
            for answer, image in zip(found, images, strict=True)
        ]

    def _segmented(self, images: Sequence[Image]) -> list[Segmentation]:
        """By one graph where that may be, else by few."""
        size_hw = images[0].shape[:2]
        placed = self.binding.placed(size_hw)
        at_once = self._at_once(placed.canvas_hw)
        mask_hw = self._mask_hw(size_hw, placed)
        fits = self._scores_bytes(mask_hw) * at_once <= _FINISH_BYTES
        same = all(image.shape[:2] == size_hw for image in images)
        if self._whole is None or not (fits and same) or len(images) % at_once:
            return self._by_few(images, at_once)
        return self._whole(
            np.stack(images), mask_hw, at_once, lambda: self._by_few(images, at_once)
        )

    def _by_few(self, images: Sequence[Image], at_once: int) -> list[Segmentation]:
        """By as many as the model is shown at once."""
        found: list[Segmentation] = []
        for first in range(0, len(images), at_once):
            runs = self._runs(images[first : first + at_once])
            scores, start = self.scores(self._together(runs)), 0
            for run in runs:
                placed = self.binding.placed(run.shape[1:3])
                mask_hw = self._mask_hw(run.shape[1:3], placed)
                part = scores if len(runs) == 1 else scores[start : start + len(run)]
                found += self._finished(part, mask_hw, placed)
                start += len(run)
        return found

    def _mask_hw(self, size_hw: tuple[int, int], placed: Placement) -> tuple[int, int]:
        return placed.size_hw if self._mask_at_model_size else size_hw

    def _at_once(self, canvas_hw: tuple[int, int]) -> int:
        """How many pictures of this size a processor's model is shown at once: a divisor of the
        batch size, so that what is answered of a picture does not depend on how it is called."""
        if self._few_shapes or self.binding.fixed_batch is not None:
            return self.batch_size
        most = _NEAR_BYTES // (canvas_hw[0] * canvas_hw[1] * 12 + self._scores_bytes(canvas_hw))
        fits = range(1, max(1, min(most, self.batch_size)) + 1)
        return max(n for n in fits if self.batch_size % n == 0)

    def answer(self, images: Sequence[Image]) -> tuple[Any, list[npt.NDArray[np.uint8]]]:
        """The model's own output, a row for each picture, and what was shown of the pictures, in
        runs of one size.

        Raises:
            As `__call__` does.
        """
        with self.turn:
            batch, runs = self.prepared(images)
            return self.scores(batch), runs

    def prepared(self, images: Sequence[Image]) -> tuple[Any, list[npt.NDArray[np.uint8]]]:
        """What the model is given for pictures, not padded, and the pictures in runs of one size.

        Raises:
            ValueError: more pictures than a batch holds.
        """
        self._check(images)
        runs = self._runs([self.binding.seen(image.shape[:2]).of(image) for image in images])
        return self._together(runs), runs

    def _check(self, images: Sequence[Image]) -> None:
        if not 0 < len(images) <= self.batch_size:
            raise ValueError(f"got {len(images)} pictures, expected 1 to {self.batch_size}")

    def _together(self, runs: Sequence[npt.NDArray[np.uint8]]) -> Any:
        prepared = [self.prepare(run) for run in runs]
        return self._tf.concat(prepared, 0) if len(prepared) > 1 else prepared[0]

    def _scores_bytes(self, size_hw: tuple[int, int]) -> int:
        """Of the scores of a mask of this size."""
        return size_hw[0] * size_hw[1] * max(2, self.binding.num_scores) * 4

    def _finished(
        self, scores: Any, mask_hw: tuple[int, int], placed: Placement
    ) -> list[Segmentation]:
        """Finishes a run of pictures by as many rows at once as fit the memory that is allowed."""
        height, width = mask_hw
        row_bytes = scores.shape[0] * self._scores_bytes((1, width))
        step = height
        if self.binding.kind != "class_ids":
            step = max(1, _FINISH_BYTES // row_bytes)
        bands = [
            self._finish(scores, mask_hw, placed, (first, min(height, first + step)))
            for first in range(0, height, step)
        ]
        return answers(bands, self.binding)

    def _runs(self, images: Sequence[Image]) -> list[npt.NDArray[np.uint8]]:
        """Neighbours of equal size, stacked; as many as finish may hold in memory at once."""
        runs = []
        for (height, width, _), group in groupby(images, key=lambda image: image.shape):
            same = list(group)
            step = max(1, _FINISH_BYTES // self._scores_bytes((height, width)))
            runs += [np.stack(same[i : i + step]) for i in range(0, len(same), step)]
        return runs

    def scores(self, batch: Any) -> Any:
        """The model's own output for a prepared batch, padded to its fixed shape and cut again."""
        return self.outputs(batch)[self.binding.output_name]

    def outputs(self, batch: Any) -> dict[str, Any]:
        """The same of all outputs that the binding names."""
        rows = batch.shape[0]
        padded = self.padded_rows(rows)
        if padded > rows and self.binding.role == "image":
            batch = self._tf.pad(batch, [[0, padded - rows], [0, 0], [0, 0], [0, 0]])
        elif padded > rows:  # a string that is no picture would fail the batch
            batch = self._tf.concat([batch, self._tf.repeat(batch[-1:], padded - rows)], 0)
        found = self._call(batch[0] if self.binding.scalar_input else batch)
        cut = {}
        for name in {self.binding.output_name, self.binding.features_name} - {""}:
            output = _with_batch(found[name]) if self.binding.scalar_input else found[name]
            if output.shape[0] != padded:
                raise ValueError(
                    f"the model answered {output.shape[0]} rows for a batch of {padded}; "
                    "pictures could not be told apart. Run it with --batch_size=1"
                )
            cut[name] = output if padded == rows else output[:rows]
        return cut

    def _output(self, batch: Any) -> Any:
        """The model's own output for a prepared batch as it is."""
        return self._call(batch)[self.binding.output_name]

    def _call(self, tensor: Any) -> Mapping[str, Any]:
        rows = 1 if self.binding.scalar_input else tensor.shape[0]
        inputs = batch_inputs(self._tf, self.binding, [], rows)
        inputs[self.binding.input_name] = tensor
        return self._predict(**inputs)

    def padded_rows(self, rows: int) -> int:
        """How many rows the model is given for so many pictures.

        With one size of input always full batches, or full parts of them. Where every size of
        picture makes batches of its own, a short one is as it is on a processor; what compiles for
        each shape, or chooses its kernels by it, is given a power of two: few shapes, and little
        wasted work.
        """
        if self.binding.fixed_batch is not None:
            return self.batch_size
        if self.binding.size_hw is not None:
            at_once = self._at_once(self.binding.size_hw)
            return -(-rows // at_once) * at_once
        if not self._few_shapes:
            return rows
        return min(self.batch_size, 1 << (rows - 1).bit_length())

    def prepare(self, images: npt.NDArray[np.uint8]) -> Any:
        """What the model is given for uint8 [n, H, W, 3] pictures of one size."""
        return self._prepare(images, self.binding.placed(images.shape[1:3]))


class AroundSegmenter:
    """What asks a Segmenter for the model's own output, and makes something else of it."""

    def __init__(self, path: str, binding: Binding, batch_size: int = 1) -> None:
        """Loads the model. Raises ModelError."""
        self.binding = binding
        self._model = Segmenter(path, binding, batch_size)

    @property
    def batch_size(self) -> int:
        """Pictures that the model itself gets at once."""
        return self._model.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._model.batch_size = size


def _with_batch(output: Any) -> Any:
    """[1, ...] of an answer to a scalar, which may have left out the batch."""
    rank = output.shape.rank
    return output if rank in (3, 4) and output.shape[0] == 1 else output[None]


def _uncropped(answer: Segmentation, size_hw: tuple[int, int], part: Part) -> Segmentation:
    """The answer for a part as one for the picture: with the ignore id around it."""

    def around(inside: npt.NDArray[Any], value: int) -> npt.NDArray[Any]:
        whole = np.full(size_hw, value, inside.dtype)
        part.of(whole)[:] = inside
        return whole

    return dataclasses.replace(
        answer,
        mask=around(answer.mask, np.iinfo(answer.mask.dtype).max),
        confidence=None if answer.confidence is None else around(answer.confidence, 0),
    )
