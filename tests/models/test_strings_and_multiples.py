"""Models that take encoded images or tf.Examples, and models whose sides must be multiples."""

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that
from tfx_bsl.public.beam import RunInference
from tfx_bsl.public.proto import model_spec_pb2

from models.loading import import_tensorflow
from models.segmenter import Segmenter

STRINGS = {"input__range": None}
NAMES = ["bytes", "examples", "one_string"]


# Strings


@pytest.mark.parametrize("name", NAMES)
def test_pictures_that_are_encoded_give_the_masks_of_their_pixels(saved, bound, picture, name):
    """PNG loses nothing, so these are the masks of the model that takes pixels; also padded."""
    pictures = [picture(40, 56, seed) for seed in range(3)]
    expected = Segmenter(saved("logits"), bound("logits"), 4)(pictures)
    segmenter = Segmenter(saved(name), bound(name, **STRINGS), 4)
    for index in range(0, 3, segmenter.batch_size):
        part = segmenter(pictures[index : index + segmenter.batch_size])
        for answer, other in zip(part, expected[index:], strict=False):
            np.testing.assert_array_equal(answer.mask, other.mask)
            np.testing.assert_array_equal(answer.class_pixels, other.class_pixels)


@pytest.mark.parametrize(
    ("card", "size_hw"),
    [
        ({"input__size": [32, 48]}, (32, 48)),
        ({"input__max_side": 28}, (20, 28)),
        ({"input__multiple_of": 32}, (64, 64)),
    ],
)
def test_pictures_are_resized_and_padded_before_they_are_encoded(
    saved, bound, picture, card, size_hw
):
    tf = import_tensorflow()
    segmenter = Segmenter(saved("bytes"), bound("bytes", **STRINGS, **card))
    (data,) = segmenter.prepare(picture(40, 56)[np.newaxis]).numpy()
    assert data.startswith(b"\x89PNG")
    assert tf.io.decode_png(data).shape == (*size_hw, 3)
    assert segmenter([picture(40, 56)])[0].mask.shape == (40, 56)


def test_grey_is_encoded_as_grey(saved, bound, picture):
    tf = import_tensorflow()
    segmenter = Segmenter(saved("bytes"), bound("bytes", **STRINGS, input__channels="L"))
    (data,) = segmenter.prepare(picture(8, 8)[np.newaxis]).numpy()
    assert tf.io.decode_png(data).shape == (8, 8, 1)


@pytest.mark.parametrize(
    ("feature", "beside"), [("image/encoded", "image/format"), ("png", "image/format")]
)
def test_an_example_holds_the_picture_and_its_format(saved, bound, picture, feature, beside):
    import dataclasses

    tf = import_tensorflow()
    binding = dataclasses.replace(bound("examples", **STRINGS), feature=feature)
    (data,) = Segmenter(saved("examples"), binding).prepare(picture(8, 9)[np.newaxis]).numpy()
    features = tf.train.Example.FromString(data).features.feature
    assert sorted(features) == sorted([feature, beside])
    assert features[beside].bytes_list.value[0] == b"png"
    np.testing.assert_array_equal(
        tf.io.decode_png(features[feature].bytes_list.value[0]), picture(8, 9)
    )


def test_scores_are_those_of_run_inference(saved, bound, picture):
    """The oracle: tfx-bsl's own RunInference on the same serialized examples."""
    segmenter = Segmenter(saved("examples"), bound("examples", **STRINGS), 3)
    pictures = [picture(24, 32, seed) for seed in range(3)]
    examples = segmenter.prepare(np.stack(pictures))
    ours = segmenter.scores(examples).numpy()
    spec = model_spec_pb2.InferenceSpecType(
        saved_model_spec=model_spec_pb2.SavedModelSpec(model_path=saved("examples"))
    )
    tf = import_tensorflow()

    def encoded(example):  # Beam serializes again, with the features in any order
        features = tf.train.Example.FromString(example).features.feature
        return features["image/encoded"].bytes_list.value[0]

    def same(logs):
        found = {}
        for log in logs:
            request = log.predict_log.request.inputs["examples"].string_val[0]
            found[encoded(request)] = tf.make_ndarray(log.predict_log.response.outputs["out"])
        assert len(found) == 3
        for example, scores in zip(examples.numpy(), ours, strict=True):
            expected = found[encoded(example)].reshape(scores.shape)
            np.testing.assert_allclose(scores, expected, atol=1e-5)

    with beam.Pipeline("FnApiRunner") as pipeline:
        parsed = [tf.train.Example.FromString(data) for data in examples.numpy()]
        logs = pipeline | beam.Create(parsed) | RunInference(spec)
        assert_that(logs, same)


# Multiples


def test_a_model_that_wants_multiples_is_run_on_any_size(saved, bound, picture):
    binding = bound("unet", input__multiple_of=4)
    segmenter = Segmenter(saved("unet"), binding, 2)
    tf = import_tensorflow()
    function = tf.saved_model.load(saved("unet")).signatures["serving_default"]
    for height, width in ((40, 56), (41, 57), (43, 55), (5, 3), (1, 1)):
        image = picture(height, width)
        pad_hw = (-height % 4, -width % 4)
        mirrored = np.pad(image, ((0, pad_hw[0]), (0, pad_hw[1]), (0, 0)), "symmetric")
        scores = function(tf.constant(mirrored[np.newaxis] / np.float32(255)))["out"]
        expected = np.argmax(scores[0], -1)[:height, :width]
        np.testing.assert_array_equal(segmenter([image])[0].mask, expected)


def test_pictures_of_several_sizes_share_a_multiple_after_shrinking(saved, bound, picture):
    binding = bound("unet", input__multiple_of=8, input__max_side=30)
    (answer,) = Segmenter(saved("unet"), binding)([picture(40, 61)])
    assert answer.mask.shape == (40, 61)
    assert answer.class_pixels.sum() == 40 * 61


@pytest.mark.parametrize("name", ["stride4", "int32_stride4"])
def test_what_is_cut_off_is_the_padding_at_every_stride(saved, bound, picture, name):
    """At a multiple of 1 nothing is padded: where nothing need be, nothing changes."""
    image = picture(64, 96)
    with_multiple = Segmenter(saved(name), bound(name, input__multiple_of=32))([image])
    without = Segmenter(saved(name), bound(name))([image])
    np.testing.assert_array_equal(with_multiple[0].mask, without[0].mask)


def test_a_padded_mask_lies_where_its_picture_lies(saved, bound, picture):
    """Scores at a quarter of the size: the mask is that of the same picture, whatever follows."""
    large, small = picture(64, 96), picture(64, 96)[:50, :70]
    name = "stride4"
    whole = Segmenter(saved(name), bound(name))([large])[0].mask[:40, :60]
    part = Segmenter(saved(name), bound(name, input__multiple_of=32))([small])[0].mask[:40, :60]
    np.testing.assert_array_equal(part, whole)


def test_a_mask_of_truths_is_two_classes(saved, bound, picture):
    binding = bound("bool")
    assert (binding.kind, binding.classes) == ("class_ids", ("class 0", "class 1"))
    (answer,) = Segmenter(saved("bool"), binding)([picture(40, 56)])
    assert answer.class_pixels.tolist() == [int((answer.mask == i).sum()) for i in (0, 1)]
    assert set(np.unique(answer.mask)) == {0, 1}
