"""Exported models answer like the network, for pictures of any size, and hold their card."""

import io

import numpy as np
import pytest
from PIL import Image

from models.card import load_card, own_card
from models.loading import import_tensorflow
from models.networks.classifier import ClassifierConfig, build_classifier
from models.networks.export import ServedClassifier, ServedSegmenter, export, resized
from models.networks.unet import UNetConfig, build_unet
from models.signatures import read_model

tf = import_tensorflow()
CARD = 'classes: [a, b, c]\ninput: {name: image, range: "0,255"}\n'


def pictures(count, height, width):
    return np.random.default_rng(2).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def unet():
    return build_unet(UNetConfig(classes=3, depth=2, width=4))


@pytest.fixture(scope="module")
def unet_model(unet, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("unet") / "model")
    export(ServedSegmenter(unet, 4), folder, CARD, {"assets.extra/ABOUT.md": "# about\n"})
    return folder


@pytest.mark.parametrize("size_hw", [(16, 24), (17, 23), (1, 1), (3, 40)])
def test_a_segmenter_takes_any_size(unet, unet_model, size_hw):
    images = pictures(2, *size_hw)
    served = tf.saved_model.load(unet_model).signatures["serving_default"]
    found = served(image=tf.constant(images))["logits"].numpy()
    height, width = size_hw
    padded = np.pad(images, [(0, 0), (0, -height % 4), (0, -width % 4), (0, 0)], mode="edge")
    expected = np.asarray(unet(padded.astype(np.float32)))[:, :height, :width]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_encoded_pictures_give_the_same(unet_model):
    images = pictures(2, 9, 13)
    signatures = tf.saved_model.load(unet_model).signatures
    expected = signatures["serving_default"](image=tf.constant(images))["logits"]
    found = signatures["encoded"](image_bytes=tf.constant([png(i) for i in images]))["logits"]
    np.testing.assert_array_equal(found, expected)


def test_the_model_holds_its_card_and_no_path(unet_model, tmp_path):
    card = load_card(own_card(unet_model), {})
    assert card.classes == ["a", "b", "c"]
    with open(f"{unet_model}/saved_model.pb", "rb") as file:
        assert str(tmp_path.parent.parent).encode() not in file.read()
    info = read_model(unet_model)
    assert [signature.name for signature in info.signatures] == ["encoded", "serving_default"]


def test_a_classifier_resizes_and_gives_features(tmp_path):
    config = ClassifierConfig(classes=3, size_hw=(12, 8), width=4, features=5)
    network = build_classifier(config)
    folder = str(tmp_path / "model")
    export(ServedClassifier(network, config.size_hw), folder, CARD, {})
    signatures = tf.saved_model.load(folder).signatures
    images = pictures(3, 30, 20)
    expected = network(resized(tf.constant(images), config.size_hw))
    found = signatures["serving_default"](image=tf.constant(images))
    mixed = [png(images[0]), png(pictures(1, 7, 50)[0])]  # encoded ones may have any sizes
    encoded = signatures["encoded"](image_bytes=tf.constant(mixed))
    for name, columns in (("logits", 3), ("features", 5)):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(encoded[name][0], expected[name][0], rtol=1e-4, atol=1e-5)
        assert encoded[name].shape == (2, columns)


def test_dropout_is_off_when_served(tmp_path):
    network = build_classifier(ClassifierConfig(classes=2, size_hw=(8, 8), width=4, dropout=0.9))
    served = ServedClassifier(network, (8, 8))
    image = tf.constant(pictures(1, 8, 8))
    np.testing.assert_array_equal(served.serve(image)["logits"], served.serve(image)["logits"])
