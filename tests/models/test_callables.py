"""Models without a signature, with odd tags, in versions, and of TF1: run all the same."""

import dataclasses
import pickle
import shutil

import numpy as np
import pytest

from models.card import load_card
from models.errors import ModelError
from models.loading import import_tensorflow, is_tf1, load_signature
from models.probe import probe
from models.rules import bind
from models.segmenter import Segmenter
from models.signatures import read_model

UNIT = {"input.range": "0,1"}


def masks(saved, bound, name, pictures, **card):
    return [a.mask for a in Segmenter(saved(name), bound(name, **card), 4)(pictures)]


# Without a signature


def test_a_function_stands_in_for_the_signature(saved):
    (only,) = read_model(saved("onnx2tf")).signatures
    assert str(only) == "__call__(input: float32[1,32,48,3]) -> output_0: float32[1,3,32,48]"
    assert only.call == "positional"


def test_the_trace_that_takes_most_stands_for_a_function(saved):
    """Not the one in training, nor the one of a single size; in whatever order they are stored."""
    called, ids = read_model(saved("called_object")).signatures
    assert str(called) == "__call__(image: float32[N,N,N,3]) -> output_0: float32[N,N,N,3]"
    assert str(ids) == "ids(image: float32[N,N,N,3]) -> ids: int64[N,N,N]"
    assert (called.call, ids.call) == ("positional", "keyword")


def test_functions_are_not_offered_beside_signatures(saved):
    assert [s.name for s in read_model(saved("keras2_with_optimizer")).signatures] == [
        "serving_default"
    ]


def test_a_model_as_onnx2tf_writes_it_is_run(saved, bound, picture):
    binding = bound("onnx2tf")
    assert (binding.signature, binding.call, binding.fixed_batch) == ("__call__", "positional", 1)
    assert (binding.output_layout, binding.kind, binding.num_classes) == ("NCHW", "softmax", 3)
    image = picture(32, 48)
    tf = import_tensorflow()
    scores = tf.saved_model.load(saved("onnx2tf"))(tf.constant(image[np.newaxis] / 255, "float32"))
    expected = np.argmax(scores.numpy()[0], axis=0)
    (mask,) = masks(saved, bound, "onnx2tf", [image])
    np.testing.assert_array_equal(mask, expected)


def test_an_object_and_its_functions_can_be_called(saved, bound, picture):
    pictures = [picture(32, 48), picture(32, 48, 1)]
    assert bound("called_object").kind == "logits", "not in training, where it is softmax"
    scores = masks(saved, bound, "called_object", pictures)
    ids = masks(saved, bound, "called_object", pictures, signature="ids")
    signed = masks(saved, bound, "logits", pictures)
    np.testing.assert_array_equal(scores, signed)
    np.testing.assert_array_equal(ids, signed)


def test_a_flag_that_has_no_default_is_given_as_it_was_traced(saved, bound, picture):
    binding = bound("flag_without_default")
    assert (binding.trailing, binding.kind) == ((False,), "logits")
    image = picture(32, 48)
    np.testing.assert_array_equal(
        masks(saved, bound, "flag_without_default", [image]), masks(saved, bound, "logits", [image])
    )


def test_a_binding_of_a_function_is_plain_data(bound):
    binding = bound("onnx2tf")
    assert pickle.loads(pickle.dumps(binding)) == binding
    assert dataclasses.asdict(binding)["call"] == "positional"


def test_a_function_that_is_gone(saved, bound):
    binding = dataclasses.replace(bound("called_object"), signature="gone")
    with pytest.raises(ModelError, match="function 'gone' was lost"):
        load_signature(saved("called_object"), binding)


def test_a_model_with_nothing_to_call_is_refused(saved):
    info = read_model(saved("no_signature"))
    assert info.signatures == ()
    with pytest.raises(ModelError, match="no function that takes tensors"):
        bind(info, load_card(None, UNIT))


# Tags


@pytest.mark.parametrize(
    ("name", "tags"), [("eval_only", ("eval",)), ("no_tag", ()), ("serve_and_gpu", ("serve",))]
)
def test_the_graph_is_found_by_itself(saved, bound, picture, name, tags):
    """The only one, whatever its tags; among several the one that is tagged for serving."""
    assert read_model(saved(name)).tags == tags
    image = picture(32, 48)
    np.testing.assert_array_equal(
        masks(saved, bound, name, [image]), masks(saved, bound, "logits", [image])
    )


def test_a_graph_is_chosen_by_its_tags_in_any_order(saved, bound):
    info = read_model(saved("serve_and_gpu"), ["serve", "gpu"])
    assert info.tags == ("gpu", "serve")
    assert bind(info, load_card(None, UNIT)).tags == ("gpu", "serve")
    assert bound("serve_and_gpu", tags=["serve", "gpu"]).tags == ("serve", "gpu")


@pytest.mark.parametrize(
    ("name", "tags", "message"),
    [
        ("eval_only", ["serve"], "no graph with the tags serve; .* offers: eval"),
        ("no_tag", ["serve"], r"no graph with the tags serve; .* offers: \(no tag\)"),
        ("train_and_eval", None, "2 graphs; choose one by --tags. It offers: train; eval"),
        ("serve_and_gpu", ["gpu"], "tags gpu; .* offers: gpu,serve; serve"),
    ],
)
def test_unclear_or_wrong_tags_are_refused_with_those_that_exist(saved, name, tags, message):
    with pytest.raises(ValueError, match=message):
        read_model(saved(name), tags)


def test_a_card_with_tags_that_do_not_exist_is_refused(saved):
    card = load_card(None, UNIT | {"tags": ["gpu"]})
    with pytest.raises(ModelError, match=r"no graph with the tags gpu; .* It offers: serve"):
        bind(read_model(saved("tf1")), card)


# Versions


def test_the_newest_version_is_taken_by_number(saved, tmp_path):
    for version in ("9", "10", "00000011"):
        shutil.copytree(saved("logits"), tmp_path / version)
    (tmp_path / "99").mkdir()
    info = read_model(str(tmp_path))
    assert info.path == str(tmp_path / "00000011")
    assert info.versions == ("9", "10", "00000011")
    assert read_model(str(tmp_path / "9")).versions == ()


# TF1


@pytest.mark.parametrize("name", ["tf1", "tf1_by_reference", "deeplab"])
def test_graphs_for_a_session_are_told_from_objects(saved, name, real_models):
    assert is_tf1(real_models("deeplab_nchw_tf1") if name == "deeplab" else saved(name))


def test_objects_are_told_from_graphs_for_a_session(saved, tmp_path):
    assert not is_tf1(saved("logits"))
    assert not is_tf1(str(tmp_path))


def test_what_only_tf1_can_run_is_run_in_a_session(saved, bound, picture):
    tf = import_tensorflow()
    with pytest.raises(tf.errors.InvalidArgumentError, match="reference type"):
        tf.saved_model.load(saved("tf1_by_reference"))
    binding = bound("tf1_by_reference", signature="serving_default")
    assert binding.loader == "v1"
    assert bound("tf1").loader == "v2"
    pictures = [picture(32, 48), picture(32, 48, 1), picture(32, 48, 2)]
    np.testing.assert_array_equal(
        Segmenter(saved("tf1_by_reference"), binding, 4)(pictures)[2].mask,
        masks(saved, bound, "logits", pictures)[2],
    )


def test_when_both_loaders_fail_the_newer_one_says_why(saved, tmp_path):
    path = shutil.copytree(saved("tf1"), tmp_path / "copy")
    shutil.rmtree(path / "variables")
    binding = bind(read_model(str(path)), load_card(None, UNIT))
    with pytest.raises(ModelError, match=r"cannot load .*copy: .*variables") as caught:
        probe(str(path), binding)
    assert "\n" not in str(caught.value)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "signature", "output", "expected"),
    [
        ("saved_model_counter/00000123", "get_counter", "output", 0.0),
        ("saved_model_half_plus_three/00000123", "serving_default", "y", [[4.0]]),
    ],
)
def test_old_models_of_strangers_run_in_a_session(
    real_models, bound, name, signature, output, expected
):
    binding = dataclasses.replace(
        bound("logits"), signature=signature, output_name=output, loader="v1"
    )
    run = load_signature(real_models(f"tf_serving_testdata/{name}"), binding)
    inputs = {} if signature == "get_counter" else {"x": import_tensorflow().constant([[2.0]])}
    np.testing.assert_array_equal(run(**inputs)[output].numpy(), expected)


@pytest.fixture
def real_models(real_data):
    return lambda name: str(real_data / "saved_models" / name)
