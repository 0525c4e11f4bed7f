"""RunInference with a SavedModel: order, keys, batches, failures, dead letters, processes."""

import dataclasses
import importlib
import importlib.util
import pickle
import re
import sys
import types
from pathlib import Path

import apache_beam as beam
import cloudpickle
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    PredictionResult,
    RunInference,
)
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

from models.answers import Segmentation
from models.errors import ModelError
from models.loading import import_tensorflow
from models.shipped.digit_scenes import scene
from transforms.failures import Failure
from transforms.model_handler import SavedModelHandler, raise_failure

ROOT = Path(__file__).parents[2]
SIZES_HW = [(24, 32), (32, 24), (24, 32), (40, 17)]
BATCH = 8
WHITE, NEARLY_WHITE = (
    255,
    254,
)  # the model raises for a white picture, and answers NaN for the other


def export(folder, shape=(None, None, None, 3)):
    """A 3x3 convolution: uint8 -> logits of 5 classes. One white picture spoils its whole batch."""
    tf = import_tensorflow()
    kernel = tf.random.stateless_normal([3, 3, 3, 5], seed=[1, 2]) * 0.02

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def segment(image):
        darkest = tf.reduce_min(image, axis=[1, 2, 3], keepdims=True)
        none_is_white = tf.reduce_all(darkest < WHITE)
        with tf.control_dependencies([tf.debugging.Assert(none_is_white, ["a white picture"])]):
            logits = tf.nn.conv2d(tf.cast(image, tf.float32), kernel, 1, "SAME")
        return {"logits": tf.where(darkest == NEARLY_WHITE, np.nan, logits)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=segment)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def handler(model):
    return SavedModelHandler.from_card(model, batch_size=BATCH)


@pytest.fixture(scope="module")
def alone(handler):
    """What the model answers for one picture, called without Beam and without mates."""
    return handler.load_model()


def picture(seed, size_hw=None):
    size_hw = size_hw or SIZES_HW[seed % len(SIZES_HW)]
    return np.random.default_rng(seed).integers(0, 250, (*size_hw, 3), np.uint8)


def plain(level, size_hw=(24, 32)):
    return np.full((*size_hw, 3), level, np.uint8)


@pytest.fixture
def infer(tmp_path):
    """Runs RunInference on a list of examples, or of (key, example).

    Returns:
        The results, the dead letters by name of their PCollection, and the metrics.
    """

    def run(examples, handler, options=None, dead_letters=False):
        pipeline = beam.Pipeline("FnApiRunner", options=options)
        results = pipeline | beam.Create(examples, reshuffle=False)
        collections = {}
        if dead_letters:
            results, letters = results | RunInference(handler).with_exception_handling()
            collections["batches"] = letters.failed_inferences
            for number, letter in enumerate(letters.failed_postprocessing):
                collections[f"pictures {number}"] = letter
        else:
            results = results | RunInference(handler)
        for name, collection in (collections | {"results": results}).items():
            _ = collection | name >> Collect(str(tmp_path / name))
        done = pipeline.run()
        done.wait_until_finish()
        found = {
            name: pickle.loads((tmp_path / name).read_bytes()) for name in [*collections, "results"]
        }
        return found.pop("results"), found, done.metrics()

    return run


class Collect(beam.PTransform):
    """Writes a PCollection into one file, from whichever process."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def expand(self, pcollection):
        path = self._path
        return (
            pcollection
            | beam.combiners.ToList()
            | beam.Map(lambda found: Path(path).write_bytes(pickle.dumps(found)))
        )


def counter(metrics, name):
    found = metrics.query(MetricsFilter().with_namespace("pixelmill").with_name(name))["counters"]
    return sum(result.committed for result in found)


def distribution(metrics, name):
    found = metrics.query(MetricsFilter().with_namespace("pixelmill").with_name(name))
    (result,) = found["distributions"]
    return result.committed


def assert_same(answer, expected):
    assert isinstance(answer, Segmentation), answer
    np.testing.assert_array_equal(answer.mask, expected.mask)
    np.testing.assert_array_equal(answer.class_pixels, expected.class_pixels)
    np.testing.assert_allclose(
        answer.confidence.astype(int), expected.confidence.astype(int), atol=1
    )


def keyed(*pictures):
    return [(f"k{index:02}", example) for index, example in enumerate(pictures)]


def failures(results):
    return {
        key: (result.inference.stage, result.inference.reason)
        for key, result in results
        if isinstance(result.inference, Failure)
    }


class TestAnswers:
    def test_keyed_pictures_of_mixed_sizes(self, infer, handler, alone, model):
        examples = keyed(*(picture(seed) for seed in range(21)))
        results, _, metrics = infer(examples, KeyedModelHandler(handler))
        assert [key for key, _ in results] == [key for key, _ in examples]
        for (_, example), (_, result) in zip(examples, results, strict=True):
            assert isinstance(result, PredictionResult)
            assert result.inference.mask.shape == example.shape[:2]
            assert_same(result.inference, alone.model([example])[0])
            np.testing.assert_array_equal(result.example, example)
            assert result.model_id == model
        assert len({result.inference.mask.tobytes() for _, result in results}) == 21
        sizes = distribution(metrics, "inference_request_batch_size")
        assert (sizes.count, sizes.max, sizes.min, sizes.sum) == (3, BATCH, 5, 21)
        sizes_bytes = distribution(metrics, "inference_request_batch_byte_size")
        pixels_bytes = sum(example.nbytes for _, example in examples)
        assert pixels_bytes <= sizes_bytes.sum < pixels_bytes + 21 * 20  # Beam adds the keys
        assert counter(metrics, "num_inferences") == 21
        assert counter(metrics, "failed") == 0

    def test_without_keys(self, infer, handler, alone):
        results, _, _ = infer([picture(0), picture(1)], handler)
        assert len(results) == 2
        for result in results:
            assert_same(result.inference, alone.model([result.example])[0])

    def test_the_example_can_be_left_behind(self, infer, model, handler):
        lean = SavedModelHandler.from_card(model, keep_example=False)
        ((key, result),), _, _ = infer([("k", picture(0))], KeyedModelHandler(lean))
        assert (key, result.example) == ("k", None)
        assert isinstance(result.inference, Segmentation)

    @pytest.mark.parametrize("count", [0, 1, BATCH, 3 * BATCH + 1])
    def test_a_batch_of_any_length(self, handler, alone, count):
        """Beam hands over others than were asked for: with_no_batching, or one model a key."""
        examples = [picture(seed) for seed in range(count)]
        results = handler.run_inference(tuple(examples), alone)
        assert isinstance(results, list)
        for example, result in zip(examples, results, strict=True):
            assert_same(result.inference, alone.model([example])[0])

    def test_pictures_of_one_size_share_a_call(self, handler, alone):
        calls = []

        def model(items):
            calls.append([picture.facts.size_hw for _, picture in items])
            return alone(items)

        handler.run_inference([picture(seed) for seed in range(8)], model)
        assert calls == [[(24, 32)] * 4, [(32, 24)] * 2, [(40, 17)] * 2]

    def test_large_pictures_come_alone(self, handler):
        calls = []

        def model(items):
            calls.append(len(items))
            return [(record, Failure("model", "model_error", "not needed")) for record, _ in items]

        handler.run_inference([np.zeros((1500, 2000, 3), np.uint8)] * 3, model)
        assert calls == [1, 1, 1]

    def test_batches_made_by_the_user(self, infer, handler):
        results, _, metrics = infer([[picture(0)] * 3, [picture(1)]], handler.with_no_batching())
        assert len(results) == 4
        assert distribution(metrics, "inference_request_batch_size").max == 3

    def test_one_model_for_each_key(self, infer, handler, model, tmp_path):
        other = SavedModelHandler.from_card(export(tmp_path / "other"), batch_size=2)
        mapping = [KeyModelMapping(["a"], handler), KeyModelMapping(["b"], other)]
        examples = [("a", picture(0)), ("b", picture(0)), ("b", picture(1))]
        results, _, _ = infer(examples, KeyedModelHandler(mapping))
        assert {(key, result.model_id) for key, result in results} == {
            ("a", model),
            ("b", str(tmp_path / "other")),
        }
        assert all(isinstance(result.inference, Segmentation) for _, result in results)


EXAMPLES = keyed(
    *(picture(seed) for seed in range(3)),
    plain(WHITE),
    *(picture(seed) for seed in range(4, 9)),
    plain(NEARLY_WHITE),
    None,
    picture(11).astype(np.float32),
    picture(12)[..., 0],
    np.zeros((0, 5, 3), np.uint8),
    b"an encoded picture",
    picture(15),
)
FAILED = {
    "k03": ("model", "model_error"),
    "k09": ("model", "not_finite"),
    "k10": ("model", "model_error"),
    "k11": ("model", "model_error"),
    "k12": ("model", "model_error"),
    "k13": ("model", "model_error"),
    "k14": ("model", "model_error"),
}


class TestFailures:
    @pytest.mark.parametrize("dead_letters", [False, True])
    def test_a_failure_costs_its_row_only(self, infer, handler, alone, dead_letters):
        results, letters, metrics = infer(
            EXAMPLES, KeyedModelHandler(handler), dead_letters=dead_letters
        )
        assert [key for key, _ in results] == [key for key, _ in EXAMPLES]
        assert failures(results) == FAILED
        for (key, result), (_, example) in zip(results, EXAMPLES, strict=True):
            if key not in FAILED:
                assert_same(result.inference, alone.model([example])[0])
        assert letters == ({"batches": []} if dead_letters else {})
        assert counter(metrics, "failed") == len(FAILED)
        assert counter(metrics, "num_inferences") == len(EXAMPLES)

    def test_messages_say_what_was_got(self, handler, alone):
        results = handler.run_inference([example for _, example in EXAMPLES], alone)
        messages = [str(r.inference.message) for r in results if isinstance(r.inference, Failure)]
        assert "32x24" in messages[0]
        assert "a white picture" in messages[0]
        assert messages[2:] == [
            f"got {got}, expected uint8 [H, W, 3]"
            for got in (
                "NoneType",
                "float32 [40, 17, 3]",
                "uint8 [24, 32]",
                "uint8 [0, 5, 3]",
                "bytes",
            )
        ]

    def test_dead_letters_of_single_pictures(self, infer, handler):
        raising = KeyedModelHandler(handler).with_postprocess_fn(raise_failure)
        results, letters, _ = infer(EXAMPLES, raising, dead_letters=True)
        assert [key for key, _ in results] == [key for key, _ in EXAMPLES if key not in FAILED]
        assert letters["batches"] == []
        assert failures(element for element, _ in letters["pictures 0"]) == FAILED
        assert all(kind is Failure for _, (kind, _, _) in letters["pictures 0"])

    def test_or_the_job_stops(self, infer, handler):
        raising = handler.with_postprocess_fn(raise_failure)
        with pytest.raises(Exception, match="a white picture"):
            infer([picture(0), plain(WHITE)], raising)


class TestBuilding:
    def test_it_is_pickled_with_its_settings(self, handler, alone):
        copy = cloudpickle.loads(cloudpickle.dumps(handler))
        assert len(cloudpickle.dumps(handler)) < 4096
        assert copy.batch_elements_kwargs() == {"min_batch_size": BATCH, "max_batch_size": BATCH}
        (result,) = copy.run_inference([picture(0)], copy.load_model())
        assert_same(result.inference, alone.model([picture(0)])[0])

    def test_a_fixed_batch_decides(self, tmp_path):
        handler = SavedModelHandler.from_card(export(tmp_path / "m", (2, 24, 32, 3)), batch_size=8)
        assert handler.batch_elements_kwargs()["max_batch_size"] == 2
        results = handler.run_inference([picture(seed) for seed in range(3)], handler.load_model())
        assert [r.inference.mask.shape for r in results] == SIZES_HW[:3]

    def test_what_cannot_run_is_refused_before_the_workers_start(self, model, handler, tmp_path):
        with pytest.raises(ModelError, match="nowhere"):
            SavedModelHandler.from_card(str(tmp_path / "nowhere"))
        with pytest.raises(ModelError, match="no_such"):
            SavedModelHandler.from_card(model, overrides={"output.name": "no_such"})
        with pytest.raises(ModelError, match="batch_size is 0"):
            SavedModelHandler.from_card(model, batch_size=0)
        open_questions = dataclasses.replace(handler._binding, kind=None)
        with pytest.raises(ModelError, match="not probed"):
            SavedModelHandler(model, open_questions)

    def test_inference_args_are_refused(self, handler):
        with pytest.raises(ModelError, match="expected none"):
            _ = (
                beam.Pipeline("FnApiRunner")
                | beam.Create([picture(0)])
                | RunInference(handler, inference_args={"training": True})
            )

    def test_another_version_of_the_model(self, handler, tmp_path):
        copy = cloudpickle.loads(cloudpickle.dumps(handler))
        copy.update_model_path(export(tmp_path / "2"))
        copy.update_model_path(None)
        (result,) = copy.run_inference([picture(0)], copy.load_model())
        assert result.model_id == str(tmp_path / "2")


@pytest.mark.slow
def test_several_processes(infer, handler, alone):
    options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    examples = keyed(*(picture(seed) for seed in range(30)), plain(WHITE))
    results, _, metrics = infer(examples, KeyedModelHandler(handler), options=options)
    results.sort(key=lambda pair: pair[0])
    assert [key for key, _ in results] == [key for key, _ in examples]
    assert failures(results) == {"k30": ("model", "model_error")}
    for (_, example), (_, result) in zip(examples[:30], results, strict=False):
        assert_same(result.inference, alone.model([example])[0])
    assert distribution(metrics, "inference_request_batch_size").max <= BATCH


def test_the_block_in_the_docs(tmp_path, monkeypatch, capfd):
    text = (ROOT / "docs" / "beam.md").read_text()
    section = text.partition("With Beam's RunInference")[2]
    program = re.search(r"^```py\w*\n(.+?)^```", section, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.fromarray(scene(1, index)[0]).save(tmp_path / "photos" / f"{index}.png")
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    exec(program, {"__name__": "readme"})
    printed = capfd.readouterr().out
    assert all(f"photos/{index}.png" in printed for index in range(3))


class TestBeamsOwnHandler:
    """Why ours exists (apache/beam#30616). When one of these fails, Beam has learnt it."""

    MODULE = "apache_beam.ml.inference.tensorflow_inference"

    def test_it_needs_a_package_that_beam_does_not_bring(self):
        if importlib.util.find_spec("tensorflow_hub"):
            pytest.skip("tensorflow_hub is installed")
        with pytest.raises(ImportError, match="tensorflow_hub"):
            importlib.import_module(self.MODULE)

    def test_it_cannot_load_a_saved_model(self, model, monkeypatch):
        if not importlib.util.find_spec("tensorflow_hub"):  # resolve() hands local paths back
            stub = types.SimpleNamespace(resolve=lambda path: path)
            monkeypatch.setitem(sys.modules, "tensorflow_hub", stub)
        monkeypatch.delitem(sys.modules, self.MODULE, raising=False)
        theirs = importlib.import_module(self.MODULE).TFModelHandlerNumpy(model)
        with pytest.raises(ValueError, match=r"Keras 3 only supports V3 `\.keras` files"):
            theirs.load_model()
