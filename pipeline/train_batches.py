"""What all trainings share: settings, what comes out, and the batches of an epoch."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.loading import import_tensorflow
from pipeline.training import Trainee
from transforms.training_data import Example, Examples

tf = import_tensorflow()

_STACK_BYTES = 1 << 18
_SHUFFLE = 256  # of examples that are read again in each epoch; shards are shuffled besides


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all trainings need.

    Attributes:
        seed: of weights, order and augmentation.
        epochs, batch_size, learning_rate: the last is the highest; it falls to 0 as a cosine
            (Loshchilov & Hutter 2017).
        augment: names in models.networks.augment.OPS.
    """

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    augment: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured at the end.

    Attributes:
        means: numbers about all classes, by name.
        by_class: float64 [C] by name of the metric.
        confusion: int64 [C, C] of the validation part, rows are the truth; None of a generator.
    """

    means: Mapping[str, float]
    by_class: Mapping[str, npt.NDArray[np.float64]]
    confusion: npt.NDArray[np.int64] | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trainee and what is made of it.

    Attributes:
        trainee: for the loop.
        network: that gives the answers, with one picture as its input or none.
        served: the module to export.
        measure: of the network as it is.
        settle: what a network needs after its last step, before it is measured.
    """

    trainee: Trainee
    network: keras.Model
    served: Any
    measure: Callable[[], Measured]
    settle: Callable[[], None] = lambda: None


def steps_of(count: int, settings: Settings) -> int:
    """Batches of an epoch that shows so many examples."""
    return -(-count // settings.batch_size)


def crops_of(size_hw: tuple[int, int], crop_px: int) -> int:
    """Squares of a picture in an epoch: as many as it has room for, so that no pixel of a large
    picture is seen more seldom than one of a small picture."""
    return max(1, round(size_hw[0] * size_hw[1] / crop_px**2))


def batches_of(
    data: Examples,
    count: int,
    settings: Settings,
    target_shape: tuple[None, ...],
    prepare: Callable[[Mapping[str, Any], Any], tuple[Any, Any]],
    *,
    times: Callable[[Example], int] = lambda example: 1,
) -> Callable[[int], Any]:
    """The batches of each epoch.

    Args:
        count: examples that an epoch shows; some come once more to fill the last batch.
        target_shape: of a mask, or () of a label.
        prepare: makes (picture, target) of an example and its seed.
        times: how often an epoch shows an example.
    """
    signature = {
        "image": tf.TensorSpec((None, None, None, 3), tf.uint8),
        "target": tf.TensorSpec((None, *target_shape), tf.int32),
    }

    def batches(epoch: int) -> Any:
        def read() -> Iterator[dict[str, Any]]:
            order = np.random.default_rng([settings.seed, epoch])
            for some in _stacks(data.examples("train", order, times)):
                yield {
                    "image": np.stack([example.pixels for example in some]),
                    "target": np.stack([_target(example) for example in some]),
                }

        examples = tf.data.Dataset.from_generator(read, output_signature=signature).unbatch()
        if not data.in_memory:
            examples = examples.shuffle(_SHUFFLE, seed=settings.seed + epoch)
        numbered = (
            examples.repeat().take(steps_of(count, settings) * settings.batch_size).enumerate()
        )
        return (
            numbered.map(
                lambda number, example: prepare(
                    example,
                    tf.stack([tf.constant(settings.seed, tf.int64), (epoch << 32) + number]),
                ),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .batch(settings.batch_size, drop_remainder=True)
            .prefetch(2)
        )

    return batches


def _stacks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Neighbours of one size, small ones many at once: TensorFlow takes each in half a
    millisecond, whatever its size."""
    for _, same in groupby(examples, key=lambda example: example.pixels.shape):
        some: list[Example] = []
        for example in same:
            some.append(example)
            if len(some) * example.nbytes >= _STACK_BYTES:
                yield some
                some = []
        if some:
            yield some


def _target(example: Example) -> npt.NDArray[np.int32] | np.int32:
    if example.mask is not None:
        return example.mask.astype(np.int32)
    return np.int32(example.label or 0)
