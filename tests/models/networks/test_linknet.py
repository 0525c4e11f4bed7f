"""The LinkNet: sizes, widths, its field, what it learns."""

import keras
import numpy as np
import pytest

from models.networks.geometry import receptive_field
from models.networks.linknet import LinkNetConfig, build_linknet
from models.networks.unet import UNetConfig, build_unet


@pytest.mark.parametrize("size_hw", [(16, 16), (32, 48), (64, 16)])
def test_scores_are_as_large_as_the_picture(size_hw):
    config = LinkNetConfig(classes=5, depth=2, width=8)
    answer = build_linknet(config)(np.zeros((2, *size_hw, 3), np.float32))
    assert config.multiple_px == 4
    assert answer.shape == (2, *size_hw, 5)
    assert answer.dtype == "float32"


def test_levels_halve_the_resolution_and_skips_are_added():
    config = LinkNetConfig(classes=2, depth=3, width=12)
    assert config.widths == [12, 20, 32, 48]
    network = build_linknet(config)
    names = ("down0_relu", "down1b_relu", "down3b_relu", "add0")
    maps = keras.Model(network.inputs, [network.get_layer(name).output for name in names])
    answers = maps(np.random.default_rng(0).random((1, 32, 64, 3), np.float32) * 255)
    shapes = [answer.shape for answer in answers]
    assert shapes == [(1, 32, 64, 12), (1, 16, 32, 20), (1, 4, 8, 48), (1, 32, 64, 12)]


def test_it_is_smaller_than_a_unet_of_its_width():
    linknet = build_linknet(LinkNetConfig(classes=11)).count_params()
    assert linknet < build_unet(UNetConfig(classes=11, width=12)).count_params() / 3


def test_the_field_grows_with_the_depth():
    fields = [receptive_field(build_linknet(LinkNetConfig(2, d, 4))).size_hw for d in (1, 2, 3)]
    assert fields == sorted(fields) and len(set(fields)) == 3


@pytest.mark.parametrize(
    ("config", "words"),
    [(LinkNetConfig(classes=1), "1 classes"), (LinkNetConfig(classes=2, depth=0), "depth 0")],
)
def test_what_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        build_linknet(config)
