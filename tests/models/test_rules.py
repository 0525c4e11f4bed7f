"""The rules that bind a signature and a card, on signatures written down by hand."""

import itertools
import pickle
import sys

import pytest

from models.binding import Binding
from models.card import load_card
from models.errors import ModelError
from models.rules import bind
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

FREE = (None, None, None, 3)


def tensor(text, shape=FREE):
    name, dtype = text.split(":")
    return TensorInfo(name, dtype, shape)


IMAGE = tensor("image:float32")
LOGITS = tensor("logits:float32", (None, None, None, 5))
IDS = tensor("ids:int64", (None, None, None))


def signature(inputs=(IMAGE,), outputs=(LOGITS,), name="serving_default"):
    return SignatureInfo(name, tuple(inputs), tuple(outputs))


def model(*signatures):
    return ModelInfo("/models/m", ("serve",), signatures, "2.21.0", 1, "f00d")


def card(**fields):
    """A card with a value range, which most of these models need; a__b is a.b."""
    fields = {"input__range": "0,1"} | fields
    return load_card(None, {name.replace("__", "."): value for name, value in fields.items()})


def refusal(info, card):
    with pytest.raises(ModelError) as caught:
        bind(info, card)
    return str(caught.value)


def test_what_a_plain_model_binds_to():
    binding = bind(model(signature()), card())
    assert binding == Binding(
        signature="serving_default",
        tags=None,
        input_name="image",
        input_dtype="float32",
        input_layout="NHWC",
        channels="RGB",
        value_range=(0.0, 1.0),
        mean=None,
        std=None,
        size_hw=None,
        max_side_px=None,
        fixed_batch=None,
        output_name="logits",
        kind=None,
        output_layout=None,
        threshold=0.5,
        classes=(),
        colors=(),
    )
    assert pickle.loads(pickle.dumps(binding)) == binding
    assert binding.num_classes == 0


def test_what_a_card_says_is_in_the_binding():
    fields = {
        "tags": ["serve", "gpu"],
        "input.mean": [1, 2, 3],
        "input.std": [4, 5, 6],
        "input.channels": "BGR",
        "input.range": "0,255",
        "input.max_side": 513,
        "output.kind": "logits",
        "output.layout": "NCHW",
        "output.threshold": 0.25,
        "classes": ["a", "b"],
        "colors": ["#000000", "#ffffff"],
    }
    binding = bind(model(signature()), load_card(None, fields))
    assert binding.tags == ("serve", "gpu")
    assert (binding.mean, binding.std) == ((1, 2, 3), (4, 5, 6))
    assert (binding.channels, binding.value_range) == ("BGR", (0, 255))
    assert (binding.max_side_px, binding.size_hw) == (513, None)
    assert (binding.kind, binding.output_layout) == ("logits", "NCHW")
    assert binding.threshold == 0.25
    assert (binding.classes, binding.num_classes) == (("a", "b"), 2)
    assert binding.colors == ("#000000", "#ffffff")


def test_the_rules_need_no_tensorflow():
    """They are checked before anything slow is imported; see also test_signatures.py."""
    import subprocess

    code = "import models.rules, sys; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Signatures


def test_the_only_signature_is_taken_whatever_its_name():
    assert bind(model(signature(name="predict")), card()).signature == "predict"


def test_serving_default_is_taken_among_several():
    names = ("serve", "serving_default", "a", "z")
    for order in itertools.permutations(names):
        info = model(*(signature(name=name) for name in order))
        assert bind(info, card()).signature == "serving_default"
        assert bind(info, card(signature="a")).signature == "a"


def test_several_signatures_without_a_default_are_refused():
    message = refusal(model(signature(name="day"), signature(name="night")), card())
    assert "/models/m has several signatures; choose one by --signature" in message
    assert "\n  day(image: float32[N,N,N,3]) -> logits: float32[N,N,N,5]\n  night(" in message


def test_a_signature_that_is_not_there_is_refused():
    message = refusal(model(signature()), card(signature="predict"))
    assert "no signature 'predict'; choose one by --signature" in message
    assert "serving_default(image: float32[N,N,N,3])" in message


def test_a_model_without_signatures_is_refused():
    message = refusal(model(), card())
    assert "has no signature" in message
    assert "tf.saved_model.save(module, path, signatures=function)" in message


# Inputs


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16", "float64", "int32"])
def test_dtypes_that_take_pixels(dtype):
    usual = card() if "float" in dtype else load_card(None, {})
    assert bind(model(signature([tensor(f"x:{dtype}")])), usual).input_dtype == dtype


@pytest.mark.parametrize("field", [{"range": "0,1"}, {"mean": [0.5]}, {"std": [0.2]}])
def test_whole_numbers_cannot_be_scaled(field):
    named = {f"input.{name}": value for name, value in field.items()}
    with pytest.raises(ModelError, match="round away"):
        bind(model(signature([tensor("x:uint8")])), load_card(None, named))


@pytest.mark.parametrize(
    "bad",
    [
        tensor("image_bytes:string", (None, 1)),
        tensor("x:float32", (None, 10)),
        tensor("x:complex64"),
        tensor("x:bool"),
        tensor("x:float32", ()),
        tensor("x:float32", (None, None, None, None, 3)),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_an_input_that_takes_no_pixels_is_refused(bad, named):
    fields = {"input__name": bad.name} if named else {}
    message = refusal(model(signature([bad])), card(**fields))
    assert f"input {bad} cannot take pixels: expected uint8 or float of rank 4" in message
    assert "or strings of rank 1 that hold encoded images" in message
    assert "--signature" in message
    assert f"serving_default({bad})" in message


def test_the_other_signature_of_a_model_is_offered():
    takes_vectors = signature([tensor("x:float32", (None, 10))])
    info = model(takes_vectors, signature(name="pixels"))
    assert "\n  pixels(image: float32" in refusal(info, card())
    assert bind(info, card(signature="pixels")).input_name == "image"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("image_bytes", "bytes"),
        ("encoded_image_string_tensor", "bytes"),
        ("PNG", "bytes"),
        ("b64", "bytes"),
        ("examples", "example"),
        ("input_example_tensor", "example"),
        ("serialized_tf_example", "example"),
    ],
)
@pytest.mark.parametrize("shape", [(None,), None, (), (4,)])
def test_the_role_of_strings_is_told_by_their_name(name, role, shape):
    binding = bind(model(signature([tensor(f"{name}:string", shape)])), card(input__range=None))
    assert (binding.role, binding.input_dtype, binding.channels) == (role, "string", "RGB")
    assert binding.fixed_batch == {(): 1, (4,): 4}.get(shape)
    assert binding.scalar_input == (shape == ())
    assert (binding.value_range, binding.size_hw) == ((0.0, 255.0), None)


@pytest.mark.parametrize("name", ["inputs", "x", "image_example"])
def test_strings_of_an_unclear_name_are_asked_for(name):
    info = model(signature([tensor(f"{name}:string", (None,))]))
    message = refusal(info, card(input__range=None))
    assert "--input_role=bytes for encoded images, or --input_role=example" in message
    asked = card(input__range=None, input__role="example", input__feature="picture")
    assert bind(info, asked).role == "example"
    assert bind(info, asked).feature == "picture"


def test_roles_that_do_not_fit_are_refused():
    strings = model(signature([tensor("image_bytes:string", (None,))]))
    assert "takes strings" in refusal(strings, card(input__role="image", input__range=None))
    assert "takes pixels" in refusal(model(signature()), card(input__role="bytes"))
    message = refusal(strings, card(input__mean=[1.0], input__layout="NHWC"))
    assert "decodes and scales by itself; leave out range, mean, layout" in message


def test_a_multiple_is_for_a_free_size():
    binding = bind(model(signature()), card(input__multiple_of=32, input__max_side=100))
    assert binding.placed((33, 64)).canvas_hw == (64, 64)
    assert binding.placed((400, 100)).canvas_hw == (128, 32)
    fixed = model(signature([tensor("image:float32", (None, 32, 48, 3))]))
    message = refusal(fixed, card(input__multiple_of=32))
    assert "has the fixed size 32x48; leave --multiple_of out" in message


@pytest.mark.parametrize("name", ["mean", "std"])
def test_numbers_by_channel_fit_the_channels_that_were_found(name):
    grey = model(signature([tensor("image:float32", (None, None, None, 1))]))
    message = refusal(grey, card(**{f"input__{name}": [1.0, 2.0, 3.0]}))
    assert f"has 1 channel, but --{name} gives 3 numbers; give one" in message
    assert getattr(bind(grey, card(**{f"input__{name}": [2.0]})), name) == (2.0,)


@pytest.mark.parametrize("named", [{}, {"input__name": "image"}])
def test_a_second_input_is_refused_by_name(named):
    label = tensor("label:int32", (None,))
    for inputs in itertools.permutations([IMAGE, label, tensor("scale:float32", ())]):
        message = refusal(model(signature(inputs)), card(**named))
        assert "also wants" in message
        assert "label" in message.split("also wants")[1]
        assert "scale" in message.split("also wants")[1]
        assert "--set inputs.scale.value=NUMBER" in message


def test_two_inputs_that_could_be_images_are_refused():
    inputs = [tensor("content:float32"), tensor("style:float32")]
    message = refusal(model(signature(inputs)), card())
    assert "2 inputs of signature 'serving_default' could take an image" in message
    assert "--input_name" in message
    assert "serving_default(content: float32[N,N,N,3], style: float32[N,N,N,3])" in message


def test_no_inputs_or_none_of_several_that_takes_pixels():
    assert "takes nothing; choose another by --signature" in refusal(model(signature([])), card())
    inputs = [tensor("key:string", (None,)), tensor("other:string", (None,))]
    assert "0 inputs" in refusal(model(signature(inputs)), card())


def test_encoded_images_are_told_from_a_key_that_is_left_empty():
    plain = load_card(None, {})
    inputs = [tensor("key:string", (None,)), tensor("image_bytes:string", (None,))]
    binding = bind(model(signature(inputs)), plain)
    assert (binding.input_name, binding.role) == ("image_bytes", "bytes")
    (key,) = binding.others
    assert (key.name, key.role, key.value, key.batched) == ("key", "constant", "", True)


def test_rows_of_numbers_beside_a_map_are_no_map():
    """The Model Garden's image_info, the boxes of a detector."""
    plain = load_card(None, {})
    image = [tensor("image:uint8", (None, None, None, 3))]
    logits = tensor("logits:float32", (None, 128, 128, 19))
    info = tensor("image_info:float32", (None, 4, 2))
    boxes = tensor("boxes:float32", (None, 100, 4))
    assert bind(model(signature(image, [info, logits, boxes])), plain).output_name == "logits"
    probability = tensor("p:float32", (None, None, None))
    assert bind(model(signature(image, [info, probability])), plain).output_name == "p"
    assert bind(model(signature(image, [info])), plain).output_name == "image_info"
    assert "2 outputs" in refusal(
        model(signature(image, [logits, probability])), load_card(None, {})
    )


def test_an_input_name_that_is_not_there_is_refused():
    message = refusal(model(signature()), card(input__name="pixels"))
    assert "has no input 'pixels'" in message
    assert "--input_name" in message
    assert "image: float32[N,N,N,3]" in message


def test_an_input_of_unknown_rank_is_taken_at_its_cards_word():
    info = model(signature([tensor("x:float32", None)], [tensor("y:float32", None)]))
    binding = bind(info, card(input__channels="L", input__layout="NCHW", input__size=[8, 9]))
    assert (binding.channels, binding.input_layout, binding.size_hw) == ("L", "NCHW", (8, 9))
    assert binding.fixed_batch is None
    binding = bind(info, card())
    assert (binding.channels, binding.input_layout, binding.size_hw) == ("RGB", "NHWC", None)


# Layout, size, batch, channels


@pytest.mark.parametrize(
    ("shape", "layout", "size_hw", "channels", "batch"),
    [
        ((None, None, None, 3), "NHWC", None, "RGB", None),
        ((1, None, None, 3), "NHWC", None, "RGB", 1),
        ((4, 512, 384, 3), "NHWC", (512, 384), "RGB", 4),
        ((None, 512, 384, None), "NHWC", (512, 384), "RGB", None),
        ((None, None, None, 1), "NHWC", None, "L", None),
        ((None, 3, 512, 384), "NCHW", (512, 384), "RGB", None),
        ((8, 3, None, None), "NCHW", None, "RGB", 8),
        ((None, 1, 28, 28), "NCHW", (28, 28), "L", None),
        ((None, 3, 3, 3), "NHWC", (3, 3), "RGB", None),
        ((None, 3, 5, 3), "NHWC", (3, 5), "RGB", None),
        ((None, 1, None, 3), "NHWC", "one side", "RGB", None),
    ],
)
def test_geometry_is_read_off_the_shape(shape, layout, size_hw, channels, batch):
    info = model(signature([tensor("x:float32", shape)]))
    if size_hw == "one side":
        assert "fixes one side only; give --image_size" in refusal(info, card())
        return
    binding = bind(info, card())
    assert (binding.input_layout, binding.size_hw) == (layout, size_hw)
    assert (binding.channels, binding.fixed_batch) == (channels, batch)


def test_a_free_size_is_fixed_by_the_card():
    assert bind(model(signature()), card(input__size=[512, 256])).size_hw == (512, 256)


def test_the_other_side_is_given_by_the_card():
    info = model(signature([tensor("x:float32", (None, 64, None, 3))]))
    assert bind(info, card(input__size=[64, 100])).size_hw == (64, 100)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((None, 512, 384, 3), [256, 384], "height 512, --image_size asks for 256"),
        ((None, 512, 384, 3), [512, 100], "width 384, --image_size asks for 100"),
        ((None, 3, 512, 384), [384, 512], "height 512, --image_size asks for 384"),
        ((None, 64, None, 3), [65, 100], "height 64, --image_size asks for 65"),
    ],
)
def test_a_size_that_contradicts_the_shape_is_refused(shape, size, expected):
    image = tensor("x:float32", shape)
    message = refusal(model(signature([image])), card(input__size=size))
    assert f"input {image} has {expected}" in message


def test_the_fixed_size_may_be_repeated():
    info = model(signature([tensor("x:float32", (None, 512, 384, 3))]))
    assert bind(info, card(input__size=[512, 384])).size_hw == (512, 384)


@pytest.mark.parametrize(
    ("shape", "fields", "found"),
    [
        ((None, None, None, 4), {}, "4 channels in layout NHWC, expected 3 for RGB"),
        ((None, 64, 64, 3), {"input__layout": "NCHW"}, "64 channels in layout NCHW, expected 3"),
        ((None, None, None, 3), {"input__channels": "L"}, "3 channels in layout NHWC, expected 1"),
    ],
)
def test_channels_that_do_not_fit_are_refused(shape, fields, found):
    image = tensor("x:float32", shape)
    message = refusal(model(signature([image])), card(**fields))
    assert f"input {image} has {found}" in message
    assert "--input_layout or --channels" in message


@pytest.mark.parametrize(
    ("fields", "size_hw", "expected"),
    [
        ({}, (300, 400), (300, 400)),
        ({"input__size": [64, 32]}, (300, 400), (64, 32)),
        ({"input__max_side": 400}, (300, 400), (300, 400)),
        ({"input__max_side": 200}, (300, 400), (150, 200)),
        ({"input__max_side": 200}, (401, 400), (200, 200)),
        ({"input__max_side": 100}, (1, 5000), (1, 100)),
        ({"input__max_side": 513}, (4000, 3000), (513, 385)),
    ],
)
def test_the_size_at_which_the_model_sees_a_picture(fields, size_hw, expected):
    assert bind(model(signature()), card(**fields)).model_size_hw(size_hw) == expected


# Value range


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_floats_need_a_range(dtype):
    info = model(signature([tensor(f"x:{dtype}")]))
    message = refusal(info, load_card(None, {}))
    assert f"input x: {dtype}[N,N,N,3] takes floats" in message
    assert "Give --value_range=0,1 or --value_range=-1,1 or --value_range=0,255" in message


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integers_take_pixels_as_they_are(dtype):
    info = model(signature([tensor(f"x:{dtype}")]))
    assert bind(info, load_card(None, {})).value_range == (0.0, 255.0)


# Outputs


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint16", "int16"])
@pytest.mark.parametrize("shape", [(None, None, None), (None, None, None, 1), None])
def test_integers_are_class_ids(dtype, shape):
    info = model(signature(outputs=[tensor(f"y:{dtype}", shape)]))
    assert bind(info, card()).kind == "class_ids"


def test_scores_are_preferred_to_ids_in_any_order():
    others = [tensor("image_info:float32", (None, 2)), tensor("key:string", (None,))]
    for outputs in itertools.permutations([LOGITS, IDS, *others]):
        binding = bind(model(signature(outputs=outputs)), card())
        assert (binding.output_name, binding.kind) == ("logits", None)


def test_the_card_chooses_the_output_in_any_order():
    for outputs in itertools.permutations([LOGITS, IDS, tensor("aux:float32")]):
        info = model(signature(outputs=outputs))
        binding = bind(info, card(output__name="ids"))
        assert (binding.output_name, binding.kind) == ("ids", "class_ids")
        assert bind(info, card(output__name="aux")).output_name == "aux"


def test_two_outputs_of_scores_are_refused_in_any_order():
    outputs = [LOGITS, tensor("aux:float32"), IDS]
    for order in itertools.permutations(outputs):
        message = refusal(model(signature(outputs=order)), card())
        assert "2 outputs of signature 'serving_default' could be masks" in message
        assert "--output_name" in message
        assert all(str(output) in message for output in outputs)


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [tensor("key:string", (None,))],
        [tensor("scores:float32", (None, 10))],
        [tensor("classes:string", None)],
        [tensor("done:bool", (None, 4))],
    ],
)
def test_no_output_that_could_be_masks(outputs):
    message = refusal(model(signature(outputs=outputs)), card())
    assert "0 outputs of signature 'serving_default' could be masks" in message
    assert "--output_name" in message


@pytest.mark.parametrize(
    "bad",
    [
        tensor("key:string", (None,)),
        tensor("key:string", None),
        tensor("scores:float32", (None, 10)),
        tensor("loss:float32", ()),
        tensor("frames:float32", (None, None, None, None, 3)),
    ],
)
def test_a_chosen_output_that_cannot_be_masks_is_refused(bad):
    message = refusal(model(signature(outputs=[LOGITS, bad])), card(output__name=bad.name))
    assert f"output {bad} cannot be masks: expected floats or integers of rank 3 or 4" in message
    assert "--output_name" in message
    assert str(LOGITS) in message


def test_an_output_name_that_is_not_there_is_refused():
    message = refusal(model(signature()), card(output__name="masks"))
    assert "has no output 'masks'" in message
    assert "--output_name" in message
    assert str(LOGITS) in message


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_integers_are_no_probabilities(kind):
    message = refusal(model(signature(outputs=[IDS])), card(output__kind=kind))
    assert f"output {IDS} holds integers, which are no {kind}" in message
    assert "--output_kind=class_ids" in message


def test_floats_may_be_class_ids_when_the_card_says_so():
    info = model(signature(outputs=[tensor("y:float32", (None, None, None))]))
    assert bind(info, card(output__kind="class_ids")).kind == "class_ids"


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_anything_never_matters(seed):
    import random

    shuffle = random.Random(seed)
    outputs = [LOGITS, IDS, tensor("boxes:float32", (None, 4)), tensor("z:string", (None,))]
    signatures = []
    for name in ("serve", "serving_default", "predict"):
        shuffle.shuffle(outputs)
        signatures.append(signature(outputs=tuple(outputs), name=name))
    shuffle.shuffle(signatures)
    assert bind(model(*signatures), card()) == bind(model(signature()), card())
