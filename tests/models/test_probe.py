"""What one picture tells of a model: layout, kind and classes, or why it is no segmenter."""

import dataclasses

import numpy as np
import pytest

from models import probe as probing
from models.card import load_card
from models.errors import ModelError
from models.probe import probe
from models.rules import UNNAMED_CLASSES, bind
from models.signatures import read_model

PROBED = [
    # recipe, card, layout, kind, number of classes
    ("logits", {}, "NHWC", "logits", 3),
    ("fixed", {}, "NHWC", "logits", 3),
    ("fixed_square", {}, "NHWC", "logits", 3),
    ("one_side", {"input__size": [32, 40]}, "NHWC", "logits", 3),
    ("batch1", {}, "NHWC", "logits", 3),
    ("batch4", {}, "NHWC", "logits", 3),
    ("uint8", {}, "NHWC", "logits", 3),
    ("uint8_fixed", {}, "NHWC", "logits", 3),
    ("grey", {}, "NHWC", "logits", 3),
    ("nchw_out", {}, "NCHW", "logits", 3),
    ("nchw", {}, "NCHW", "logits", 3),
    ("nchw_free", {"input__layout": "NCHW", "input__channels": "RGB"}, "NCHW", "logits", 3),
    ("stride4", {}, "NHWC", "logits", 3),
    ("stride4_nchw", {}, "NCHW", "logits", 3),
    # Numbers of classes that look like the side of a picture of 128x192
    ("stride16_21", {}, "NHWC", "logits", 21),
    ("stride16_21_nchw", {}, "NCHW", "logits", 21),
    ("classes300", {}, "NHWC", "logits", 300),
    ("classes288", {}, "NHWC", "logits", 288),
    ("classes72_stride4", {}, "NHWC", "logits", 72),
    ("softmax", {}, "NHWC", "softmax", 3),
    ("sigmoid", {}, "NHWC", "sigmoid", 2),
    ("sigmoid_rank3", {}, "NHWC", "sigmoid", 2),
    ("sigmoid_rank3", {"output__layout": "NCHW"}, "NCHW", "sigmoid", 2),
    ("logit", {}, "NHWC", "logits", 2),
    ("int32", {}, "NHWC", "class_ids", UNNAMED_CLASSES),
    ("int64", {}, "NHWC", "class_ids", UNNAMED_CLASSES),
    ("int32_stride4", {}, "NHWC", "class_ids", UNNAMED_CLASSES),
    ("float_ids", {"output__kind": "class_ids"}, "NHWC", "class_ids", UNNAMED_CLASSES),
    ("ids_and_scores", {}, "NHWC", "softmax", 3),
    ("ids_and_scores", {"output__name": "ids"}, "NHWC", "class_ids", UNNAMED_CLASSES),
    ("two_scores", {"output__name": "logits"}, "NHWC", "logits", 3),
    ("two_scores", {"output__name": "probabilities"}, "NHWC", "softmax", 3),
    ("scores_and_vector", {}, "NHWC", "logits", 3),
    ("unknown_rank", {}, "NHWC", "logits", 3),
    ("keras3", {}, "NHWC", "logits", 3),
    ("several_with_default", {}, "NHWC", "logits", 3),
    ("nan_if_black", {}, "NHWC", "logits", 3),
    ("drop_if_many", {}, "NHWC", "logits", 3),
    ("labels", {"output__kind": "logits"}, "NHWC", "logits", 3),
    ("labels", {"output__kind": "softmax"}, "NHWC", "softmax", 3),
    ("colours", {"output__kind": "logits"}, "NHWC", "logits", 3),
    ("classes64_square", {"output__layout": "NHWC"}, "NHWC", "logits", 64),
]


@pytest.mark.parametrize("probed", PROBED, ids=lambda probed: probed[0])
def test_layout_kind_and_classes_are_found(bound, probed):
    name, card, layout, kind, classes = probed
    binding = bound(name, **card)
    assert (binding.output_layout, binding.kind) == (layout, kind)
    assert binding.classes == tuple(f"class {i}" for i in range(classes))


def test_probing_fills_in_and_changes_nothing_else(saved):
    path = saved("nchw_out")
    binding = bind(read_model(path), load_card(None, {"input.range": "0,1"}))
    filled = {
        "kind": "logits",
        "output_layout": "NCHW",
        "classes": ("class 0", "class 1", "class 2"),
    }
    assert probe(path, binding) == dataclasses.replace(binding, **filled)


def test_probing_twice_says_the_same(saved, bound):
    assert probe(saved("softmax"), bound("softmax")) == bound("softmax")


def test_names_are_kept(bound):
    names = ["sky", "road", "car"]
    assert bound("logits", classes=names).classes == tuple(names)
    assert bound("int32", classes=names).classes == tuple(names)
    assert bound("logit", classes=["no", "yes"]).classes == ("no", "yes")


def refused(bound, name, **card):
    with pytest.raises(ModelError) as caught:
        bound(name, **card)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "count"), [("logits", 3), ("classes300", 300), ("sigmoid", 2), ("nchw_out", 3)]
)
def test_a_wrong_number_of_names_is_refused(bound, saved, name, count):
    message = refused(bound, name, classes=["a", "b", "c", "d"])
    assert message.startswith(f"{saved(name)} answers {count} classes, but 4 names were given")
    assert "a, b, c, d" in message
    assert "--classes" in message


@pytest.mark.parametrize(
    ("name", "card", "expected"),
    [
        ("labels", {}, "3 values in [0, 1] a pixel that do not sum to 1"),
        ("labels", {}, "--output_kind=logits or --output_kind=softmax"),
        ("classes64_square", {}, "[64, 64, 64] for a picture of 64x64; which axis holds"),
        ("classes64_square", {}, "--output_layout=NHWC or NCHW"),
        ("nan", {}, "NaN or infinity for a test picture; check --value_range"),
        ("colours", {}, "answers 3 integers a pixel, expected one class id"),
        ("colours", {}, "--output_name"),
        ("drop", {}, "answered 0 rows for a batch of 1"),
        ("raise", {}, "fails on a picture of 128x192: "),
        ("raise", {}, "Check --value_range, --channels, --input_layout and --image_size"),
        # refused before anything is run, but the same models
        ("two_scores", {}, "--output_name"),
        ("vector", {}, "0 outputs"),
        ("scalar", {}, "0 outputs"),
        ("two_inputs", {}, "also wants label"),
        ("bytes", {}, "decodes and scales by itself; leave out range"),
        ("labels", {"output__kind": "sigmoid"}, "expected one for --output_kind=sigmoid"),
        ("int32", {"output__kind": "logits"}, "is a class id and no logits"),
        ("unet", {}, "takes a picture of 128x192 but fails on one of 131x197: "),
        ("unet", {}, "must be multiples of 4: give --multiple_of=4"),
        ("no_signature", {}, "has no signature"),
        ("several_signatures", {}, "--signature"),
        ("logits", {"input__range": None}, "--value_range"),
        ("one_side", {}, "--image_size"),
    ],
)
def test_what_cannot_be_a_segmenter_is_told_so(bound, saved, name, card, expected):
    message = refused(bound, name, **card)
    assert expected in message
    assert saved(name) in message or "input image" in message


@pytest.mark.parametrize("name", ["raise", "drop", "nan", "labels", "colours", "classes64_square"])
def test_a_model_that_fails_on_the_probe_gives_one_clear_line(bound, name):
    message = refused(bound, name)
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 700


def test_the_wrong_size_is_told_by_the_model_itself(bound):
    """A card may ask a free signature for a size that its graph does not bear."""
    message = refused(bound, "unknown_rank", input__layout="NCHW", input__size=[3, 3])
    assert "which axis holds the classes is unclear" in message


def test_a_lost_model_is_refused(bound, tmp_path):
    with pytest.raises(ModelError, match="cannot load"):
        probe(str(tmp_path / "gone"), bound("logits"))


# The rules beneath, on shapes alone

LAYOUTS = [
    # answer for one picture, size of the picture, layout
    ([128, 192, 2], (128, 192), "NHWC"),
    ([2, 128, 192], (128, 192), "NCHW"),
    ([33, 49, 21], (129, 193), "NHWC"),
    ([21, 33, 49], (129, 193), "NCHW"),
    ([8, 12, 19], (128, 192), "NHWC"),
    ([19, 8, 12], (128, 192), "NCHW"),
    ([8, 12, 8], (128, 192), "NHWC"),
    ([4, 6, 9], (128, 192), "NHWC"),
    ([4, 6, 150], (128, 192), "NHWC"),
    ([150, 32, 48], (128, 192), "NCHW"),
    ([256, 384, 2], (128, 192), "NHWC"),
    ([2, 256, 384], (128, 192), "NCHW"),
    ([124, 188, 2], (128, 192), "NHWC"),
    ([1, 128, 192], (128, 192), "NCHW"),
    ([128, 192, 1], (128, 192), "NHWC"),
    ([513, 513, 21], (513, 513), "NHWC"),
    ([21, 65, 65], (513, 513), "NCHW"),
    ([65, 65, 66], (513, 513), "NHWC"),
    ([66, 65, 65], (513, 513), "NCHW"),
    ([4, 4, 2], (64, 64), "NHWC"),
    ([2, 4, 4], (64, 64), "NCHW"),
    ([4, 4, 5], (64, 64), "NHWC"),
    ([388, 388, 2], (572, 572), "NHWC"),
    ([9, 17, 3], (65, 129), "NHWC"),
    ([128, 128, 19], (128, 192), "NHWC"),  # resized to one square, as by the Model Garden
    ([19, 128, 128], (128, 192), "NCHW"),
]


@pytest.mark.parametrize(("shape", "size_hw", "layout"), LAYOUTS)
def test_the_layout_is_read_off_the_shape(shape, size_hw, layout):
    assert probing._find_layout(np.zeros(shape), size_hw, "m") == layout


@pytest.mark.parametrize(
    ("shape", "size_hw"),
    [
        ([64, 64, 64], (64, 64)),
        ([7, 10, 15], (100, 150)),  # both 7x10 and 10x15 may be 100x150 at a stride
        ([1, 1, 10], (128, 192)),
        ([100, 7, 3], (128, 192)),
    ],
)
def test_an_unclear_layout_is_asked_for(shape, size_hw):
    with pytest.raises(ModelError, match="Give --output_layout=NHWC or NCHW"):
        probing._find_layout(np.zeros(shape), size_hw, "m")


@pytest.mark.parametrize("classes", [2, 3, 19, 21, 72, 150, 288, 300])
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
def test_the_layout_at_usual_strides(classes, stride):
    rows, columns = 128 // stride, 192 // stride
    for layout, shape in (
        ("NHWC", [rows, columns, classes]),
        ("NCHW", [classes, rows, columns]),
    ):
        assert probing._find_layout(np.zeros(shape), (128, 192), "m") == layout


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[-3.0, 4.0]], "logits"),
        ([[0.25, 0.75], [1.0, 0.0]], "softmax"),
        ([[0.25, 0.751]], "softmax"),  # half floats
        ([[0.2], [0.9]], "sigmoid"),
        ([[-0.2], [0.9]], "logits"),
        ([[0.0, 0.0], [3.0, 1.0]], "logits"),
    ],
)
def test_the_kind_is_read_off_the_values(values, kind):
    assert probing._find_kind(np.array(values)[np.newaxis], "m") == kind


def test_the_test_picture_is_fixed_and_has_every_value():
    image = probing._test_picture((128, 192))
    assert (image.shape, image.dtype) == ((128, 192, 3), np.uint8)
    assert len(np.unique(image)) == 256
    np.testing.assert_array_equal(image, probing._test_picture((128, 192)))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "card", "layout", "kind"),
    [
        ("deeplab_portrait_tf1", {"input.max_side": 513}, "NHWC", "softmax"),
        ("deeplab_nchw_tf1", {"input.range": "-1,1"}, "NCHW", "logits"),
    ],
)
def test_third_party_segmenters(real_data, name, card, layout, kind):
    path = str(real_data / "saved_models" / name)
    binding = probe(path, bind(read_model(path), load_card(None, card)))
    assert (binding.output_layout, binding.kind, binding.num_classes) == (layout, kind, 2)
    assert binding.fixed_batch == 1


@pytest.mark.real_data
def test_the_ids_of_a_third_party_segmenter(real_data):
    path = str(real_data / "saved_models" / "deeplab_portrait_tf1")
    card = load_card(None, {"output.name": "SemanticPredictions", "input.max_side": 513})
    binding = probe(path, bind(read_model(path), card))
    assert (binding.kind, binding.output_layout) == ("class_ids", "NHWC")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "card", "expected"),
    [
        ("tfx_keras_tfexample", {}, "0 outputs of signature"),
        ("basic_pitch_three_outputs", {}, "input input_2: float32[N,43844,1] cannot take pixels"),
        ("tf_serving_testdata/matrix_half_plus_two/1", {}, "cannot take pixels"),
        ("tf_serving_testdata/saved_model_counter/00000123", {}, "--signature"),
        ("tf_serving_testdata/saved_model_half_plus_two_cpu/00000123", {}, "cannot take pixels"),
        ("fsrcnn_x2_tf1", {}, "fails on a picture of 128x192"),  # wants one channel
        ("tfx_taxi_eval_tag_only", {}, "0 outputs of signature"),
    ],
)
def test_third_party_models_that_are_no_segmenters(real_data, name, card, expected):
    path = str(real_data / "saved_models" / name)
    with pytest.raises(ModelError) as caught:
        probe(path, bind(read_model(path), load_card(None, {"input.range": "0,1"} | card)))
    assert expected in str(caught.value)
