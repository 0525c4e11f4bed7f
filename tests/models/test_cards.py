"""The cards that come along fit models of their families' signatures."""

import pytest

from models.card import load_card, shipped_cards
from models.errors import ModelError
from models.rules import bind
from models.signatures import ModelInfo, SignatureInfo, TensorInfo

N = None
# card -> signature name, inputs, outputs, as the families' documentation and source give them
FAMILIES = {
    "deeplab_tf1": (
        "serving_default",
        [("ImageTensor", "uint8", (1, N, N, 3))],
        [("SemanticPredictions", "int64", (1, N, N))],
    ),
    "deeplab_tf1_voc": (
        "serving_default",
        [("ImageTensor", "uint8", (1, N, N, 3))],
        [
            ("SemanticPredictions", "int32", (1, N, N)),
            ("SemanticProbabilities", "float32", (1, N, N, 21)),
        ],
    ),
    "hrnet_tfhub": (
        "predict",
        [("images", "float32", (N, N, N, 3))],
        [("output_0", "float32", (N, N, N, 20))],
    ),
    "model_garden_segmentation": (
        "serving_default",
        [("inputs", "uint8", (N, N, N, 3))],
        [("logits", "float32", (N, 128, 128, 19)), ("image_info", "float32", (N, 4, 2))],
    ),
    "pp_humanseg_onnx2tf": (
        "__call__",
        [("x", "float32", (1, 192, 192, 3))],
        [("output_0", "float32", (1, 2, 192, 192))],
    ),
    "progan_tfhub": (
        "default",
        [("latent_vector", "float32", (N, 512))],
        [("default", "float32", (N, 128, 128, 3))],
    ),
    "biggan_tfhub": (
        "default",
        [("z", "float32", (N, 120)), ("y", "float32", (N, 1000)), ("truncation", "float32", ())],
        [("default", "float32", (N, 128, 128, 3))],
    ),
    "esrgan_tfhub": (
        "serving_default",
        [("input_0", "float32", (N, N, N, 3))],
        [("output_0", "float32", (N, N, N, 3))],
    ),
    "srgan": (
        "serving_default",
        [("input_1", "float32", (N, N, N, 3))],
        [("model_2", "float32", (N, N, N, 3))],
    ),
    "fsrcnn": (
        "serving_default",
        [("x", "float32", None)],
        [("NCHW_output", "float32", (N, 1, N, N))],
    ),
    "keras3_segmenter": (
        "serving_default",
        [("keras_tensor_7", "float32", (N, N, N, 3))],
        [("output_0", "float32", (N, N, N, 5))],
    ),
    "keras3_generator": (
        "serving_default",
        [("keras_tensor", "float32", (N, 100))],
        [("output_0", "float32", (N, 28, 28, 1))],
    ),
}


def family(name):
    signature, inputs, outputs = FAMILIES[name]
    tensors = [tuple(TensorInfo(*t) for t in sorted(side)) for side in (inputs, outputs)]
    return ModelInfo("/models/m", ("serve",), (SignatureInfo(signature, *tensors),), "2", 1, "f")


def test_every_card_has_a_family_and_a_line_about_it():
    cards = shipped_cards()
    assert cards.keys() == FAMILIES.keys()
    for about in cards.values():
        assert 20 < len(about) < 100


@pytest.mark.parametrize("name", FAMILIES)
def test_a_card_binds_its_family_without_a_question(name):
    binding = bind(family(name), load_card(name, {}))
    _, inputs, _ = FAMILIES[name]
    bound = {binding.input_name, *(other.name for other in binding.others)} - {""}
    assert bound == {n for n, _, _ in inputs}
    if binding.makes_picture:
        assert binding.output_range is not None


def test_what_the_cards_say():
    def bound(name):
        return bind(family(name), load_card(name, {}))

    assert bound("hrnet_tfhub").id_offset == -1
    assert bound("fsrcnn").channels == "Y"
    assert bound("deeplab_tf1_voc").output_name == "SemanticPredictions"
    assert len(bound("deeplab_tf1_voc").classes) == 21
    biggan = {other.name: other for other in bound("biggan_tfhub").others}
    assert (biggan["z"].distribution, biggan["z"].shape) == ("truncated_normal", (120,))
    assert (biggan["y"].encoding, biggan["y"].labels) == ("one_hot", 1000)
    assert (biggan["truncation"].value, biggan["truncation"].batched) == (0.5, False)


def test_flags_override_a_card_that_comes_along():
    card = load_card("biggan_tfhub", {"inputs.truncation.value": 0.9, "output.range": "0,1"})
    assert card.inputs["truncation"].value == 0.9
    assert card.inputs["z"].distribution == "truncated_normal"
    assert card.output.range == "0,1"


def test_another_name_is_a_file():
    with pytest.raises(ModelError, match="cannot read model card biggan"):
        load_card("biggan", {})
