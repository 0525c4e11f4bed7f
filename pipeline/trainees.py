"""The trainees: network, loss, batches and validation of segmenter, classifier and generator."""

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
from models.networks.export import ServedClassifier, ServedGenerator, ServedSegmenter, resized
from models.networks.generator import ConditionalGan, GeneratorConfig, game_optimizer
from models.networks.losses import masked_cross_entropy
from models.networks.spread import copies, spread
from models.networks.unet import UNetConfig, build_unet
from pipeline.train_state import SCORE
from pipeline.training import Trainee
from transforms.confusion import confusion_matrix, scores
from transforms.training_data import Example, Part, TrainingSet

tf = import_tensorflow()

_WARMUP_EPOCHS = 1
_WEIGHT_DECAY = 1e-4
_VALIDATION_BATCH = 32
_MOST_COMPARED = 10_000  # pictures, with which made ones are compared
_MADE_BY_CLASS = 100
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
    """

    trainee: Trainee
    network: keras.Model
    served: Any
    measure: Callable[[], Measured]


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
    trainee = Trainee(network, batches, steps, validate, "mean IoU")
    return Trained(trainee, network, served, lambda: _measured(confusion()))


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
    trainee = Trainee(network, batches, steps, validate, "accuracy")
    return Trained(trainee, network, served, lambda: _measured(confusion()))


def generator(
    data: TrainingSet, count: int, config: GeneratorConfig, settings: Settings
) -> Trained:
    """A conditional GAN. Nothing says which of its epochs is best: the last one is kept."""
    steps = _steps(count, settings)
    gan = ConditionalGan(config)
    gan.compile(game_optimizer(settings.epochs * steps, settings.learning_rate), jit_compile=False)

    def scaled(image: Any) -> Any:
        return resized(image, config.size_hw)[..., : config.channels] / 127.5 - 1.0

    def prepare(example: Mapping[str, Any], seed: Any) -> tuple[Any, Any]:
        image = augmented_picture(example["image"], seed, config.size_hw, settings.augment)
        return image[..., : config.channels] / 127.5 - 1.0, example["target"]

    def pictures(part: Part) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        examples = list(islice(data.examples(part), _MOST_COMPARED))
        images = [np.asarray(scaled(e.pixels[np.newaxis]))[0] for e in examples]
        return np.stack(images), np.asarray([e.label for e in examples], np.int32)

    def validate() -> dict[str, float]:
        found = gan.evaluate(*pictures("validation"), settings.batch_size, verbose=0)
        names = ("critic_loss", "generator_loss", "gradient_penalty")
        values = found if isinstance(found, list) else [found[name] for name in names]
        return {f"validation_{name}": float(v) for name, v in zip(names, values, strict=True)}

    def measure() -> Measured:
        real, labels = pictures("train")
        noise = np.random.default_rng(settings.seed).normal(
            size=(config.classes, _MADE_BY_CLASS, config.latent)
        )
        rows: dict[str, list[float]] = {"spread": [], "copies": []}
        for label in range(config.classes):
            asked = np.full(_MADE_BY_CLASS, label, np.int32)
            inputs = {"noise": noise[label].astype(np.float32), "label": asked}
            made = np.asarray(gan.generator(inputs)).reshape(_MADE_BY_CLASS, -1)
            same = real[labels == label].reshape(-1, made.shape[1])
            enough = len(same) > 1
            rows["spread"].append(spread(made, same) if enough else np.nan)
            rows["copies"].append(copies(made, same) if enough else np.nan)
        by_class = {name: np.asarray(values) for name, values in rows.items()}
        means = {f"mean_{name}": float(np.nanmean(values)) for name, values in by_class.items()}
        return Measured(means, by_class)

    batches = _batches(data, count, settings, (), prepare)
    trainee = Trainee(gan, batches, steps, validate, "")
    return Trained(trainee, gan.generator, ServedGenerator(gan.generator, config.latent), measure)


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
