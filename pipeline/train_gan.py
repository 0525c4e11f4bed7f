"""The generator as a trainee: a conditional GAN, its batches, and what can be measured of it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.networks.augment import augmented_picture
from models.networks.export import ServedGenerator, resized
from models.networks.generator import ConditionalGan, GeneratorConfig, game_optimizer
from models.networks.spread import copies, spread
from pipeline.train_batches import Measured, Settings, Trained, batches_of, steps_of
from pipeline.training import Trainee
from transforms.confusion import mean_of_numbers
from transforms.training_data import Example, Examples, Part

_MOST_COMPARED = 10_000  # pictures, alike of each class, with which made ones are compared
_MADE_BY_CLASS = 100


def generator(data: Examples, count: int, config: GeneratorConfig, settings: Settings) -> Trained:
    """A conditional GAN. Nothing says which of its epochs is best: the last one is kept."""
    steps = steps_of(count, settings)
    gan = ConditionalGan(config)
    gan.compile(game_optimizer(settings.epochs * steps, settings.learning_rate), jit_compile=False)

    def scaled(image: Any) -> Any:
        return image[..., : config.channels] / 127.5 - 1.0

    def prepare(example: Mapping[str, Any], seed: Any) -> tuple[Any, Any]:
        image = augmented_picture(example["image"], seed, config.size_hw, settings.augment)
        return scaled(image), example["target"]

    def pictures(part: Part) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        examples = list(_of_each_class(data.examples(part), config.classes))
        images = [
            scaled(np.asarray(resized(e.pixels[np.newaxis], config.size_hw)))[0] for e in examples
        ]
        return np.stack(images), np.asarray([e.label for e in examples], np.int32)

    def validate() -> dict[str, float]:
        images, labels = pictures("validation")
        found = gan.evaluate(images, labels, settings.batch_size, verbose=0, return_dict=True)
        return {f"validation_{name}": float(value) for name, value in found.items()}

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
        means = {f"mean_{name}": mean_of_numbers(values) for name, values in by_class.items()}
        return Measured(means, by_class)

    batches = batches_of(data, count, settings, (), prepare)
    trainee = Trainee(gan, batches, steps, validate, "")
    return Trained(trainee, gan.generator, ServedGenerator(gan.generator, config.latent), measure)


def _of_each_class(examples: Iterable[Example], classes: int) -> Iterator[Example]:
    """As many of each class at most: the first ones of data in the order of classes are of one."""
    room = [max(2, _MOST_COMPARED // classes)] * classes
    for example in examples:
        assert example.label is not None
        if room[example.label]:
            room[example.label] -= 1
            yield example
