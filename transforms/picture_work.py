"""The work of an operator that gives pictures to a model, whatever comes back.

read > decode (threads) > batch by shape > model (a thread for each device) > encode (threads)
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from transforms.clock import Clock
from transforms.decode import DecodePolicy, Facts, Picture, decode
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.inputs import Shard
from transforms.records import Item, Record, Result, Stream
from transforms.replicas import Replicas
from transforms.sources import Load, read_shard
from transforms.streams import Ahead, Window, attempt, batches_by_shape, in_order, ordered_map
from transforms.survive import Model, Survivor

A = TypeVar("A")

_AHEAD_ITEMS = 64
_WINDOW = Window(items=64, size_bytes=256 << 20)
_AHEAD_BYTES = 256 << 20
_BATCH_BYTES = 64 << 20


class Settings(NamedTuple):
    """What the work needs to know of its operator (see SegmentOperator)."""

    policy: DecodePolicy
    features: FeatureNames
    threads: int
    batch_timeout_s: float


class PictureWork(Generic[A]):
    """The work of one process: a model and the threads around it."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Model[A]],
        encode: Callable[[Facts, A], Result],
    ) -> None:
        """Loads the model.

        Args:
            encode: makes the result of an answer, or raises a Failure if it is not sound.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._settings = settings
        self._encode = encode
        self._threads = settings.threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "codec")
        self._model = Replicas(load, lambda load: picture_survivor(load, settings.batch_timeout_s))
        self._binding = self._model.binding
        self._batch_size = self._model.batch_size
        if self._binding.size_hw is not None:  # before a clock runs: the first call builds graphs
            self._model.warm_up([(Record(0, "", ""), _black(self._binding.size_hw))])

    def __call__(self, shard: Shard, clock: Clock) -> Stream[Result]:
        at_least = self._model.ahead() * self._batch_size + self._threads
        ahead, encode_ahead = (
            Ahead(max(_AHEAD_ITEMS, at_least), _AHEAD_BYTES, self._threads) for _ in range(2)
        )

        def load(load: Load) -> Picture:
            with clock("read"):
                data = load()
            with clock("decode"):
                picture = decode(data, self._settings.policy)
            ahead.saw(picture.pixels.nbytes)
            encode_ahead.saw(picture.pixels.nbytes)
            return picture

        def answer(batch: list[Item[Picture]]) -> list[Item[tuple[Facts, A]]]:
            with clock.model(sum(not isinstance(value, Failure) for _, value in batch)):
                return answer_batch(self._model, batch)

        def encode(answer: tuple[Facts, A]) -> Result:
            with clock("encode"):
                return self._encode(*answer)

        records = clock.iterate("read", self._read(shard))
        pictures = ordered_map(
            self._pool, attempt(load), records, ahead, waiting=lambda: clock("wait")
        )
        batches = batches_by_shape(
            pictures,
            lambda picture: self._binding.model_size_hw(picture.facts.size_hw),
            lambda size_hw: batch_size_for(size_hw, self._batch_size),
            lambda picture: picture.pixels.nbytes,
            _WINDOW,
        )
        answers = ordered_map(self._model.pool, answer, batches, self._model.ahead)
        return ordered_map(self._pool, attempt(encode), in_order(answers), encode_ahead)

    def _read(self, shard: Shard) -> Iterator[Item[Load]]:
        return read_shard(shard, self._settings.features)


def picture_survivor(load: Callable[[], Model[A]], timeout_s: float) -> Survivor[Picture, A]:
    """A Survivor that takes decoded pictures. Raises ModelError."""
    return Survivor(
        lambda: of_batch_size(load(), batch_size_for),
        lambda picture: picture.pixels,
        _size_text,
        timeout_s,
    )


def of_batch_size(model: Model[A], size_for: Callable[[tuple[int, int], int], int]) -> Model[A]:
    """The model, with as small a batch as pictures of its one size allow; of any size as it is.

    It pads short batches, to a full one or to full parts of one, which costs as much.

    Args:
        size_for: of a (height, width) and the batch size that was asked for.
    """
    binding = model.binding
    if binding.size_hw is not None and binding.fixed_batch is None:
        model.batch_size = size_for(binding.size_hw, model.batch_size)
    return model


def _black(size_hw: tuple[int, int]) -> Picture:
    pixels = np.zeros((*size_hw, 3), np.uint8)
    return Picture(pixels, Facts(size_hw, size_hw, "", "", 1, 0.0))


def _size_text(picture: Picture) -> str:
    height, width = picture.facts.size_hw
    return f"picture of {width}x{height}"


def answer_batch(
    model: Callable[[Sequence[Item[Picture]]], list[Item[A]]], batch: Sequence[Item[Picture]]
) -> list[Item[tuple[Facts, A]]]:
    """What the model says of a batch, beside what is known of the pictures; failures pass by."""
    facts = {record.index: p.facts for record, p in batch if isinstance(p, Picture)}
    return [
        (record, value if isinstance(value, Failure) else (facts[record.index], value))
        for record, value in model(batch)
    ]


def batch_size_for(size_hw: tuple[int, int], batch_size: int) -> int:
    """Pictures of one size that the model gets at once: fewer when they are large as floats."""
    return at_most(batch_size, _BATCH_BYTES // (size_hw[0] * size_hw[1] * 12))


def at_most(batch_size: int, most: int) -> int:
    """A batch size of `most` items or fewer, at least 1; below what was asked for a power of two,
    since to one a model of any size may pad its batches (Segmenter.padded_rows)."""
    return batch_size if batch_size <= most else 1 << max(0, most.bit_length() - 1)
