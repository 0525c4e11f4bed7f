"""Inputs that take no picture: told by name, dtype and shape, or asked for."""

import itertools

import pytest

from models.card import load_card
from models.errors import ModelError
from models.rules import bind
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

N = None
PICTURE = TensorInfo("image", "float32", (N, 28, 28, 1))
Z = TensorInfo("z", "float32", (N, 100))


def model(*inputs):
    signature = SignatureInfo("serving_default", tuple(inputs), (PICTURE,))
    return ModelInfo("/models/m", ("serve",), (signature,), "2.21", 1, "f")


def others(inputs, **fields):
    card = {name.replace("__", "."): value for name, value in fields.items()}
    binding = bind(model(*inputs), load_card(None, {"output.kind": "image"} | card))
    return {other.name: other for other in binding.others}


def refusal(inputs, **fields):
    with pytest.raises(ModelError) as caught:
        others(inputs, **fields)
    return str(caught.value)


@pytest.mark.parametrize("name", ["z", "noise", "latent_vector", "keras_tensor_12", "whatever"])
def test_the_only_input_of_floats_is_noise(name):
    found = others([TensorInfo(name, "float32", (N, 100))])
    assert (found[name].role, found[name].shape, found[name].batched) == ("latent", (100,), True)


@pytest.mark.parametrize(
    "label", [TensorInfo("label", "int32", (N, 1)), TensorInfo("input_7", "int64", (N,))]
)
def test_noise_and_a_label_in_any_order(label):
    for inputs in itertools.permutations([TensorInfo("noise", "float32", (N, 128)), label]):
        found = others(inputs, classes=["a", "b", "c"])
        assert found["noise"].role == "latent"
        assert (found[label.name].role, found[label.name].encoding) == ("label", "id")
        assert found[label.name].labels == 3
        assert found[label.name].shape == label.shape[1:]


def test_a_wide_label_of_floats_is_one_hot_and_tells_how_many():
    found = others([Z, TensorInfo("y", "float32", (N, 1000))])
    assert (found["y"].encoding, found["y"].labels) == ("one_hot", 1000)


def test_a_text_is_a_constant_of_strings_only():
    style = TensorInfo("style", "string", ())
    assert "style.value=TEXT" in refusal([Z, style])
    assert others([Z, style], inputs__style__value="oil")["style"].value == "oil"
    for value in (1.0, [1.0]):
        assert "give --set inputs.style.value=TEXT" in refusal(
            [Z, style], inputs__style__value=value
        )
    truncation = TensorInfo("truncation", "float32", ())
    assert "value=NUMBER" in refusal([Z, truncation], inputs__truncation__value="half")


def test_a_flag_for_training_is_off():
    found = others([Z, TensorInfo("is_training", "bool", ())])
    assert (found["is_training"].role, found["is_training"].value) == ("constant", False)


@pytest.mark.parametrize(
    ("tensor", "value", "shape", "batched"),
    [
        (TensorInfo("truncation", "float32", ()), 0.5, (), False),
        (TensorInfo("strength", "float32", (N,)), 0.5, (), True),
        (TensorInfo("style", "float32", (N, 3)), [1.0, 2.0, 3.0], (3,), True),
        (TensorInfo("style", "float32", (N, 3)), 1.0, (3,), True),
        (TensorInfo("any", "float32", (N, N)), [1.0, 2.0], (2,), True),
    ],
)
def test_a_constant_is_a_number_or_numbers(tensor, value, shape, batched):
    found = others([Z, tensor], **{f"inputs__{tensor.name}__value": value})[tensor.name]
    assert (found.role, found.shape, found.batched) == ("constant", shape, batched)
    assert found.value == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("inputs", "fields", "parts"),
    [
        (
            [Z, TensorInfo("truncation", "float32", ())],
            {},
            ["also wants truncation: float32[]", "--set inputs.truncation.value=NUMBER"],
        ),
        (
            [TensorInfo("a", "float32", (N, 8)), TensorInfo("b", "float32", (N, 8))],
            {},
            ["also wants a: float32[N,8]", "--set inputs.a.role=latent"],
        ),
        (
            [Z, TensorInfo("label", "int32", (N,))],
            {},
            ["does not say how many", "--classes=NAME", "--set inputs.label.classes=NUMBER"],
        ),
        (
            [Z, TensorInfo("y", "float32", (N, 10))],
            {"classes": ["a", "b"]},
            ["10 by its shape", "2 by the names of classes"],
        ),
        ([TensorInfo("z", "float32", (N, N))], {}, ["how many", "--set inputs.z.size=[128]"]),
        ([Z], {"inputs__z__size": [99]}, ["does not take items of the size [99]"]),
        ([Z], {"inputs__zz__role": "latent"}, ["has no input 'zz'"]),
        (
            [Z, TensorInfo("s", "float32", (N, 3))],
            {"inputs__s__value": [1.0, 2.0]},
            ["takes items of [3], the value has [2]"],
        ),
        (
            [Z, TensorInfo("s", "float32", (N, 3))],
            {"inputs__s__value": [[1.0], [2.0, 3.0]]},
            ["does not take"],
        ),
        (
            [Z, TensorInfo("t", "float32", ())],
            {"inputs__t__role": "latent"},
            ["takes one number, which is no latent"],
        ),
        (
            [Z, TensorInfo("y", "int32", (N, 5))],
            {"inputs__y__role": "label", "classes": ["a", "b"]},
            ["takes no single id; give encoding: one_hot"],
        ),
    ],
)
def test_what_cannot_be_told_is_asked_for(inputs, fields, parts):
    message = refusal(inputs, **fields)
    assert all(part in message for part in parts), message


def test_a_model_of_pictures_takes_constants_beside():
    image = TensorInfo("image", "float32", (N, N, N, 3))
    scale = TensorInfo("scale", "float32", ())
    found = others([image, scale], input__range="0,1", inputs__scale__value=2)
    assert found["scale"].value == 2
    assert "besides pictures" in refusal([image, scale], input__range="0,1")
