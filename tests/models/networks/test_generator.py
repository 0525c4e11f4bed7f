"""The generator: its shapes, that it learns, and that it does so in the same way again."""

import dataclasses
import zlib
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from models.networks.generator import (
    ConditionalGan,
    GeneratorConfig,
    build_critic,
    build_generator,
    game_optimizer,
)

SMALL = GeneratorConfig((8, 8), classes=2, latent=4, width=2)


def made(model: keras.Model, labels: Any, latent: int, seed: int = 0) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal((len(labels), latent)).astype(np.float32)
    pictures: npt.NDArray[np.float32] = model.predict(
        {"noise": noise, "label": np.asarray(labels, np.int32)}, batch_size=250, verbose=0
    )
    return pictures


def halves(count: int = 64) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Pictures of 8x8 that are white above (label 0) or below (label 1), somewhat dimmed."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, count).astype(np.int32)
    pictures = np.full((count, 8, 8, 1), -0.9, np.float32)
    for picture, label, light in zip(pictures, labels, rng.uniform(0.3, 0.9, count), strict=True):
        picture[4 * label : 4 * label + 4] = light
    return pictures, labels


def game(
    steps: int = 4, config: GeneratorConfig = SMALL, seed: int = 3, eager: bool = True
) -> ConditionalGan:
    """A game to fit; eager is faster where a graph would be built for a few steps."""
    keras.utils.set_random_seed(seed)
    gan = ConditionalGan(config)
    gan.compile(game_optimizer(steps), jit_compile=False, run_eagerly=eager)
    return gan


def batches(first: int = 0, count: int = 4) -> tf.data.Dataset:
    """Batches number `first` on of an endless series, 16 pictures each."""
    data = tf.data.Dataset.from_tensor_slices(halves()).repeat().batch(16)
    return data.skip(first).take(count)


def state(gan: ConditionalGan) -> list[npt.NDArray[Any]]:
    return [np.asarray(variable) for variable in [*gan.variables, *gan.optimizer.variables]]


@pytest.mark.parametrize(
    ("size_hw", "levels"),
    [((8, 8), 1), ((12, 20), 1), ((16, 8), 1), ((28, 28), 2), ((32, 48), 3), ((128, 128), 5)],
)
def test_any_size_has_its_shape_and_range(size_hw: tuple[int, int], levels: int) -> None:
    config = GeneratorConfig(size_hw, classes=3, channels=3, latent=5, width=2)
    assert config.levels == levels
    pictures = made(build_generator(config), [0, 1, 2], 5)
    assert pictures.shape == (3, *size_hw, 3)
    assert pictures.dtype == np.float32
    assert np.abs(pictures).max() <= 1.0
    assert build_critic(config)(
        {"image": pictures, "label": np.array([0, 1, 2], np.int32)}
    ).shape == (3, 1)


def test_label_and_noise_matter_and_the_batch_does_not() -> None:
    keras.utils.set_random_seed(0)
    generator = build_generator(SMALL)
    zero, one = (made(generator, [label] * 2, 4) for label in (0, 1))
    assert np.abs(zero - one).max() > 1e-2
    assert np.abs(zero[0] - zero[1]).max() > 1e-2
    np.testing.assert_allclose(made(generator, [0], 4)[0], zero[0], atol=1e-6)


def test_inputs_have_names_and_types() -> None:
    generator = build_generator(SMALL)
    noise, label = generator.input["noise"], generator.input["label"]
    assert (noise.shape, noise.dtype) == ((None, 4), "float32")
    assert (label.shape, label.dtype) == ((None,), "int32")


def test_the_critic_adds_what_is_the_label_s() -> None:
    """D(x, y) = w . f(x) + b + v[y] . f(x), with v at 0 the same for every label."""
    critic = build_critic(SMALL)
    pictures, _ = halves(2)
    zero, one = (
        critic({"image": pictures, "label": np.full(2, label, np.int32)}).numpy()
        for label in (0, 1)
    )
    assert np.abs(zero - one).max() > 1e-4
    (vectors,) = [v for v in critic.trainable_variables if v.shape == (SMALL.classes, 64)]
    vectors.assign(np.zeros(vectors.shape))
    same = [
        critic({"image": pictures, "label": np.full(2, label, np.int32)}).numpy()
        for label in (0, 1)
    ]
    np.testing.assert_array_equal(*same)


def test_losses_are_the_formulas() -> None:
    gan = game()
    pictures, labels = halves(8)
    fake = made(gan.learner, labels, 4)
    hinge, loss, penalty = (
        float(value)
        for value in gan.game_losses(tf.constant(pictures), tf.constant(fake), tf.constant(labels))
    )
    real = gan.critic({"image": pictures, "label": labels}).numpy().astype(np.float64)
    false = gan.critic({"image": fake, "label": labels}).numpy().astype(np.float64)
    assert hinge == pytest.approx(
        np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + false).mean(), rel=1e-5
    )
    assert loss == pytest.approx(-false.mean(), rel=1e-5)
    # the gradient by differences, of a network of linear pieces
    step = 1e-2 * np.eye(64, dtype=np.float32).reshape(64, 1, 8, 8, 1)
    up, down = (
        gan.critic(
            {"image": (pictures + side).reshape(-1, 8, 8, 1), "label": np.tile(labels, 64)}
        ).numpy()
        for side in (step, -step)
    )
    squares = ((up - down) / 2e-2).reshape(64, 8) ** 2
    assert penalty == pytest.approx(squares.sum(0).mean(), rel=0.05)


def test_same_seed_same_weights_and_another_seed_others() -> None:
    runs = []
    for seed in (3, 3, 4):
        gan = game(seed=seed)
        gan.fit(batches(count=2), verbose=0)
        runs.append(state(gan))
    for one, two in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(runs[0], runs[2], strict=True))


def test_resumed_from_its_variables_it_reaches_the_same_place() -> None:
    whole = game()
    whole.fit(batches(), verbose=0)
    first = game()
    first.fit(batches(count=1), verbose=0)
    second = game(seed=99)
    second.optimizer.build(second.trainable_variables)
    for variable, value in zip(
        [*second.variables, *second.optimizer.variables], state(first), strict=True
    ):
        variable.assign(value)
    second.fit(batches(first=1, count=3), verbose=0)
    for one, two in zip(whole.weights, second.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


def test_validation_changes_nothing_but_its_own_means() -> None:
    gan = game()
    gan.fit(batches(count=1), verbose=0)
    before = [np.asarray(variable) for variable in [*gan.weights, gan._random.state]]
    first = gan.evaluate(batches(count=2), verbose=0, return_dict=True)
    again = gan.evaluate(batches(count=2), verbose=0, return_dict=True)
    assert first == again
    assert set(first) == {"critic_loss", "generator_loss", "gradient_penalty"}
    for value, variable in zip(before, [*gan.weights, gan._random.state], strict=True):
        np.testing.assert_array_equal(value, np.asarray(variable))


def test_it_learns_what_a_label_means() -> None:
    steps = 250
    gan = game(steps, dataclasses.replace(SMALL, width=4), eager=False)
    half = np.repeat([0, 1], 50)

    def lighter_above() -> npt.NDArray[np.bool_]:
        pictures = made(gan.generator, half, SMALL.latent)[..., 0]
        return np.asarray(pictures[:, :4].mean((1, 2)) > pictures[:, 4:].mean((1, 2)))

    before = lighter_above()
    gan.fit(batches(count=steps), verbose=0)
    after = lighter_above()
    assert (before == (half == 0)).mean() < 0.75
    assert (after == (half == 0)).mean() > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_hw": (30, 32)}, "multiples of 4"),
        ({"size_hw": (4, 32)}, "from 8 to 128"),
        ({"size_hw": (32, 132)}, "from 8 to 128"),
        ({"classes": 0}, "1 or more"),
        ({"latent": 0}, "1 or more"),
        ({"penalty": -1.0}, "penalty of 0 or more"),
        ({"memory": 1.0}, "memory in"),
    ],
)
def test_wrong_configurations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionalGan(dataclasses.replace(SMALL, **change))


@pytest.mark.slow
def test_it_learns_real_digits() -> None:
    """Pictures of 8x8 in a minute: of the right label, as varied as real ones, and not copies."""
    digits = load_digits()
    pictures = (digits.images[..., None] / 8 - 1).astype(np.float32)
    flat, labels = pictures.reshape(-1, 64), digits.target.astype(np.int32)
    held_out = np.array([zlib.crc32(b"%d" % number) % 5 == 0 for number in range(len(labels))])
    config = GeneratorConfig((8, 8), width=32)
    batch, epochs = 64, 70
    gan = game(epochs * 22, config, seed=0, eager=False)
    gan.fit(pictures[~held_out], labels[~held_out], batch_size=batch, epochs=epochs, verbose=0)
    asked = np.repeat(np.arange(10), 40)
    drawn = made(gan.generator, asked, config.latent).reshape(-1, 64)
    judge = SVC(C=10).fit(flat[held_out], labels[held_out])  # knows none of the same digits
    agreed = judge.predict(drawn) == asked
    assert agreed.mean() > 0.9
    assert min(agreed[asked == label].mean() for label in range(10)) > 0.7
    spread = [
        pdist(drawn[asked == label]).mean() / pdist(flat[labels == label]).mean()
        for label in range(10)
    ]
    assert np.mean(spread) > 0.7
    known = cKDTree(flat[~held_out])
    nearest_real = known.query(flat[~held_out], 2)[0][:, 1]  # the nearest is the picture itself
    copies = known.query(drawn)[0] < np.quantile(nearest_real, 0.01)
    assert copies.mean() < 0.02
