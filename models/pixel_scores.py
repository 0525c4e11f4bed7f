"""A bound segmenter that stops before the argmax: scores of every pixel, for those who add up.

What is added up, of windows that overlap and of views of one picture:

    logits      logits, of windows; of several views their probabilities, as softmax or sigmoid
    softmax     probabilities
    sigmoid     the probability
    class_ids   ids, which cannot be added up: windows are cropped, and there is one view
"""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import groupby, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from models.answers import Image, Segmentation, answers
from models.binding import Binding, Placement
from models.graphs import finish_graph, scores_graph
from models.loading import import_tensorflow
from models.segmenter import AroundSegmenter
from models.shapes import Often
from models.views import PLAIN, View

Scores = npt.NDArray[Any]


class PixelScores(AroundSegmenter):
    """Runs one SavedModel, one batch at a time. Threads may share it."""

    def __init__(
        self, path: str, binding: Binding, batch_size: int = 1, views: Sequence[View] = (PLAIN,)
    ) -> None:
        """Loads the model.

        Args:
            views: in which every picture is shown; their answers are averaged.

        Raises:
            ModelError: it cannot be loaded.
        """
        super().__init__(path, binding, batch_size)
        self._views = tuple(views)
        self._scores = scores_graph(import_tensorflow(), binding, len(self._views) > 1)

    def __call__(self, images: Sequence[Image]) -> list[Scores]:
        """The scores of pictures that the model sees at one size.

        Args:
            images: uint8 [H, W, 3] each, RGB; at most `batch_size` of them.

        Returns:
            Of each float32 [H, W, C], or class ids [H, W, 1] in the model's dtype; read only.

        Raises:
            ValueError, tf.errors.OpError: as Segmenter does.
        """
        with self._model.turn:
            if self._views == (PLAIN,):
                return self._plain(images, [image.shape[:2] for image in images])
            return self._averaged(images)

    def _averaged(self, images: Sequence[Image]) -> list[Scores]:
        """The mean over all views. Views of one shape share batches, whichever picture's."""
        asked = [(index, view) for view in self._views for index in range(len(images))]
        shown = [(index, view, view.show(images[index])) for index, view in asked]
        sums: list[Any] = [0.0] * len(images)
        for _, group in groupby(
            sorted(shown, key=lambda one: one[2].shape), key=lambda one: one[2].shape
        ):
            same = list(group)
            for first in range(0, len(same), self.batch_size):
                part = same[first : first + self.batch_size]
                sizes = [view.size_hw(images[index].shape[:2]) for index, view, _ in part]
                answers = self._plain([picture for _, _, picture in part], sizes)
                for (index, view, _), answer in zip(part, answers, strict=True):
                    sums[index] = sums[index] + view.undo(answer)
        return [np.asarray(total) / np.float32(len(self._views)) for total in sums]

    def _plain(self, images: Sequence[Image], sizes: Sequence[tuple[int, int]]) -> list[Scores]:
        """The scores of pictures as they are, of the (height, width) that is wanted of each."""
        output, runs = self._model.answer(images)
        answers: list[Scores] = []
        for run in runs:
            placed = self.binding.placed(run.shape[1:3])
            end = len(answers) + len(run)
            while len(answers) < end:
                first, size_hw = len(answers), sizes[len(answers)]
                same = sum(1 for _ in takewhile(size_hw.__eq__, sizes[first:end]))
                part = output[first : first + same]
                answers += list(np.asarray(self._scores(part, size_hw, placed)))  # no copy
        return answers


def block_finisher(
    binding: Binding, views: int = 1, with_confidence: bool = True
) -> Callable[[Scores], Segmentation]:
    """A function of what PixelScores gave, or averages of it, [h, w, C] of any size: its answer.

    Args:
        views: of each picture.
        with_confidence: answer the confidence of every pixel.
    """
    kind = binding.kind
    if views > 1 and kind == "logits":
        kind = "softmax"  # of a single score a pixel, finish takes it for the probability
    told = dataclasses.replace(
        binding, kind=kind, output_layout="NHWC", multiple_of=None, fit="stretch"
    )
    finish = finish_graph(import_tensorflow(), told, with_confidence)
    often = Often()

    def call(values: Scores) -> Segmentation:
        size_hw = values.shape[0], values.shape[1]
        placed = Placement(size_hw, (0, 0), size_hw)
        rows = 1 if often(values.shape) else None
        found = finish(values[np.newaxis], size_hw, placed, (0, size_hw[0]), rows)
        return answers([found], told)[0]

    return call
