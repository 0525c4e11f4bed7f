"""The segmenter and the classifier as trainees: network, loss, batches and validation."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.loading import import_tensorflow
from models.networks.augment import augmented_crop, augmented_picture
from models.networks.classifier import ClassifierConfig, build_classifier
from models.networks.export import ServedClassifier, ServedSegmenter
from models.networks.linknet import LinkNetConfig, build_linknet
from models.networks.losses import masked_cross_entropy
from models.networks.unet import UNetConfig, build_unet, settle
from pipeline.train_batches import Measured, Settings, Trained, batches_of, crops_of, steps_of
from pipeline.train_state import SCORE
from pipeline.training import Trainee
from transforms.confusion import confusion_matrix, scores
from transforms.training_data import Example, Examples

tf = import_tensorflow()

_WARMUP_STEPS = 200  # at most an epoch
_WEIGHT_DECAY = 1e-4
_VALIDATION_BATCH = 32
_SETTLING_BATCHES = 16


def segmenter(
    data: Examples,
    count: int,
    config: UNetConfig | LinkNetConfig,
    settings: Settings,
    *,
    crop_px: int,
    class_weights: npt.NDArray[np.float64],
    ignore_id: int,
) -> Trained:
    """A U-Net or LinkNet that learns masks from random crops and is validated on whole pictures.

    Args:
        count: squares that an epoch shows (see crops_of).
    """
    network = build_linknet(config) if isinstance(config, LinkNetConfig) else build_unet(config)
    served = ServedSegmenter(network, config.multiple_px)
    steps = steps_of(count, settings)
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
        return mask_confusion(served, data.examples("validation"), config.classes, ignore_id)

    def settled() -> None:
        settle(network, (images for images, _ in batches(0).take(_SETTLING_BATCHES)))

    def validate() -> dict[str, float]:
        settled()
        found = scores(confusion())
        return {
            "accuracy": found.accuracy,
            "mean_iou": found.means["mean_iou"],
            SCORE: found.means["mean_iou"],
        }

    batches = batches_of(
        data,
        count,
        settings,
        (None, None),
        prepare,
        times=lambda example: crops_of(example.pixels.shape[:2], crop_px),
    )
    trainee = Trainee(network, batches, steps, validate, "mean IoU")
    return Trained(trainee, network, served, lambda: _measured(confusion()), settled)


def classifier(
    data: Examples,
    count: int,
    config: ClassifierConfig,
    settings: Settings,
    *,
    class_weights: npt.NDArray[np.float64],
) -> Trained:
    """A classifier that learns labels."""
    network = build_classifier(config)
    served = ServedClassifier(network, config.size_hw)
    steps = steps_of(count, settings)
    network.compile(
        _optimizer(settings, steps),
        {"logits": masked_cross_entropy(class_weights.tolist(), -1), "features": None},
        jit_compile=False,
    )

    def prepare(example: Mapping[str, Any], seed: Any) -> tuple[Any, Any]:
        image = augmented_picture(example["image"], seed, config.size_hw, settings.augment)
        return image, {"logits": example["target"]}

    def confusion() -> npt.NDArray[np.int64]:
        return label_confusion(served, data.examples("validation"), config.classes)

    def validate() -> dict[str, float]:
        found = scores(confusion())
        return {"accuracy": found.accuracy, SCORE: found.accuracy}

    batches = batches_of(data, count, settings, (), prepare)
    trainee = Trainee(network, batches, steps, validate, "accuracy")
    return Trained(trainee, network, served, lambda: _measured(confusion()))


def mask_confusion(
    served: ServedSegmenter, examples: Iterable[Example], classes: int, ignore_id: int
) -> npt.NDArray[np.int64]:
    """Pixels of whole pictures by class, int64 [C, C], rows are the truth; without `ignore_id`."""
    total = np.zeros((classes, classes), np.int64)
    for example in examples:
        assert example.mask is not None
        found = _ids(served, example.pixels)
        counted = example.mask != ignore_id
        total += confusion_matrix(example.mask[counted], found[counted], classes)
    return total


def label_confusion(
    served: ServedClassifier, examples: Iterable[Example], classes: int
) -> npt.NDArray[np.int64]:
    """Pictures by class, int64 [C, C], rows are the truth."""
    total = np.zeros((classes, classes), np.int64)
    for batch in _stacks(examples):
        images = np.stack([example.pixels for example in batch])
        found = np.asarray(served.serve(tf.constant(images))["logits"]).argmax(-1)
        truth = np.asarray([example.label for example in batch])
        total += confusion_matrix(truth, found, classes)
    return total


def _measured(confusion: npt.NDArray[np.int64]) -> Measured:
    found = scores(confusion)
    return Measured({"accuracy": found.accuracy, **found.means}, found.by_class, confusion)


def _stacks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Neighbours of one size, some at once."""
    for _, same in groupby(examples, key=lambda example: example.pixels.shape):
        while batch := list(islice(same, _VALIDATION_BATCH)):
            yield batch


def _ids(served: ServedSegmenter, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Class ids of one picture, int64 [H, W]."""
    logits = served.serve(tf.constant(pixels[np.newaxis]))["logits"]
    return np.asarray(tf.argmax(logits[0], -1))


def _optimizer(settings: Settings, steps: int) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); the rate rises from 1/20 in at most the first epoch."""
    warmup = min(steps, _WARMUP_STEPS)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 20,
        max(1, settings.epochs * steps - warmup),
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY, clipnorm=1.0)
