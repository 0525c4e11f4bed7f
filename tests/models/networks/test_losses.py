"""Losses agree with scikit-learn's and with Keras', and leave out what does not count."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.networks.losses import balancing_weights, masked_cross_entropy

metrics = pytest.importorskip("sklearn.metrics")


def example(seed, classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, (2, 5, 6)), rng.normal(size=(2, 5, 6, classes)).astype("f4")


def test_without_weights_it_is_kerass():
    labels, logits = example(0)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    found = masked_cross_entropy([1.0] * 4, 255)(labels, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_with_weights_and_ignored_pixels_it_is_scikit_learns(seed):
    labels, logits = example(seed)
    labels[0, :2] = 255
    weights = np.asarray([0.5, 1.0, 2.0, 8.0])
    flat, scores = labels.ravel(), logits.reshape(-1, 4)
    counted = flat != 255
    softmax = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = metrics.log_loss(
        flat[counted], softmax[counted], sample_weight=weights[flat[counted]], labels=range(4)
    )
    found = masked_cross_entropy(weights.tolist(), 255)(labels, logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_ignored_pixels_give_no_gradient():
    tf = pytest.importorskip("tensorflow")
    labels, logits = example(3)
    labels[1] = 255
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = masked_cross_entropy([1.0] * 4, 255)(labels, logits)
    gradient = np.asarray(tape.gradient(loss, logits))
    assert np.abs(gradient[0]).min() > 0
    assert np.abs(gradient[1]).max() == 0


def test_nothing_to_count_is_a_loss_of_nothing():
    _, logits = example(4)
    assert float(masked_cross_entropy([1.0] * 4, 9)(np.full((2, 5, 6), 9), logits)) == 0


@given(hnp.arrays(np.int64, st.integers(2, 12), elements=st.integers(1, 10**9)))
def test_weights_keep_the_mean_and_raise_the_rare(counts):
    weights = balancing_weights(counts)
    assert np.isclose((weights * counts).sum() / counts.sum(), 1)
    assert weights.max() <= 10.0001 * weights.min()
    order = np.argsort(counts, kind="stable")
    assert (np.diff(weights[order]) <= 1e-12).all()


def test_a_class_without_examples_has_no_weight():
    with pytest.raises(ValueError, match="class 1 has no examples"):
        balancing_weights(np.asarray([3, 0, 2]))
