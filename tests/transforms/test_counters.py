"""Counters and distributions: merged in any order, shown by the engine, equal in metrics.json."""

from hypothesis import given
from hypothesis import strategies as st

from transforms.clock import Clock
from transforms.counters import (
    BATCH_SIZE,
    LATENCY,
    QUEUE_WAIT,
    distribution,
    image_counters,
    merge_distributions,
)

VALUES = st.lists(st.integers(0, 10**9), max_size=20)


@given(VALUES, VALUES)
def test_distributions_of_parts_merge_to_that_of_the_whole(one: list[int], two: list[int]) -> None:
    parts = [{"n": d} for values in (one, two) if (d := distribution(values)) is not None]
    merged = merge_distributions(*parts) if len(parts) == 2 else (parts or [{}])[0]
    whole = distribution(one + two)
    assert merged == ({} if whole is None else {"n": whole})


def test_counters_of_images_add_up() -> None:
    found = image_counters(10, 7, {"timeout": 1, "corrupt": 2})
    assert found == {
        "images_read": 10,
        "images_written": 7,
        "images_failed": 3,
        "images_failed_corrupt": 2,
        "images_failed_timeout": 1,
    }


def test_a_clock_notes_each_call_of_the_model_and_none_without_items() -> None:
    clock = Clock()
    for items in (3, 0, 5):
        with clock.model(items):
            pass
    with clock("wait"):
        pass
    found = clock.distributions()
    assert found[BATCH_SIZE] == {"count": 2, "sum": 8, "min": 3, "max": 5}
    assert found[LATENCY]["count"] == 2 and found[QUEUE_WAIT]["count"] == 1
