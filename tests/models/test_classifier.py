"""Classifiers of many signatures: bound or refused with the way out, and equal to a plain loop."""

from typing import Any

import numpy as np
import pytest

from models.card import ModelCard
from models.classifier import (
    Bound,
    Classifier,
    Judge,
    bind_classifier,
    bind_features,
    is_standard_inception,
    probe_classifier,
)
from models.errors import ModelError
from models.loading import import_tensorflow
from models.signatures import read_model

FLOATS = {"input": {"range": "0,1"}}


def export(folder: Any, heads: dict[str, str], **how: Any) -> str:
    """A SavedModel: name of output -> kind of output."""
    tf = import_tensorflow()
    channels, dtype = how.get("channels", 3), how.get("dtype", "float32")
    shape = how.get("shape", (None, 16, 16, channels))
    weights = np.random.default_rng(0).normal(size=(4 * channels, 5)).astype(np.float32)
    kinds: dict[str, Any] = {
        "logits": lambda tf, x: x @ weights,
        "softmax": lambda tf, x: tf.nn.softmax(x @ weights),
        "sigmoid": lambda tf, x: tf.sigmoid(x @ weights),
        "one": lambda tf, x: tf.reduce_sum(x, axis=-1, keepdims=True),
        "features": lambda tf, x: x,
        "pooled": lambda tf, x: x[:, tf.newaxis, tf.newaxis],
        "map": lambda tf, x: tf.reshape(x, [-1, 2, 2, channels]),
        "nan": lambda tf, x: x / 0.0 * 0.0,
        "fixed": lambda tf, x: tf.ensure_shape(x, [2, 12]) @ weights,
    }

    def call(image: Any) -> dict[str, Any]:
        x = tf.image.resize(tf.cast(image, tf.float32), [2, 2], antialias=False)
        x = tf.reshape(x, [-1, 4 * channels])
        return {name: kinds[kind](tf, x) for name, kind in heads.items()}

    spec = tf.TensorSpec(shape, dtype, name="image")
    tf.saved_model.save(tf.Module(), str(folder), signatures=tf.function(call, [spec]))
    return str(folder)


def bound(path: str, **card: Any) -> Any:
    info = read_model(path)
    return probe_classifier(path, bind_classifier(info, ModelCard.model_validate(card)))


def images(sizes: list[tuple[int, ...]]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, size, np.uint8) for size in sizes]


@pytest.mark.parametrize(
    ("heads", "kind", "features"),
    [
        ({"logits": "logits"}, "logits", ""),
        ({"anything": "softmax"}, "softmax", ""),
        ({"logits": "logits", "features": "features"}, "logits", "features"),
        ({"out": "softmax", "avg_pool": "pooled"}, "softmax", "avg_pool"),
        ({"logits": "logits", "map": "map"}, "logits", ""),
    ],
)
def test_outputs_are_told_apart(tmp_path: Any, heads: Any, kind: str, features: str) -> None:
    binding = bound(export(tmp_path / "m", heads), **FLOATS)
    assert (binding.kind, binding.features_name) == (kind, features)
    assert binding.classes == tuple(f"class {i}" for i in range(5))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_it_equals_a_plain_loop(tmp_path: Any, dtype: str, batch_size: int) -> None:
    tf = import_tensorflow()
    path = export(tmp_path / "m", {"logits": "logits", "features": "features"}, dtype=dtype)
    binding = bound(path, **({} if dtype == "uint8" else FLOATS))
    given = images([(16, 16, 3)] * 5 + [(16, 16)] + [(31, 20, 3)])
    found = Classifier(path, binding, batch_size)(given)
    make = tf.saved_model.load(path).signatures["serving_default"]
    for image, seen in zip(given, found, strict=True):
        rgb = np.stack([image] * 3, axis=-1) if image.ndim == 2 else image
        x = tf.image.resize(tf.constant(rgb[np.newaxis], tf.float32), [16, 16])
        x = tf.cast(tf.round(x), tf.uint8) if dtype == "uint8" else x / 255
        answer = make(image=x)
        expected = tf.nn.softmax(tf.cast(answer["logits"], tf.float64))[0].numpy()
        np.testing.assert_allclose(seen.probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(seen.features, answer["features"][0], rtol=1e-5)
        assert seen.probabilities.sum() == pytest.approx(1)


def test_a_model_of_any_size_sees_pictures_as_they_are(tmp_path: Any) -> None:
    path = export(tmp_path / "m", {"logits": "logits"}, shape=(None, None, None, 3))
    binding = bound(path, **FLOATS)
    given = images([(16, 20, 3), (16, 20, 3), (30, 9, 3), (16, 20, 3)])
    together = Classifier(path, binding, 4)(given)
    for image, seen in zip(given, together, strict=True):
        alone = Classifier(path, binding, 4)([image])[0]
        np.testing.assert_allclose(seen.probabilities, alone.probabilities, atol=1e-6)


def test_a_model_of_fixed_batch(tmp_path: Any) -> None:
    path = export(tmp_path / "m", {"logits": "fixed"}, shape=(2, 16, 16, 3))
    assert len(Classifier(path, bound(path, **FLOATS), 8)(images([(16, 16, 3)] * 5))) == 5


def test_features_of_one_model_beside_the_opinion_of_another(tmp_path: Any) -> None:
    verifier = export(tmp_path / "a", {"logits": "logits"})
    other = export(tmp_path / "b", {"embedding": "pooled", "scores": "softmax"}, dtype="uint8")
    info = read_model(other)
    features = probe_classifier(other, bind_features(info, ModelCard()), wants_scores=False)
    assert features.output_name == "embedding"
    assert not is_standard_inception(info, features)
    judge = Judge(Bound(verifier, bound(verifier, **FLOATS)), Bound(other, features), 4)
    seen = judge(images([(16, 16, 3)] * 3))
    assert [s.probabilities.shape for s in seen] == [(5,)] * 3
    assert [s.features.shape for s in seen] == [(12,)] * 3
    alone = Judge(None, Bound(other, features), 4)(images([(16, 16, 3)]))
    assert alone[0].probabilities is None


@pytest.mark.parametrize(
    ("heads", "card", "message"),
    [
        ({"a": "logits", "b": "softmax"}, FLOATS, "name it as output.name"),
        ({"map": "map"}, FLOATS, "0 outputs"),
        ({"one": "one"}, FLOATS, "has 1 score a picture"),
        ({"out": "sigmoid"}, FLOATS, "independent labels are not supported"),
        ({"out": "nan"}, FLOATS, "NaN or infinity"),
        ({"out": "logits"}, {}, "takes floats"),
        ({"out": "logits"}, FLOATS | {"classes": ["a", "b"]}, "its card names 2"),
        ({"out": "logits"}, FLOATS | {"output": {"name": "in"}}, "no output 'in'"),
        ({"out": "logits"}, FLOATS | {"output": {"features": "f"}}, "no output 'f'"),
        ({"out": "logits"}, FLOATS | {"output": {"kind": "image"}}, "that looks at pictures"),
    ],
)
def test_what_is_no_classifier_is_refused(
    tmp_path: Any, heads: Any, card: Any, message: str
) -> None:
    path = export(tmp_path / "m", heads)
    with pytest.raises(ModelError, match=message):
        bound(path, **card)


def test_a_model_without_pictures_is_refused(tmp_path: Any) -> None:
    tf = import_tensorflow()
    spec = tf.TensorSpec([None, 7], tf.float32, name="x")
    function = tf.function(lambda x: {"logits": x}, [spec])
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), signatures=function)
    with pytest.raises(ModelError, match="cannot take pixels"):
        bound(str(tmp_path / "m"))


def test_the_standard_graph_is_known_by_its_shape(tmp_path: Any) -> None:
    tf = import_tensorflow()

    def call(image: Any) -> dict[str, Any]:
        return {"pool_3": tf.zeros([tf.shape(image)[0], 2048]) + tf.reduce_mean(image)}

    spec = tf.TensorSpec([None, 299, 299, 3], tf.float32, name="image")
    path = str(tmp_path / "m")
    tf.saved_model.save(tf.Module(), path, signatures=tf.function(call, [spec]))
    info = read_model(path)
    card = ModelCard.model_validate({"input": {"range": "-1,1"}})
    assert is_standard_inception(info, bind_features(info, card))
