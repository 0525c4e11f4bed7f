"""The classifier: outputs by name, sizes, and what it refuses."""

import numpy as np
import pytest

from models.networks.classifier import ClassifierConfig, build_classifier


@pytest.mark.parametrize("size_hw", [(8, 8), (32, 20), (5, 4)])
def test_logits_and_features(size_hw):
    network = build_classifier(ClassifierConfig(classes=7, size_hw=size_hw, width=4, features=9))
    answer = network(np.zeros((3, *size_hw, 3), np.float32))
    assert answer["logits"].shape == (3, 7)
    assert answer["features"].shape == (3, 9)


def test_logits_are_a_dense_layer_of_the_features():
    network = build_classifier(ClassifierConfig(classes=4, size_hw=(16, 16), width=4))
    image = np.random.default_rng(1).random((5, 16, 16, 3), np.float32) * 255
    answer = network(image)
    kernel, bias = (np.asarray(v) for v in network.get_layer("logits").weights)
    expected = np.asarray(answer["features"]) @ kernel + bias
    np.testing.assert_allclose(np.asarray(answer["logits"]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        ClassifierConfig(classes=1, size_hw=(8, 8)),
        ClassifierConfig(classes=2, size_hw=(3, 8)),
        ClassifierConfig(classes=2, size_hw=(8, 8), depth=0),
    ],
)
def test_wrong_numbers_are_refused(config):
    with pytest.raises(ValueError, match="expected at least 2 classes"):
        build_classifier(config)
