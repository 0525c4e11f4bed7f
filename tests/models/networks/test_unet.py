"""The U-Net: sizes, what it may not see, its norms, its field."""

import keras
import numpy as np
import pytest

from models.networks.geometry import receptive_field
from models.networks.unet import UNetConfig, build_unet, settle


@pytest.mark.parametrize("size_hw", [(16, 16), (32, 48), (64, 16)])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_scores_are_as_large_as_the_picture(norm, size_hw):
    config = UNetConfig(classes=5, depth=2, width=8, norm=norm)
    network = build_unet(config)
    answer = network(np.zeros((2, *size_hw, 3), np.float32))
    assert config.multiple_px == 4
    assert answer.shape == (2, *size_hw, 5)
    assert answer.dtype == "float32"


def test_levels_halve_the_resolution_and_double_the_channels():
    network = build_unet(UNetConfig(classes=2, depth=3, width=4))
    maps = keras.Model(
        network.inputs, [network.get_layer(f"{n}b").output for n in ("down0", "down1", "bottom")]
    )
    shapes = [answer.shape for answer in maps(np.zeros((1, 32, 64, 3), np.float32))]
    assert shapes == [(1, 32, 64, 4), (1, 16, 32, 8), (1, 4, 8, 32)]


def test_the_field_grows_with_the_depth_and_ends_with_instance_norm():
    fields = [receptive_field(build_unet(UNetConfig(2, depth, 4))).size_hw for depth in (1, 2, 3)]
    assert fields == sorted(fields) and len(set(fields)) == 3
    assert receptive_field(build_unet(UNetConfig(2, 2, 4, "instance"))).size_hw is None


def test_a_pixel_outside_of_the_field_changes_nothing():
    keras.utils.set_random_seed(0)  # of some weights nothing passes the corner's ReLUs
    network = build_unet(UNetConfig(classes=3, depth=2, width=4))
    size = receptive_field(network).size_hw[0]
    image = np.random.default_rng(0).random((1, 128, 128, 3), np.float32) * 255
    changed = image.copy()
    changed[:, 0, 0] = 255 - changed[:, 0, 0]
    difference = np.abs(np.asarray(network(image)) - np.asarray(network(changed))).max(-1)[0]
    assert difference[:, size:].max() == 0 and difference[size:].max() == 0
    assert difference[0, 0] > 0


def test_half_precision_answers_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build_unet(UNetConfig(classes=2, depth=1, width=8))
        assert network.get_layer("down0a").compute_dtype == "bfloat16"
        assert network(np.zeros((1, 8, 8, 3), np.float32)).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_settled_statistics_are_those_of_the_pictures():
    network = build_unet(UNetConfig(classes=2, depth=1, width=4))
    batches = np.random.default_rng(3).random((4, 2, 16, 16, 3), np.float32) * 255
    weights = [np.asarray(w) for w in network.trainable_weights]
    settle(network, batches)
    first = keras.Model(network.inputs, network.get_layer("down0a").output)
    seen = np.concatenate([np.asarray(first(batch)) for batch in batches])
    norm = network.get_layer("down0a_norm")
    np.testing.assert_allclose(norm.moving_mean, seen.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    within = np.mean([np.asarray(first(b)).var((0, 1, 2)) for b in batches], axis=0)
    np.testing.assert_allclose(norm.moving_variance, within, rtol=1e-3)
    assert norm.momentum == 0.99
    for before, after in zip(weights, network.trainable_weights, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (UNetConfig(classes=1), "1 classes"),
        (UNetConfig(classes=2, depth=0), "depth 0"),
        (UNetConfig(classes=2, width=12, norm="group"), "multiple of 8"),
    ],
)
def test_wrong_numbers_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        build_unet(config)
