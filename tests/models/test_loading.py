"""Loading: what TensorFlow takes, what it says when it does not, and how quiet it is."""

import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from models.errors import ModelError
from models.loading import first_line, import_tensorflow, load_signature, quiet_stderr
from models.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[2]


def test_a_signature_is_called_by_name(saved, bound):
    predict = load_signature(saved("logits"), bound("logits"))
    tf = import_tensorflow()
    outputs = predict(image=tf.zeros((2, 8, 9, 3)))
    assert list(outputs) == ["out"]
    assert outputs["out"].shape == (2, 8, 9, 3)


def test_the_model_lives_as_long_as_its_signature(saved, bound):
    """A signature holds its variables weakly; without the model they are gone."""
    predict = load_signature(saved("logits"), bound("logits"))
    gc.collect()
    outputs = predict(image=import_tensorflow().ones((1, 8, 8, 3)))
    assert np.abs(outputs["out"].numpy()).max() > 0


def test_a_signature_that_is_gone(saved, bound):
    with pytest.raises(ModelError, match="signature 'serving_default' was lost on loading"):
        load_signature(saved("several_signatures"), bound("several_with_default"))


def test_a_folder_that_is_gone(bound, tmp_path):
    with pytest.raises(ModelError, match=r"TensorFlow 2\.\d+\.\d+ cannot load .*gone: OSError"):
        load_signature(str(tmp_path / "gone"), bound("logits"))


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved("logits"), tmp_path / "copy")


@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_weights_that_are_damaged(copy, bound, damage):
    weights = copy / "variables" / "variables.data-00000-of-00001"
    data = weights.read_bytes()
    weights.unlink()
    if damage != "missing":
        weights.write_bytes(data[:100] if damage == "cut" else b"")
    with pytest.raises(ModelError) as caught:
        load_signature(str(copy), bound("logits"))
    message = str(caught.value)
    assert f"cannot load {copy}: " in message
    assert "\n" not in message
    assert caught.value.__cause__ is not None


def test_a_graph_that_is_damaged(copy, bound):
    graph = copy / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot load"):
        load_signature(str(copy), bound("logits"))


def test_tags_that_the_model_does_not_have(saved, bound):
    import dataclasses

    binding = dataclasses.replace(bound("logits"), tags=("eval",))
    with pytest.raises(ModelError, match=r"cannot load .*eval"):
        load_signature(saved("logits"), binding)
    binding = dataclasses.replace(binding, tags=("serve",))
    assert load_signature(saved("logits"), binding)


def test_a_keras_2_model_with_an_optimizer_loads(saved, bound, picture):
    binding = bound("keras2_with_optimizer")
    assert (binding.kind, binding.num_classes) == ("logits", 2)
    (answer,) = Segmenter(saved("keras2_with_optimizer"), binding)([picture(40, 56)])
    assert answer.mask.shape == (40, 56)


WITHOUT_TF_KERAS = """
import sys
{block}
from models.rules import bind
from models.card import load_card
from models.errors import ModelError
from models.loading import load_signature
from models.signatures import read_model

path = sys.argv[1]
binding = bind(read_model(path), load_card(None, {{"input.range": "0,1"}}))
assert "tf_keras" not in sys.modules or sys.modules["tf_keras"] is None
try:
    load_signature(path, binding)
    print("loaded")
except ModelError as error:
    print(error)
"""


def in_a_fresh_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "expected"),
    [("", "loaded"), ("sys.modules['tf_keras'] = None", "pip install tf_keras")],
    ids=["with tf_keras", "without"],
)
def test_tf_keras_is_what_loads_a_keras_2_optimizer(saved, block, expected):
    """Nobody imports it: TensorFlow does, when it meets an optimizer and finds it installed."""
    code = WITHOUT_TF_KERAS.format(block=block)
    done = in_a_fresh_process(code, saved("keras2_with_optimizer"))
    assert expected in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["basic_pitch_three_outputs", "tfx_keras_tfexample"])
def test_real_keras_2_models_with_an_optimizer_load(real_data, bound, name):
    """They are no segmenters, so a segmenter's binding is bent to name their signature."""
    assert load_signature(str(real_data / "saved_models" / name), bound("logits"))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tf_serving_testdata/bad_half_plus_two/00000123", "does not exist"),
        ("tf_serving_testdata/saved_model_half_plus_three/00000123", "cannot load"),
        ("tf_serving_testdata/saved_model_counter/00000123", "cannot load"),
        ("tfx_taxi_eval_tag_only", "cannot load"),
    ],
)
def test_real_models_that_cannot_be_loaded(real_data, bound, name, expected):
    with pytest.raises(ModelError) as caught:
        load_signature(str(real_data / "saved_models" / name), bound("logits"))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# Quiet


def test_what_native_code_writes_is_held_back(capfd):
    with quiet_stderr():
        os.write(2, b"chatter\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_it_is_shown_when_the_block_fails(capfd):
    with pytest.raises(RuntimeError, match="bad"), quiet_stderr():
        os.write(2, b"the reason\n")
        raise RuntimeError("bad")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_it_is_shown_when_asked_for(capfd, monkeypatch):
    monkeypatch.setenv("PIXELMILL_VERBOSE", "1")
    with quiet_stderr():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == "chatter\n"


def test_no_file_descriptor_is_lost():
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(20):
        with quiet_stderr():
            os.write(2, b"x")
    assert count() == before


def test_of_two_threads_each_puts_back_what_was_there(capfd):
    first_is_in, second_is_called = threading.Event(), threading.Event()

    def first():
        with quiet_stderr():
            first_is_in.set()
            second_is_called.wait(20)
            time.sleep(0.2)  # the second would be in by now

    def second():
        first_is_in.wait(20)
        second_is_called.set()
        with quiet_stderr():
            thread.join(20)  # it would end last

    thread = threading.Thread(target=first)
    thread.start()
    second()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


IN_THREADS = """
import threading
from models.loading import Later

tf, met, found = Later(), threading.Barrier(3), []

def ask():
    met.wait()
    found.append(tf.train.Example.__name__)

threads = [threading.Thread(target=ask) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*found)
"""


def test_threads_that_ask_for_tensorflow_at_once_all_get_the_whole_of_it():
    done = in_a_fresh_process(IN_THREADS)
    assert (done.stdout, done.stderr) == ("Example Example Example\n", "")


@pytest.mark.slow
def test_importing_tensorflow_says_nothing():
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PIXELMILL"))}
    done = subprocess.run(
        [sys.executable, "-c", "from models.loading import import_tensorflow as i; i(); i()"],
        env=environment | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


# The telling line of an error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "ValueError: plain"),
        ("", "ValueError"),
        ("  \n \n", "ValueError"),
        ("heading\n\nthe reason\n", "ValueError: the reason"),
        ("the reason\n\t [[{{node conv}}]] [Op:__inference_1]", "ValueError: the reason"),
        ("the reason\n[Op:Conv2D]", "ValueError: the reason"),
        ("the reason\n\tEncountered while creating function 'f'", "ValueError: the reason"),
        ('the reason\nFile "x.py", line 3\n^^^', "ValueError: the reason"),
        ("Traceback (most recent call last):", "ValueError"),
        ("x" * 1000, "ValueError: " + "x" * 300),
    ],
)
def test_the_first_telling_line(text, expected):
    assert first_line(ValueError(text)) == expected


def test_the_telling_line_of_what_tensorflow_raises():
    tf = import_tensorflow()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def fails(x):
        return tf.reshape(x, [7, 11])

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        fails(tf.zeros(3))
    line = first_line(caught.value)
    assert "Input to reshape is a tensor with 3 values" in line
    assert "\n" not in line
