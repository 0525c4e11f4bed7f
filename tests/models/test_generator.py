"""Models that make pictures equal plain TensorFlow calls, item by item."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from models.card import load_card
from models.errors import ModelError
from models.generator import Generator, Translator
from models.latents import draw
from models.loading import import_tensorflow
from models.probe import probe
from models.probe_pictures import complete_picture
from models.rules import bind
from models.signatures import read_model

tf = import_tensorflow()
LABELS = 4


def bytes_of(values, low=-1.0, high=1.0):
    return np.clip(np.round((np.asarray(values) - low) * 255 / (high - low)), 0, 255)


class Conditional(tf.Module):
    """noise [n, 16] and a label -> tanh [n, 12, 10, 3]."""

    def __init__(self):
        self.dense = tf.Variable(tf.random.stateless_normal([16, 360], seed=[1, 2]) * 0.2)
        self.classes = tf.Variable(tf.random.stateless_normal([LABELS, 360], seed=[3, 4]))

    def picture(self, noise, row):
        return tf.tanh(tf.reshape(noise @ self.dense + row, [-1, 12, 10, 3]))

    @tf.function
    def by_id(self, noise, label):
        return self.picture(noise, tf.gather(self.classes, label[:, 0]))

    @tf.function
    def by_one_hot(self, z, y, truncation):
        return {"default": self.picture(z * truncation, y @ self.classes)}

    @tf.function
    def nchw(self, noise, label):
        return {"out": tf.transpose(self.by_id(noise, label), [0, 3, 1, 2])}

    @tf.function
    def nan_for_2(self, noise, label):
        bad = tf.where(label == 2, np.float32("nan"), 0.0)
        return {"out": self.by_id(noise, label) + bad[:, :, None, None]}

    @tf.function
    def decoder(self, latent):
        return {"out": tf.sigmoid(tf.reshape(latent @ self.dense, [-1, 12, 30, 1]))}


def spec(name, *shape, dtype="float32"):
    return tf.TensorSpec(shape, dtype, name=name)


NOISE, LABEL = spec("noise", None, 16), spec("label", None, 1, dtype="int32")
MODELS = {
    "by_id": (Conditional.by_id, {"noise": NOISE, "label": LABEL}),
    "by_one_hot": (
        Conditional.by_one_hot,
        {"z": spec("z", None, 16), "y": spec("y", None, LABELS), "truncation": spec("truncation")},
    ),
    "nchw": (Conditional.nchw, {"noise": NOISE, "label": LABEL}),
    "fixed": (
        Conditional.by_id,
        {"noise": spec("noise", 4, 16), "label": spec("label", 4, 1, dtype="int32")},
    ),
    "nan_for_2": (Conditional.nan_for_2, {"noise": NOISE, "label": LABEL}),
    "decoder": (Conditional.decoder, {"latent": spec("latent", None, 16)}),
}


@pytest.fixture(scope="module")
def saved_generator(tmp_path_factory):
    made = {}

    def export(name):
        if name not in made:
            module, path = Conditional(), str(tmp_path_factory.mktemp("generators") / name)
            if name == "no_signature":
                module.by_id.get_concrete_function(NOISE, LABEL)
                tf.saved_model.save(module, path, signatures={})
            else:
                function, specs = MODELS[name]
                concrete = function.__get__(module, Conditional).get_concrete_function(**specs)
                tf.saved_model.save(module, path, signatures=concrete)
            made[name] = path
        return made[name]

    return export


@pytest.fixture(scope="module")
def bound_generator(saved_generator):
    def make(name, **fields):
        card = {"output.kind": "image", "output.range": "-1,1"}
        if name not in ("decoder", "by_one_hot"):
            card["classes"] = ["a", "b", "c", "d"]
        if name == "by_one_hot":
            card["inputs.truncation.value"] = 0.7
        card |= {field.replace("__", "."): value for field, value in fields.items()}
        info = read_model(saved_generator(name))
        return probe(info.path, bind(info, load_card(None, card)))

    return make


def items(binding, count, seed=3):
    labels = binding.labels
    return [draw(binding, seed, i, 0, i % labels if labels else None) for i in range(count)]


@pytest.mark.parametrize("name", ["by_id", "nchw", "fixed", "no_signature"])
def test_noise_and_labels_by_id(saved_generator, bound_generator, name):
    binding = bound_generator(name)
    assert binding.output_layout == ("NCHW" if name == "nchw" else "NHWC")
    drawn = items(binding, 4)
    made = Generator(saved_generator(name), binding, batch_size=4)(drawn)
    module = Conditional()
    for one, inputs in zip(made, drawn, strict=True):
        by_name = {key: value[np.newaxis] for key, value in inputs.items()}
        expected = bytes_of(module.by_id(**by_name)[0])
        assert one.finite
        assert np.abs(one.pixels - expected).max() <= 1
        assert np.mean(one.pixels != expected) < 1e-2


def test_one_hot_labels_and_a_constant(saved_generator, bound_generator):
    binding = bound_generator("by_one_hot")
    assert binding.labels == LABELS
    assert binding.classes == ("class 0", "class 1", "class 2", "class 3")
    drawn = items(binding, 5)
    made = Generator(saved_generator("by_one_hot"), binding, batch_size=8)(drawn)
    assert len(made) == 5
    module = Conditional()
    for one, inputs in zip(made, drawn, strict=True):
        expected = bytes_of(
            module.picture(inputs["z"][None] * 0.7, inputs["y"][None] @ module.classes)[0]
        )
        assert np.abs(one.pixels - expected).max() <= 1


def test_a_decoder_makes_grey_pictures(saved_generator, bound_generator):
    binding = bound_generator("decoder", output__range="0,1")
    assert (binding.labels, binding.output_channels) == (0, "L")
    made = Generator(saved_generator("decoder"), binding, 2)(items(binding, 2))
    assert made[0].pixels.shape == (12, 30)


def test_an_item_does_not_depend_on_its_mates(saved_generator, bound_generator):
    binding = bound_generator("by_id")
    drawn = items(binding, 8)
    together = Generator(saved_generator("by_id"), binding, 8)(drawn)
    turned = Generator(saved_generator("by_id"), binding, 8)(drawn[::-1])[::-1]
    alone = Generator(saved_generator("by_id"), binding, 1)
    for one, other, inputs in zip(together, turned, drawn, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        difference = np.abs(alone([inputs])[0].pixels.astype(int) - one.pixels)
        assert difference.max() <= 1


def test_an_item_that_is_not_finite_is_known(saved_generator, bound_generator):
    binding = bound_generator("nan_for_2")
    made = Generator(saved_generator("nan_for_2"), binding, 4)(items(binding, 4))
    assert [one.finite for one in made] == [True, True, False, True]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("by_id", {"output__range": None}, "It looks like --output_range=-1,1"),
        ("by_id", {"output__range": "0,1"}, "of them outside --output_range=0,1. It looks like"),
        ("decoder", {"output__range": None}, "It looks like --output_range=0,1"),
    ],
)
def test_a_range_is_asked_for_with_a_proposal(bound_generator, name, fields, message):
    with pytest.raises(ModelError, match=message):
        bound_generator(name, **fields)


def test_a_range_that_was_refused_is_not_proposed_again(bound_generator):
    binding = bound_generator("by_id", output__range="-1,1")
    scores = np.linspace(-2.6, 1.5, 300).reshape(10, 10, 3)
    with pytest.raises(ModelError, match="is it no picture, but scores of classes") as caught:
        complete_picture("m", binding, scores)
    assert "It looks like" not in str(caught.value)


def test_a_share_of_numbers_outside_the_range_is_told(saved_generator, bound_generator):
    binding = dataclasses.replace(bound_generator("by_id"), output_range=(-0.5, 0.5))
    made = Generator(saved_generator("by_id"), binding, 1)(items(binding, 1))[0]
    assert 0.2 < made.clipped < 0.9
    assert made.pixels.min() == 0 and made.pixels.max() == 255


# Pictures of pictures


@pytest.fixture(scope="module")
def enlarger(tmp_path_factory):
    """Twice as large by repetition; takes sides of a multiple of 4 only."""

    def export(channels, bgr_sign=1.0):
        def call(image):
            blocks = tf.nn.space_to_depth(image, 4)
            whole = tf.nn.depth_to_space(blocks, 4)
            return {"out": tf.repeat(tf.repeat(whole, 2, axis=1), 2, axis=2)}

        free = tf.TensorSpec([None, None, None, channels], tf.float32, name="image")
        path = str(tmp_path_factory.mktemp("enlargers") / "m")
        tf.saved_model.save(tf.Module(), path, signatures=tf.function(call, input_signature=[free]))
        return path

    return export


def translator(path, batch_size=1, **fields):
    card = {"output.kind": "image", "output.range": "0,1", "input.range": "0,1"}
    card |= {field.replace("__", "."): value for field, value in fields.items()}
    info = read_model(path)
    return Translator(path, probe(path, bind(info, load_card(None, card))), batch_size)


def twice(image):
    return image.repeat(2, axis=0).repeat(2, axis=1)


def test_sides_of_a_multiple_are_proposed_and_cut_again(enlarger, picture):
    path = enlarger(3)
    with pytest.raises(ModelError, match="give --multiple_of=4"):
        translator(path)
    model = translator(path, input__multiple_of=4)
    for size_hw in ((13, 22), (16, 8), (3, 5)):
        image = picture(*size_hw)
        np.testing.assert_array_equal(model([image])[0].pixels, twice(image))


@pytest.mark.parametrize("fit", ["letterbox", "pad"])
def test_bars_are_cut_off(enlarger, picture, fit):
    model = translator(enlarger(3), input__size=[32, 48], input__fit=fit)
    image = picture(16, 40) if fit == "pad" else picture(32, 20)
    np.testing.assert_array_equal(model([image])[0].pixels, twice(image))


@pytest.mark.parametrize("channels", ["RGB", "Y"])
def test_only_the_middle_is_made_when_it_is_cropped(enlarger, picture, channels):
    fields = {"input__size": [32, 48], "input__channels": channels}
    path = enlarger(1 if channels == "Y" else 3)
    cropping = translator(path, 2, input__fit="crop", **fields)
    images = [picture(32, 100), picture(70, 48)]
    parts = [images[0][:, 26:74], images[1][19:51]]
    for one, part in zip(cropping(images), parts, strict=True):
        expected = translator(path, **fields)([part])[0].pixels if channels == "Y" else twice(part)
        np.testing.assert_array_equal(one.pixels, expected)


def test_pictures_of_several_sizes_in_one_batch(enlarger, picture):
    model = translator(enlarger(3), 4, input__size=[32, 48], input__fit="pad")
    images = [picture(*size) for size in ((32, 48), (20, 30), (20, 30), (8, 8))]
    for one, image in zip(model(images), images, strict=True):
        np.testing.assert_array_equal(one.pixels, twice(image))


def test_bgr_comes_back_as_rgb(enlarger, picture):
    image = picture(8, 12)
    model = translator(enlarger(3), input__channels="BGR", input__multiple_of=4)
    np.testing.assert_array_equal(model([image])[0].pixels, twice(image))


def test_brightness_is_made_and_colours_are_enlarged_beside_it(enlarger, picture):
    image = picture(16, 24)
    model = translator(enlarger(1), input__channels="Y", input__multiple_of=4)
    red, green, blue = (image[:, :, channel].astype(np.float64) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (
        np.asarray(
            Image.fromarray(plane.astype(np.float32)).resize((48, 32), Image.Resampling.BICUBIC)
        )
        for plane in ((blue - luma) / 1.772, (red - luma) / 1.402)
    )
    y = twice(luma)
    expected = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 2)
    found = model([image])[0].pixels
    assert found.shape == (32, 48, 3)
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 1.01  # rounded twice
    grey = translator(enlarger(1), input__channels="Y", output__channels="L", input__multiple_of=4)
    assert grey([image])[0].pixels.ndim == 2


def test_a_range_of_which_only_half_is_used_is_refused(enlarger):
    with pytest.raises(ModelError, match="none in the dark half of --output_range=-1,1"):
        translator(enlarger(3), output__range="-1,1", input__multiple_of=4)
