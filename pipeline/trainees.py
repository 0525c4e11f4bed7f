"""The trainees: network, loss, batches and validation of a segmenter and of a classifier."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.loading import import_tensorflow
from models.networks.augment import augmented_crop, augmented_picture
from models.networks.classifier import ClassifierConfig, build_classifier
from models.networks.export import ServedClassifier, ServedSegmenter
from models.networks.losses import masked_cross_entropy
from models.networks.unet import UNetConfig, build_unet
from pipeline.train_state import SCORE
from pipeline.training import Trainee
from transforms.confusion import confusion_matrix, scores
from transforms.training_data import Example, TrainingSet

tf = import_tensorflow()

_WARMUP_EPOCHS = 1
_WEIGHT_DECAY = 1e-4
_VALIDATION_BATCH = 32
_SHUFFLE = 256  # of examples that are read again in each epoch; shards are shuffled besides


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all trainings need.

    Attributes:
        seed: of weights, order and augmentation.
        epochs, batch_size, learning_rate: the last is the highest; it rises from 1/20 during the
            first epoch and then falls to 0 as a cosine (Loshchilov & Hutter 2017).
        augment: names in models.networks.augment.OPS.
    """

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    augment: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trainee and what is made of it.

    Attributes:
        trainee: for the loop.
        served: the module to export.
        confusion: makes int64 [C, C] of the validation part; rows are the truth.
    """

    trainee: Trainee
    served: Any
    confusion: Callable[[], npt.NDArray[np.int64]]


def segmenter(
    data: TrainingSet,
    count: int,
    config: UNetConfig,
    settings: Settings,
    *,
    crop_px: int,
    class_weights: npt.NDArray[np.float64],
    ignore_id: int,
) -> Trained:
    """A U-Net that learns masks from random crops and is validated on whole pictures.

    Args:
        count: examples of the training part.
    """
    network = build_unet(config)
    served = ServedSegmenter(network, config.multiple_px)
    steps = _steps(count, settings)
    outside = ignore_id if ignore_id >= 0 else -1  # around small pictures nothing is known
    network.compile(
        _optimizer(settings, steps),
        masked_cross_entropy(class_weights.tolist(), outside),
        jit_compile=False,
    )

    def prepare(example: Mapping[str, Any], seed: Any) -> tuple[Any, Any]:
        return augmented_crop(
            example["image"],
            example["target"],
            seed,
            crop_px=crop_px,
            ops=settings.augment,
            ignore_id=outside,
        )

    def confusion() -> npt.NDArray[np.int64]:
        total = np.zeros((config.classes, config.classes), np.int64)
        for example in data.examples("validation"):
            assert example.mask is not None
            found = _ids(served, example.pixels)
            counted = example.mask != ignore_id
            total += confusion_matrix(example.mask[counted], found[counted], config.classes)
        return total

    def validate() -> dict[str, float]:
        found = scores(confusion())
        return {
            "accuracy": found.accuracy,
            "mean_iou": found.means["mean_iou"],
            SCORE: found.means["mean_iou"],
        }

    batches = _batches(data, count, settings, (None, None), prepare)
    return Trained(Trainee(network, batches, steps, validate, "mean IoU"), served, confusion)


def classifier(
    data: TrainingSet,
    count: int,
    config: ClassifierConfig,
    settings: Settings,
    *,
    class_weights: npt.NDArray[np.float64],
) -> Trained:
    """A classifier that learns labels."""
    network = build_classifier(config)
    served = ServedClassifier(network, config.size_hw)
    steps = _steps(count, settings)
    network.compile(
        _optimizer(settings, steps),
        {"logits": masked_cross_entropy(class_weights.tolist(), -1), "features": None},
        jit_compile=False,
    )

    def prepare(example: Mapping[str, Any], seed: Any) -> tuple[Any, Any]:
        image = augmented_picture(example["image"], seed, config.size_hw, settings.augment)
        return image, {"logits": example["target"]}

    def confusion() -> npt.NDArray[np.int64]:
        total = np.zeros((config.classes, config.classes), np.int64)
        for batch in _stacks(data.examples("validation")):
            images = np.stack([example.pixels for example in batch])
            found = np.asarray(served.serve(tf.constant(images))["logits"]).argmax(-1)
            truth = np.asarray([example.label for example in batch])
            total += confusion_matrix(truth, found, config.classes)
        return total

    def validate() -> dict[str, float]:
        found = scores(confusion())
        return {"accuracy": found.accuracy, SCORE: found.accuracy}

    batches = _batches(data, count, settings, (), prepare)
    return Trained(Trainee(network, batches, steps, validate, "accuracy"), served, confusion)


def _stacks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Neighbours of one size, some at once."""
    for _, same in groupby(examples, key=lambda example: example.pixels.shape):
        while batch := list(islice(same, _VALIDATION_BATCH)):
            yield batch


def _ids(served: ServedSegmenter, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Class ids of one picture, int64 [H, W]."""
    logits = served.serve(tf.constant(pixels[np.newaxis]))["logits"]
    return np.asarray(tf.argmax(logits[0], -1))


def _steps(count: int, settings: Settings) -> int:
    return -(-count // settings.batch_size)


def _optimizer(settings: Settings, steps: int) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) with a rate that rises shortly and falls as a cosine."""
    warmup = min(_WARMUP_EPOCHS * steps, 200)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 20,
        max(1, settings.epochs * steps - warmup),
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY, clipnorm=1.0)


def _batches(
    data: TrainingSet,
    count: int,
    settings: Settings,
    target_shape: tuple[None, ...],
    prepare: Callable[[Mapping[str, Any], Any], tuple[Any, Any]],
) -> Callable[[int], Any]:
    """The batches of each epoch: every example once, and some twice to fill the last batch."""
    signature = {
        "image": tf.TensorSpec((None, None, 3), tf.uint8),
        "target": tf.TensorSpec(target_shape, tf.int32),
    }

    def batches(epoch: int) -> Any:
        def read() -> Iterator[dict[str, Any]]:
            for example in data.examples("train", np.random.default_rng([settings.seed, epoch])):
                yield {"image": example.pixels, "target": _target(example)}

        examples = tf.data.Dataset.from_generator(read, output_signature=signature)
        if not data.in_memory:
            examples = examples.shuffle(_SHUFFLE, seed=settings.seed + epoch)
        numbered = examples.repeat().take(_steps(count, settings) * settings.batch_size).enumerate()
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


def _target(example: Example) -> Any:
    if example.mask is not None:
        return example.mask.astype(np.int32)
    return np.int32(example.label or 0)
