"""A model's picture with the mask of the source's: sizes, parts that are cut away, ids."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models.card import load_card
from models.classifier import Bound
from models.probe import probe
from models.rules import bind
from models.signatures import read_model
from transforms.augmentation.scene import Scene
from transforms.augmentation.translating import SceneTranslator
from transforms.failures import Failure


def translator(tmp_path, channels, fit, made):
    """A model of 8 x 8 at twice the size, grey of the first channel."""
    depth = 1 if channels == "ids" else 3
    spec = tf.TensorSpec([None, 8, 8, depth], tf.float32, name="image")

    def make(image):
        grey = made(image[..., :1])
        return {"image": tf.repeat(tf.repeat(grey, 2, axis=1), 2, axis=2)}

    path = str(tmp_path / "model")
    tf.saved_model.save(tf.Module(), path, signatures=tf.function(make, [spec]))
    card = tmp_path / "card.yaml"
    ranged = "" if channels == "ids" else ', range: "0,255"'
    output = 'output: {kind: image, range: "0,255"}'
    card.write_text(f"input: {{channels: {channels}, fit: {fit}{ranged}}}\n{output}")
    info = read_model(path, None)
    binding = probe(path, bind(info, load_card(str(card), {})))
    return SceneTranslator(Bound(path, binding, info.fingerprint))


def scene(height, width, dtype=np.uint8):
    """Blocks of 2 x 2, each with an id of its own; the picture shows the id."""
    ids = np.arange(height // 2 * (width // 2)).reshape(height // 2, width // 2)
    mask = ids.repeat(2, axis=0).repeat(2, axis=1).astype(dtype)
    pixels = np.repeat(mask.astype(np.uint8)[..., None], 3, axis=2)
    return Scene(pixels, mask, ((4, 1.0),), generators=("a",), key="k")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("fit", "part"), [("stretch", slice(None)), ("crop", slice(4, 12))])
def test_picture_and_mask_show_the_same_at_the_size_of_the_answer(tmp_path, dtype, fit, part):
    source = scene(8, 8 if fit == "stretch" else 16, dtype)
    made = translator(tmp_path, "RGB", fit, lambda grey: grey)(source)
    assert made.pixels.shape == (16, 16, 3) and made.mask.dtype == dtype
    np.testing.assert_array_equal(made.pixels, np.repeat(made.mask[..., None], 3, axis=2))
    expected = source.mask[:, part].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(made.mask, expected)
    assert made.labels == source.labels and made.key == "k"
    assert len(made.generators) == 2 and "a" in made.generators


def test_a_mask_is_seen_and_its_picture_has_it(tmp_path):
    paint = translator(tmp_path, "ids", "stretch", lambda ids: 3.0 * ids)
    source = dataclasses.replace(scene(8, 8), pixels=np.zeros((8, 8, 3), np.uint8))
    made = paint(source)
    assert paint.operation == {"step": "translate", "from": "mask"}
    np.testing.assert_array_equal(made.pixels[..., 0], 3 * made.mask)
    np.testing.assert_array_equal(made.mask[::2, ::2], source.mask)
    with pytest.raises(Failure, match="the picture has none"):
        paint(dataclasses.replace(source, mask=None))
    with pytest.raises(Failure, match="the mask has the id 300, expected 0 to 255"):
        paint(dataclasses.replace(source, mask=np.full((8, 8), 300, np.uint16)))


def test_numbers_that_are_no_picture_are_a_failure(tmp_path):
    broken = translator(tmp_path, "RGB", "stretch", lambda grey: grey / tf.reduce_max(grey))
    with pytest.raises(Failure, match="NaN or infinity"):
        broken(Scene(np.zeros((8, 8, 3), np.uint8)))
