"""The tutorial's networks train, and have the flaws that their docstrings state."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from models.networks.geometry import receptive_field
from models.networks.tutorial import tutorial_generator, tutorial_segmenter


def squares(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Noisy pictures, every second with a bright square somewhere, and their masks."""
    rng = np.random.default_rng(seed)
    pictures = rng.uniform(0, 0.3, (count, 16, 16, 1)).astype(np.float32)
    masks = np.zeros((count, 16, 16), bool)
    for index in range(0, count, 2):
        top, left = rng.integers(0, 11, 2)
        masks[index, top : top + 6, left : left + 6] = True
    pictures[masks] += 0.6
    return pictures, masks


@pytest.fixture(scope="module")
def trained_segmenter() -> tuple[keras.Model, list[float]]:
    keras.utils.set_random_seed(1)
    pictures, masks = squares(128, seed=1)
    truth = masks.any((1, 2)).astype(np.float32)[:, None]
    network = tutorial_segmenter((16, 16), channels=1)
    history = network.fit(pictures, truth, batch_size=16, epochs=8, verbose=0)
    return network, history.history["loss"]


def test_the_segmenter_trains(trained_segmenter: tuple[keras.Model, list[float]]) -> None:
    network, losses = trained_segmenter
    assert losses[-1] < 0.3 * losses[0]
    pictures, masks = squares(64, seed=2)
    answers = np.asarray(network(pictures))[:, 0]
    assert ((answers > 0.5) == masks.any((1, 2))).mean() > 0.95


def test_the_segmenter_gives_different_masks_the_same_answer(
    trained_segmenter: tuple[keras.Model, list[float]],
) -> None:
    network, _ = trained_segmenter
    pictures = np.full((2, 16, 16, 1), 0.15, np.float32)
    pictures[0, 1:7, 1:7] = pictures[1, 9:15, 9:15] = 0.75
    masks = pictures[..., 0] > 0.5
    answers = np.asarray(network(pictures))
    assert not (masks[0] & masks[1]).any()
    assert answers.shape == (2, 1)  # not [2, 16, 16]: no mask is in it
    assert (answers > 0.9).all()


def test_the_segmenter_sees_the_whole_picture_and_takes_no_other_size(
    trained_segmenter: tuple[keras.Model, list[float]],
) -> None:
    network, _ = trained_segmenter
    assert receptive_field(network).whole_by == "dense"
    with pytest.raises(ValueError, match="to have value 256"):
        network(np.zeros((1, 20, 20, 1), np.float32))


def test_nearly_all_weights_of_the_segmenter_are_in_one_layer() -> None:
    network = tutorial_segmenter((128, 128))
    dense = network.get_layer("dense").count_params()
    assert round(dense / 1e6, 1) == round(network.count_params() / 1e6, 1) == 7.4


def test_the_generator_learns_the_mean_picture() -> None:
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(2)
    rng = np.random.default_rng(2)
    digits = (load_digits().images / 16).astype(np.float32)[..., None]
    network = tutorial_generator((8, 8), noise_size=16)
    probe = rng.normal(size=(200, 16)).astype(np.float32)
    before = float(network.evaluate(probe, digits[:200], verbose=0))
    for _ in range(6):  # epochs, with new pairs in each
        noise = rng.normal(size=(len(digits), 16)).astype(np.float32)
        loss = network.fit(noise, digits, batch_size=64, verbose=0).history["loss"][0]
    made = np.asarray(network(probe))
    assert loss < 0.9 * before
    assert np.abs(made.mean(0) - digits.mean(0)).mean() < 0.03
    assert made.var(0).mean() < 0.02 * digits.var(0).mean()  # whatever the noise


def test_binary_cross_entropy_is_least_at_the_mean() -> None:
    truths = np.random.default_rng(3).uniform(size=50)
    answers = np.linspace(0.01, 0.99, 99)
    losses = [-(truths * np.log(p) + (1 - truths) * np.log(1 - p)).mean() for p in answers]
    assert abs(answers[np.argmin(losses)] - truths.mean()) <= 0.005
    ours = losses[30]
    keras_loss = keras.losses.binary_crossentropy(truths, np.full(50, answers[30]))
    np.testing.assert_allclose(ours, float(keras_loss), rtol=1e-5)


def test_dense_is_a_matrix_product_over_the_last_axis() -> None:
    rng = np.random.default_rng(4)
    x, w, b = rng.normal(size=(3, 5)), rng.normal(size=(5, 2)), rng.normal(size=2)
    layer = keras.layers.Dense(2)
    layer.build((None, 5))
    layer.set_weights([w, b])
    y = np.zeros((3, 2))
    for n, m in np.ndindex(y.shape):
        y[n, m] = b[m] + sum(x[n, d] * w[d, m] for d in range(5))
    np.testing.assert_allclose(np.asarray(layer(x)), y, rtol=1e-4, atol=1e-6)
    maps = rng.normal(size=(3, 4, 4, 5))
    np.testing.assert_allclose(
        np.asarray(layer(maps))[1, 2, 3], np.asarray(layer(maps[1, 2, 3][None]))[0], atol=1e-5
    )


def test_softmax_cross_entropy_and_its_derivative() -> None:
    import tensorflow as tf

    z, t = np.random.default_rng(5).normal(size=6), 2
    loss = -z[t] + np.log(np.exp(z).sum())
    np.testing.assert_allclose(loss, -log_softmax(z)[t])
    logits = tf.Variable(z[None], dtype=tf.float32)
    with tf.GradientTape() as tape:
        theirs = keras.losses.sparse_categorical_crossentropy(
            np.array([t]), logits, from_logits=True
        )[0]
    np.testing.assert_allclose(float(theirs), loss, rtol=1e-5)
    slope = softmax(z) - (np.arange(6) == t)
    np.testing.assert_allclose(np.asarray(tape.gradient(theirs, logits))[0], slope, atol=1e-6)
