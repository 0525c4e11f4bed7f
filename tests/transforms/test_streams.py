"""Order, bounds and completeness of the generators that overlap work."""

import contextlib
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.failures import Failure
from transforms.records import Record
from transforms.streams import (
    Ahead,
    Window,
    attempt,
    batches_by_shape,
    in_order,
    ordered_map,
)

FAILED = Failure("decode", "corrupt", "made to fail")
MANY_BYTES = 1 << 40


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(4) as executor:
        yield executor


def items_of(values):
    """Records in order; None stands for a failure."""
    return [
        (Record(i, str(i), ""), FAILED if value is None else value)
        for i, value in enumerate(values)
    ]


def batched(values, size=3, window=Window(1000, MANY_BYTES), weight=1):
    return list(
        batches_by_shape(items_of(values), lambda v: v, lambda _: size, lambda _: weight, window)
    )


def indices(batches):
    return [[record.index for record, _ in batch] for batch in batches]


def test_ordered_map_keeps_the_order_under_random_delays(pool):
    rng = random.Random(1)
    delays = [rng.random() * 0.004 for _ in range(80)]

    def slow(number):
        time.sleep(delays[number])
        return number * 2

    assert list(ordered_map(pool, slow, range(80), lambda: 8)) == [2 * n for n in range(80)]


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_ordered_map_takes_no_more_items_than_its_bound(pool, ahead):
    taken = 0

    def source():
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    for done, _ in enumerate(ordered_map(pool, lambda n: n, source(), lambda: ahead)):
        assert taken - done <= max(1, ahead) + 1


def test_ordered_map_runs_as_many_at_once_as_allowed_and_no_more(pool):
    running, most = 0, 0
    lock, three = threading.Lock(), threading.Barrier(3)

    def watch(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        three.wait(5)  # goes on only when three run at once
        with lock:
            running -= 1

    list(ordered_map(pool, watch, range(30), lambda: 3))
    assert most == 3


def test_ordered_map_asks_for_its_bound_before_each_item(pool):
    bounds = itertools.chain([4] * 10, itertools.repeat(1))
    taken = 0

    def source():
        nonlocal taken
        for number in range(30):
            taken += 1
            yield number

    for done, _ in enumerate(ordered_map(pool, lambda n: n, source(), lambda: next(bounds))):
        if done > 15:
            assert taken - done <= 2


def test_an_exception_comes_in_the_place_of_its_item_and_the_pool_stays_usable(pool):
    def fail_at_7(number):
        if number == 7:
            raise KeyError("seven")
        return number

    got = []
    with pytest.raises(KeyError, match="seven"):
        for value in ordered_map(pool, fail_at_7, range(1000), lambda: 5):
            got.append(value)  # what came before the error matters
    assert got == list(range(7))
    assert list(ordered_map(pool, lambda n: -n, range(9), lambda: 4)) == [-n for n in range(9)]


def test_an_exception_of_the_source_comes_through(pool):
    def source():
        yield 1
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(ordered_map(pool, lambda n: n, source(), lambda: 4))


def test_a_consumer_that_leaves_cancels_what_has_not_begun():
    release, begun = threading.Event(), []

    def work(number):
        begun.append(number)
        if number:
            release.wait(5)
        return number

    with ThreadPoolExecutor(1) as executor:
        results = ordered_map(executor, work, range(100), lambda: 10)
        assert next(results) == 0
        results.close()
        release.set()
    assert set(begun) <= {0, 1}


def test_waiting_is_entered_only_for_results_that_are_not_ready(pool):
    waited, gate = 0, threading.Event()

    @contextlib.contextmanager
    def waiting():
        nonlocal waited
        waited += 1
        gate.set()
        yield

    results = ordered_map(pool, lambda n: n or gate.wait(5), range(1), lambda: 4, waiting)
    assert list(results) == [True]
    assert waited == 1


def test_attempt_lets_failures_pass_and_catches_failures_only():
    def refuse(value):
        raise Failure("model", "not_finite", f"got {value}")

    def crash(value):
        raise ZeroDivisionError

    record = Record(0, "a", "a")
    assert attempt(str)((record, 5)) == (record, "5")
    assert attempt(crash)((record, FAILED)) == (record, FAILED)
    _, failure = attempt(refuse)((record, 5))
    assert isinstance(failure, Failure) and failure.reason == "not_finite"
    with pytest.raises(ZeroDivisionError):
        attempt(crash)((record, 5))


def test_look_ahead_shrinks_with_the_heaviest_item():
    ahead = Ahead(items=64, budget_bytes=1000, at_least=4)
    assert ahead() == 4  # nothing is known yet
    ahead.saw(10)
    assert ahead() == 64
    ahead.saw(50)
    ahead.saw(20)
    assert ahead() == 20
    ahead.saw(5000)
    assert ahead() == 4


@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from("abcd")), max_size=60),
    size=st.integers(1, 6),
    window=st.builds(Window, items=st.integers(1, 20), size_bytes=st.integers(1, 40)),
    weight=st.integers(0, 5),
)
def test_batches_hold_every_item_once_by_shape_within_all_limits(values, size, window, weight):
    consumed = 0

    def source():
        nonlocal consumed
        for item in items_of(values):
            consumed += 1
            yield item

    batches, seen = [], set()
    stream = batches_by_shape(source(), lambda v: v, lambda _: size, lambda _: weight, window)
    for batch in stream:
        batches.append(batch)
        seen.update(record.index for record, _ in batch)
        open_items = [i for i in range(consumed) if i not in seen and values[i] is not None]
        if consumed < len(values) and open_items:
            # the newest may be there already while older batches are still being handed out
            assert consumed - 1 - min(open_items) <= window.items
    assert sorted(i for batch in indices(batches) for i in batch) == list(range(len(values)))
    for batch in batches:
        shapes = {value for _, value in batch}
        assert len(shapes) == 1 and len(batch) <= (1 if FAILED in shapes else size)
    assert indices(batches) == indices(batched(values, size, window, weight))


@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from("abcd")), max_size=60),
    size=st.integers(1, 6),
    items=st.integers(1, 20),
)
def test_order_is_restored_in_memory_bounded_by_the_window(values, size, items):
    handed_in = 0

    def counted():
        nonlocal handed_in
        for batch in batched(values, size, Window(items, MANY_BYTES)):
            handed_in += len(batch)
            yield batch

    for index, (record, value) in enumerate(in_order(counted())):
        assert record.index == index
        assert value == (FAILED if values[index] is None else values[index])
        assert handed_in - index <= items + size
    assert handed_in == len(values)


def test_full_batches_go_at_once_and_tails_at_the_end():
    assert indices(batched("aabbab", size=3)) == [[0, 1, 4], [2, 3, 5]]
    assert indices(batched("aaaaa", size=2)) == [[0, 1], [2, 3], [4]]
    assert indices(batched("abc", size=2)) == [[0], [1], [2]]
    assert batched("") == []


def test_failures_pass_the_waiting_batches():
    assert indices(batched(["a", None, "a"], size=2)) == [[1], [0, 2]]


def test_a_rare_shape_is_flushed_when_the_window_is_full():
    assert indices(batched("abbbbbb", size=2, window=Window(4, MANY_BYTES))) == [
        [1, 2],
        [3, 4],
        [0],
        [5, 6],
    ]


def test_failures_count_for_the_window():
    values = ["a", None, None, None, "a"]
    assert indices(batched(values, size=2, window=Window(2, MANY_BYTES))) == [
        [1],
        [2],
        [0],
        [3],
        [4],
    ]


def test_weight_flushes_the_oldest_shape():
    assert indices(batched("abc", size=9, window=Window(99, 5), weight=2)) == [[0], [1], [2]]
    heavy = batched("aaaa", size=9, window=Window(99, 5), weight=2)
    assert indices(heavy) == [[0, 1, 2], [3]]


def test_one_item_heavier_than_the_window_goes_alone():
    assert indices(batched("aa", size=9, window=Window(99, 5), weight=6)) == [[0], [1]]


def test_batch_size_may_depend_on_the_shape():
    batches = batches_by_shape(
        items_of("aabbbb"), lambda v: v, {"a": 1, "b": 4}.get, lambda _: 1, Window(99, 99)
    )
    assert indices(batches) == [[0], [1], [2, 3, 4, 5]]


@given(st.permutations(range(12)), st.integers(1, 5))
def test_any_order_is_restored(order, size):
    items = items_of(range(12))
    batches = [[items[i] for i in order[at : at + size]] for at in range(0, 12, size)]
    assert list(in_order(batches)) == items


@given(st.permutations(range(12)), st.integers(0, 10))
def test_a_lost_record_is_an_error(order, lost):
    items = items_of(range(12))
    with pytest.raises(ValueError, match=f"record {lost} is missing, the next is {lost + 1}"):
        list(in_order([items[i]] for i in order if i != lost))


@given(st.permutations(range(12)), st.integers(0, 11), st.integers(0, 12))
def test_a_record_that_comes_twice_is_an_error(order, twice, at):
    items = items_of(range(12))
    doubled = [*order[:at], twice, *order[at:]]
    with pytest.raises(ValueError, match=f"record {twice} came twice"):
        list(in_order([items[i]] for i in doubled))


def test_the_whole_chain_loses_nothing_whatever_fails(pool):
    rng = random.Random(5)
    values = [None if rng.random() < 0.2 else rng.choice([1, 2, 3]) for _ in range(300)]

    def decode(value):
        time.sleep(rng.random() * 0.0005)
        if rng.random() < 0.1:
            raise Failure("decode", "corrupt", "by chance")
        return value

    def model(batch):
        return [
            (r, v if isinstance(v, Failure) else (len({x for _, x in batch}), v)) for r, v in batch
        ]

    decoded = ordered_map(pool, attempt(decode), items_of(values), lambda: 16)
    batches = batches_by_shape(decoded, lambda v: v, lambda _: 8, lambda _: 1, Window(20, 99))
    answers = in_order(ordered_map(pool, model, batches, lambda: 3))
    out = list(ordered_map(pool, attempt(lambda v: v[1]), answers, lambda: 16))
    assert [record.index for record, _ in out] == list(range(300))
    for (_, value), given_value in zip(out, values, strict=True):
        assert value == given_value or isinstance(value, Failure)
        assert given_value is not None or isinstance(value, Failure)
    assert sum(not isinstance(value, Failure) for _, value in out) > 150
