"""A model that raises, runs out of memory or hangs: what it costs, and what it says."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from models.errors import UserError
from transforms.failures import Failure
from transforms.records import Record
from transforms.survive import Survivor

ROOT = Path(__file__).parents[2]
POISON, HANGS = 13, 66


class Double:
    """Answers ten times the value; raises for POISON, runs out of memory above a number of rows."""

    def __init__(self, batch_size, memory=10**9, fixed=None, hang_s=30.0):
        self.batch_size = batch_size
        self.binding = SimpleNamespace(fixed_batch=fixed)
        self.calls = []
        self._memory = memory
        self._hang_s = hang_s

    def __call__(self, values):
        values = list(values)
        rows = self.batch_size  # padded to a full batch, as models of one size are
        assert len(values) <= rows
        self.calls.append(len(values))
        if rows > self._memory:
            raise tf.errors.ResourceExhaustedError(None, None, f"OOM for {rows} rows")
        if POISON in values:
            raise ValueError("unlucky")
        if HANGS in values:
            threading.Event().wait(self._hang_s)
        return [10 * value for value in values]


def survivor(double, timeout_s=0.0, load=None):
    return Survivor(load or (lambda: double), lambda v: v, lambda v: f"item {v}", timeout_s)


def items(values):
    return [(Record(index, str(index), ""), value) for index, value in enumerate(values)]


def values_of(answers):
    return [value.reason if isinstance(value, Failure) else value for _, value in answers]


def test_a_poisoned_batch_costs_one_row():
    double = Double(32)
    values = [*range(100, 119), POISON, *range(119, 131)]
    answers = survivor(double)(items(values))
    assert values_of(answers) == ["model_error" if v == POISON else 10 * v for v in values]
    assert answers[19][1].message == "the model failed on this item 13: ValueError: unlucky"
    assert len(double.calls) <= 2 * 5 + 1


def test_too_little_memory_halves_the_batch_for_good_and_says_so(capsys):
    double = Double(32, memory=4)
    model = survivor(double)
    assert values_of(model(items(range(100, 132)))) == [10 * v for v in range(100, 132)]
    assert double.batch_size == 4
    assert "ran out of memory with batches of 8; going on with 4" in capsys.readouterr().err
    double.calls.clear()
    assert len(model(items(range(100, 132)))) == 32
    assert double.calls == [4] * 8, "the new size is remembered, nothing is tried in vain"
    assert capsys.readouterr().err == ""


def test_a_short_batch_that_is_padded_runs_out_too_and_is_saved():
    """The last batch of a shard: one item, padded to 8 rows."""
    double = Double(8, memory=2)
    assert values_of(survivor(double)(items([5]))) == [50]
    assert double.batch_size == 2


def test_an_item_that_is_too_large_alone_fails_alone_and_leaves_the_batch_size(capsys):
    class Large(Double):
        def __call__(self, values):
            if POISON in values:
                raise MemoryError("no room")
            return super().__call__(values)

    double = Large(4)
    answers = survivor(double)(items([1, POISON, 2, 3]))
    assert values_of(answers) == [10, "out_of_memory", 20, 30]
    assert "Give --max_side or --image_size" in answers[1][1].message
    assert double.batch_size == 4
    assert capsys.readouterr().err == ""


def test_a_fixed_batch_cannot_be_halved():
    answers = survivor(Double(8, memory=4, fixed=8))(items([1, 2, 3]))
    assert values_of(answers) == ["out_of_memory"] * 3


def test_failures_pass_by_in_their_places():
    failed = Failure("decode", "corrupt", "x")
    assert survivor(Double(4))(items([1, failed, 2])) == items([10, failed, 20])
    assert survivor(Double(4))([]) == []


def test_a_call_that_hangs_fails_its_batch_and_the_model_is_loaded_anew():
    loaded = []

    def load():
        loaded.append(Double(4))
        return loaded[-1]

    model = survivor(None, 0.2, load)
    begin = time.monotonic()
    answers = model(items([1, HANGS]))
    assert time.monotonic() - begin < 5
    assert values_of(answers) == ["timeout"] * 2
    assert "no answer within 0.2 s" in answers[0][1].message
    assert len(loaded) == 2
    assert values_of(model(items([1, 2]))) == [10, 20]


def test_a_model_that_hangs_again_and_again_is_given_up():
    model = survivor(None, 0.05, lambda: Double(4))
    for _ in range(3):
        assert values_of(model(items([HANGS]))) == ["timeout"]
    with pytest.raises(UserError, match="3 times in one process; raise --batch_timeout_s"):
        model(items([1]))


def test_two_calls_that_hang_at_once_cost_one_model():
    loaded = []
    model = survivor(None, 0.3, lambda: loaded.append(Double(4)) or loaded[-1])
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(model, [items([HANGS]), items([HANGS])]))
    assert [values_of(answer) for answer in answers] == [["timeout"]] * 2
    assert len(loaded) == 2
    assert values_of(model(items([1]))) == [10]


def test_two_batches_that_are_too_large_at_once_are_halved_once(capsys):
    """Both are under way when memory runs out, so that both are refused."""
    meeting = threading.Barrier(2)

    class Pair(Double):
        def __call__(self, values):
            if len(values) == 4:
                meeting.wait(20)
            return super().__call__(values)

    double = Pair(4, memory=2)
    model = survivor(double)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(model, [items([1, 2, 3, 4]), items([5, 6, 7, 8])]))
    assert [values_of(answer) for answer in answers] == [[10, 20, 30, 40], [50, 60, 70, 80]]
    assert double.batch_size == 2
    assert capsys.readouterr().err.count("going on with 2") >= 1


def test_what_has_no_room_beside_another_call_is_tried_alone():
    """Each needs all the memory: two at once are refused, whatever the batch size."""
    meeting, inside = threading.Barrier(2), threading.Semaphore(1)

    class Large(Double):
        def __call__(self, values):
            if len(self.calls) < 2:
                self.calls.append(0)
                meeting.wait(20)
            if not inside.acquire(blocking=False):
                raise MemoryError("no room")
            try:
                time.sleep(0.2)
                return super().__call__(values)
            finally:
                inside.release()

    model = survivor(Large(1))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(model, [items([1]), items([2])]))
    assert [values_of(answer) for answer in answers] == [[10], [20]]


def test_an_error_in_time_is_no_hang():
    assert values_of(survivor(Double(4), 60.0)(items([1, POISON]))) == [10, "model_error"]


def test_a_hung_call_does_not_keep_the_process_alive():
    code = """
        import time
        from types import SimpleNamespace
        from transforms.records import Record
        from transforms.survive import Survivor

        class Hanging:
            batch_size = 1
            binding = SimpleNamespace(fixed_batch=None)
            def __call__(self, values):
                time.sleep(600)

        model = Survivor(Hanging, lambda v: v, str, 0.1)
        print(model([(Record(0, "a", ""), 1)])[0][1].reason)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "timeout", done.stderr
    assert done.returncode == 0
