"""Segmenting: the operator that turns the images of a shard into masks."""

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from models.binding import Binding
from models.loading import first_line
from models.segmenter import Segmentation, Segmenter
from transforms import sums
from transforms.clock import Clock
from transforms.decode import DecodePolicy, Facts, Picture, decode
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.png import encode_png
from transforms.records import Encoded, Item, Result, Stream
from transforms.shard_work import Work
from transforms.sink import Sink
from transforms.sources import FeatureNames, Load, read_shard
from transforms.streams import Ahead, Window, attempt, batches_by_shape, in_order, ordered_map

COLUMNS = pa.schema(
    [
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("stored_width", pa.int32()),
        pa.field("stored_height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("orientation", pa.int8()),
        pa.field("brightness", pa.float64()),
        pa.field("mask_bytes", pa.int64()),
        pa.field("mean_confidence", pa.float64()),
        pa.field("mean_entropy", pa.float64()),
        pa.field("mean_margin", pa.float64()),
        pa.field("classes", pa.list_(pa.int32())),
        pa.field("class_pixels", pa.list_(pa.int64())),
    ]
)
_HISTOGRAMS = ("confidence", "entropy", "margin")
_AHEAD_ITEMS = 64
_WINDOW = Window(items=64, size_bytes=256 << 20)
_AHEAD_BYTES = 256 << 20
_BATCH_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class SegmentOperator:
    """Settings of a segmentation; all of it is pickled to the workers.

    Attributes:
        model: folder of the SavedModel.
        binding: how to call it, probed.
        sink: where masks go.
        batch_size: pictures that the model gets at once.
        policy: how pictures are decoded.
        confidence_map: write a picture of the confidence beside each mask.
        mask_at_model_size: leave masks at the size at which the model saw the picture.
        features: names in the tf.Examples.
        threads: that decode and encode; 0 for one a core.
    """

    model: str
    binding: Binding
    sink: Sink
    batch_size: int
    policy: DecodePolicy = DecodePolicy()
    confidence_map: bool = False
    mask_at_model_size: bool = False
    features: FeatureNames = FeatureNames()
    threads: int = 0

    def open(self) -> Work:
        """Loads the model. Raises ModelError."""
        return _SegmentWork(
            self, Segmenter(self.model, self.binding, self.batch_size, self.mask_at_model_size)
        )


@dataclasses.dataclass(frozen=True)
class _Answer:
    facts: Facts
    segmentation: Segmentation


class _SegmentWork:
    """The work of one process: a model and the threads around it."""

    def __init__(self, settings: SegmentOperator, segmenter: Segmenter) -> None:
        self._settings = settings
        self._segmenter = segmenter
        threads = settings.threads or os.cpu_count() or 1
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "codec")
        self._model_thread = ThreadPoolExecutor(1, "model")

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        at_least = 2 * self._segmenter.batch_size + self._threads
        ahead = Ahead(max(_AHEAD_ITEMS, at_least), _AHEAD_BYTES, self._threads)
        encode_ahead = Ahead(max(_AHEAD_ITEMS, at_least), _AHEAD_BYTES, self._threads)

        def load(load: Load) -> Picture:
            with clock("read"):
                data = load()
            with clock("decode"):
                picture = decode(data, self._settings.policy)
            ahead.saw(picture.pixels.nbytes)
            encode_ahead.saw(picture.pixels.nbytes)
            return picture

        def answer(batch: list[Item[Picture]]) -> list[Item[_Answer]]:
            with clock("model"):
                return segment_batch(self._segmenter, batch)

        def encode(answer: _Answer) -> Result:
            with clock("encode"):
                return encode_result(answer.facts, answer.segmentation, self._settings)

        records = clock.iterate("read", self._read(shard))
        pictures = ordered_map(
            self._pool, attempt(load), records, ahead, waiting=lambda: clock("wait")
        )
        batches = batches_by_shape(
            pictures, self._bucket, self._batch_size, lambda p: p.pixels.nbytes, _WINDOW
        )
        answers = ordered_map(self._model_thread, answer, batches, ahead=lambda: 2)
        return ordered_map(self._pool, attempt(encode), in_order(answers), encode_ahead)

    def _read(self, shard: Shard) -> Iterator[Item[Load]]:
        return read_shard(shard, self._settings.features)

    def _bucket(self, picture: Picture) -> tuple[int, int]:
        """Pictures that the model sees at one (height, width) go into one batch."""
        return self._segmenter.binding.model_size_hw(picture.facts.size_hw)

    def _batch_size(self, size_hw: tuple[int, int]) -> int:
        return batch_size_for(size_hw, self._segmenter.batch_size)


def batch_size_for(size_hw: tuple[int, int], batch_size: int) -> int:
    """Pictures of one size that the model gets at once: fewer when they are large as floats."""
    return max(1, min(batch_size, _BATCH_BYTES // (size_hw[0] * size_hw[1] * 12)))


def segment_batch(segmenter: Segmenter, batch: list[Item[Picture]]) -> list[Item[_Answer]]:
    """Runs the model on a batch. When it raises, the batch is halved until the culprit is alone.

    Args:
        batch: pictures that the model sees at one size, or one failure.

    Returns:
        The same records in the same order, with an answer or a failure.
    """
    pictures = [value for _, value in batch if isinstance(value, Picture)]
    if len(pictures) < len(batch):
        return [(record, value) for record, value in batch if isinstance(value, Failure)]
    try:
        answers = segmenter([picture.pixels for picture in pictures])
    except Exception as error:  # whatever a stranger's graph raises
        if len(batch) > 1:
            half = len(batch) // 2
            parts = (batch[:half], batch[half:])
            return [item for part in parts for item in segment_batch(segmenter, part)]
        failure = Failure("model", "model_error", _model_message(pictures[0], error))
        return [(batch[0][0], failure)]
    return [
        (record, _checked(picture.facts, answer))
        for (record, _), picture, answer in zip(batch, pictures, answers, strict=True)
    ]


def _checked(facts: Facts, answer: Segmentation) -> _Answer | Failure:
    if not answer.finite:
        return Failure(
            "model",
            "not_finite",
            "the model answered NaN or infinity for this picture; check --value_range",
        )
    if not answer.in_range:
        return Failure(
            "model",
            "id_range",
            f"the model answered class ids outside 0 to {len(answer.class_pixels) - 1}; "
            "name all its classes by --classes",
        )
    return _Answer(facts, answer)


def _model_message(picture: Picture, error: Exception) -> str:
    height, width = picture.facts.size_hw
    return f"the model failed on this picture of {width}x{height} alone: {first_line(error)}"


def encode_result(facts: Facts, answer: Segmentation, settings: SegmentOperator) -> Result:
    """Encodes a mask and measures it."""
    outputs = {"masks": Encoded(encode_png(answer.mask), "png")}
    if settings.confidence_map and answer.confidence is not None:
        outputs["confidence"] = Encoded(encode_png(answer.confidence), "png")
    means = _means(answer)
    return Result(
        outputs=outputs,
        row=_row(facts, answer, means, len(outputs["masks"].data)),
        sums=_sums(facts, answer),
        rank=means["mean_confidence"],
    )


def _means(answer: Segmentation) -> dict[str, float | None]:
    if answer.histograms is None:
        return {f"mean_{name}": None for name in _HISTOGRAMS}
    return {
        f"mean_{name}": sums.histogram_mean(counts.tolist())
        for name, counts in zip(_HISTOGRAMS, answer.histograms, strict=True)
    }


def _row(
    facts: Facts, answer: Segmentation, means: dict[str, float | None], mask_bytes: int
) -> dict[str, Any]:
    classes = np.flatnonzero(answer.class_pixels)
    return {
        "width": answer.mask.shape[1],
        "height": answer.mask.shape[0],
        "stored_width": facts.stored_hw[1],
        "stored_height": facts.stored_hw[0],
        "format": facts.format,
        "mode": facts.mode,
        "orientation": facts.orientation,
        "brightness": facts.brightness,
        "mask_bytes": mask_bytes,
        **means,
        "classes": classes.tolist(),
        "class_pixels": answer.class_pixels[classes].tolist(),
    }


def _sums(facts: Facts, answer: Segmentation) -> sums.Sums:
    height, width = answer.mask.shape
    brightness = np.zeros(256, np.int64)
    brightness[min(255, int(facts.brightness))] = 1
    measured: sums.Sums = {
        "pixels": height * width,
        "class_pixels": answer.class_pixels,
        "class_images": (answer.class_pixels > 0).astype(np.int64),
        "one_class_images": int(np.count_nonzero(answer.class_pixels) == 1),
        "brightness": brightness,
        "widths": {str(width): 1},
        "heights": {str(height): 1},
        "formats": {facts.format: 1},
        "modes": {facts.mode: 1},
        "orientations": {str(facts.orientation): 1},
    }
    if answer.histograms is not None:
        measured.update(zip(_HISTOGRAMS, answer.histograms, strict=True))
    return measured
