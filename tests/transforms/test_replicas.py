"""Copies of a model on several devices: order, promises of each, and the same bytes as by one."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import content

from pipeline import cli
from transforms.failures import Failure
from transforms.records import Record
from transforms.replicas import OnDevice, Replicas
from transforms.streams import ordered_map
from transforms.survive import Survivor

ROOT = Path(__file__).parents[2]
CPU = "/device:CPU:0"


class Double:
    """Answers ten times the value, on the device of the caller; waits for its mates if asked to."""

    def __init__(self, memory=10**9, meeting=None):
        self.batch_size = 4
        self.binding = SimpleNamespace(fixed_batch=None)
        self.threads = set()
        self._memory = memory
        self._meeting = meeting

    def __call__(self, values):
        self.threads.add(threading.current_thread().name)
        if self._meeting is not None:
            self._meeting.wait(20)
        if self.batch_size > self._memory:
            raise MemoryError("no room")
        if None in values:
            raise ValueError("unlucky")
        return [10 * value for value in values]


def replicas(monkeypatch, doubles, timeout_s=0.0):
    """One copy on the processor for each of the doubles, which are loaded in their order."""
    monkeypatch.setattr("transforms.replicas.replica_devices", lambda: [CPU] * len(doubles))
    waiting = iter(doubles)
    return Replicas(lambda: next(waiting), lambda load: Survivor(load, lambda v: v, str, timeout_s))


def batches(count):
    return [[(Record(i, str(i), ""), i)] for i in range(count)]


def run(model, items):
    return [
        answer.reason if isinstance(answer, Failure) else answer
        for batch in ordered_map(model.pool, model, items, model.ahead)
        for _, answer in batch
    ]


def test_copies_work_at_the_same_time_and_order_is_kept(monkeypatch):
    """Every call waits until all three are called: with one thread it would wait in vain."""
    meeting = threading.Barrier(3)
    doubles = [Double(meeting=meeting) for _ in range(3)]
    model = replicas(monkeypatch, doubles)
    assert run(model, batches(30)) == [10 * i for i in range(30)]
    assert all(double.threads for double in doubles)
    assert model.ahead() == 4


def test_one_device_is_left_to_tensorflow(monkeypatch):
    """Which is called twice at once, where there are two cores: alone each would wait in vain."""
    at_once = min(2, os.cpu_count() or 1)
    double = Double(meeting=threading.Barrier(at_once))
    model = replicas(monkeypatch, [double])
    assert model._all[0].model is double
    assert run(model, batches(6)) == [0, 10, 20, 30, 40, 50]
    assert model.ahead() == at_once + 1


def test_the_copy_that_runs_out_of_memory_gets_less_and_the_others_do_not(monkeypatch, capsys):
    doubles = [Double(), Double(memory=2)]
    model = replicas(monkeypatch, doubles)
    assert run(model, batches(8)) == [10 * i for i in range(8)]
    assert [double.batch_size for double in doubles] == [4, 2]
    assert "going on with 2" in capsys.readouterr().err


def test_a_poisoned_item_costs_itself(monkeypatch):
    model = replicas(monkeypatch, [Double(), Double()])
    batch = [(Record(i, str(i), ""), None if i == 2 else i) for i in range(4)]
    assert run(model, [batch, *batches(1)]) == [0, 10, "model_error", 30, 0]
    assert model._free.qsize() == 2, "all copies are free again"


def test_a_copy_that_hangs_is_loaded_anew_on_its_device(monkeypatch):
    never = threading.Barrier(2)  # nobody comes
    doubles = [Double(meeting=never), Double(), Double()]
    monkeypatch.setattr("transforms.replicas.replica_devices", lambda: [CPU, CPU])
    waiting = iter(doubles)
    model = Replicas(lambda: next(waiting), lambda load: Survivor(load, lambda v: v, str, 0.3))
    assert run(model, batches(6)) == ["timeout", 10, 20, 30, 40, 50]
    assert all(isinstance(one.model, OnDevice) for one in model._all)
    assert doubles[2].threads
    never.abort()


def test_every_copy_is_warmed_up(monkeypatch):
    doubles = [Double(), Double()]
    replicas(monkeypatch, doubles).warm_up(batches(1)[0])
    assert all(double.threads for double in doubles)


def test_weights_and_work_are_on_the_device():
    class Placed(Double):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(10)

        def __call__(self, values):
            found = self.weight * tf.constant(values)
            assert found.device == self.weight.device
            return found.numpy().tolist()

    with tf.device("/device:CPU:0"):
        expected = tf.Variable(1).device
    model = OnDevice(Placed, CPU)
    assert model([1, 2]) == [10, 20]
    assert model._model.weight.device == expected
    model.batch_size = 2
    assert model._model.batch_size == model.batch_size == 2


TWO_DEVICES = """
import collections, json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from pipeline import cli
from transforms import replicas

calls = collections.Counter()
call = replicas.OnDevice.__call__

def counted(self, values):
    model = self._model
    while hasattr(model, "_model"):  # what looks at pictures holds a Translator, it a Segmenter
        model = model._model
    assert model._predict._pixelmill_model.weight.device.endswith(self.device)
    calls[self.device[-5:]] += 1
    return call(self, values)

replicas.OnDevice.__call__ = counted
codes = [cli.main(arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([codes, calls]))
"""


def export(folder, spec, shape, call):
    """One weight, and {"out": call(x, weight)}."""
    module = tf.Module()
    module.weight = tf.Variable(tf.random.stateless_normal(shape, seed=[1, 2]))
    function = tf.function(lambda x: {"out": call(x, module.weight)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures=function)
    return str(folder)


@pytest.fixture
def commands(tmp_path):
    """Makes models and pictures; gives what segments, translates and generates into a folder."""
    pictures = tmp_path / "in"
    pictures.mkdir()
    for index in range(24):
        pixels = np.random.default_rng(index).integers(0, 256, (20 + index % 3, 24, 3), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{index}.png")
    free = tf.TensorSpec([None, None, None, 3], tf.float32, name="image")
    conv = export(tmp_path / "conv", free, [3, 3, 3, 3], lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"))
    tanh = export(
        tmp_path / "tanh", free, [3, 3, 3, 3], lambda x, w: tf.tanh(tf.nn.conv2d(x, w, 1, "SAME"))
    )
    noise = tf.TensorSpec([None, 8], tf.float32, name="noise")
    decoder = export(
        tmp_path / "decoder", noise, [8, 48], lambda x, w: tf.reshape(tf.tanh(x @ w), [-1, 4, 4, 3])
    )
    source = [f"--input={pictures}", "--value_range=-1,1", "--batch_size=2"]
    many = ["--count=24", "--batch_size=2"]
    makes = ["generate", "--output_range=-1,1"]

    def make(out):
        return [
            ["segment", f"--model={conv}", f"--output={out}/masks", *source],
            [*makes, f"--model={tanh}", f"--output={out}/translated", *source],
            [*makes, f"--model={decoder}", f"--output={out}/generated", *many],
        ]

    return make


@pytest.mark.slow
def test_two_devices_give_the_bytes_of_one(commands, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_DEVICES), json.dumps(commands("two"))],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    codes, calls = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0, 0], done.stdout + done.stderr
    assert set(calls) == {"CPU:0", "CPU:1"}
    assert min(calls.values()) >= 10
    for arguments in commands("one"):
        assert cli.main([word.replace("=one/", f"={tmp_path}/one/") for word in arguments]) == 0
    for name in ("masks", "translated", "generated"):
        assert content(tmp_path / "two" / name) == content(tmp_path / "one" / name), name
