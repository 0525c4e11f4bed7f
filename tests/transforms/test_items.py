"""Plans of pictures to be made: every item once, labels in proportion, whatever the cut."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.inputs import Plan
from transforms.items import (
    NO_LABEL,
    class_counts,
    even_counts,
    item_labels,
    label_order,
    plan_items,
)
from transforms.listing import InputError

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(sum)


@given(COUNTS, st.integers(1, 50))
def test_every_item_comes_once_and_every_label_as_often_as_asked(counts, per_shard):
    plan = plan_items(counts, per_shard, labelled=True)
    items = [pair for shard in plan.shards for pair in item_labels(shard.items)]
    assert [number for number, _ in items] == list(range(sum(counts)))
    found = Counter(label for _, label in items)
    assert [found[label] for label in range(len(counts))] == counts


@given(COUNTS, st.integers(1, 50))
def test_shards_are_equal_to_within_one_and_no_larger_than_asked(counts, per_shard):
    sizes = [shard.records for shard in plan_items(counts, per_shard, True).shards]
    assert max(sizes) <= per_shard
    assert max(sizes) - min(sizes) <= 1


@given(COUNTS)
def test_every_beginning_has_the_labels_in_proportion(counts):
    order = label_order(counts)
    for length in range(1, len(order) + 1):
        found = np.bincount(order[:length], minlength=len(counts))
        wanted = np.array(counts) * length / len(order)
        assert np.abs(found - wanted).max() <= len(counts)


@given(COUNTS, st.integers(1, 50), st.booleans())
def test_a_plan_survives_its_file(counts, per_shard, labelled):
    plan = plan_items(counts, per_shard, labelled)
    assert Plan.from_lines(plan.to_lines()) == plan
    assert plan.records == sum(counts)


def test_a_model_without_labels_gets_none():
    plan = plan_items([5], 3, labelled=False)
    assert [item_labels(shard.items) for shard in plan.shards] == [
        [(0, NO_LABEL), (1, NO_LABEL)],
        [(2, NO_LABEL), (3, NO_LABEL), (4, NO_LABEL)],
    ]


def test_a_plan_of_a_million_is_small():
    plan = plan_items([100_000] * 10, 10_000, labelled=True)
    assert len(plan.shards) == 100
    assert len(plan.to_lines()) < 30_000


def test_counts_are_spread_evenly():
    assert even_counts(10, 4) == [3, 3, 2, 2]
    assert even_counts(10, 0) == [10]


def test_nothing_to_make_is_refused():
    with pytest.raises(InputError, match="--count or --per_class above 0"):
        plan_items([0, 0], 10, True)


@pytest.mark.parametrize(
    ("name", "text"), [("c.yaml", "cat: 3\n1: 5\n"), ("c.csv", "cat,3\n1, 5\n")]
)
def test_counts_by_class_are_read_from_files(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert class_counts(str(path), ("cat", "dog", "cow")) == [3, 5, 0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "bird: 3", "names the class 'bird'; the model has cat, dog"),
        ("c.yaml", "cat: -1", "expected a whole number"),
        ("c.yaml", "cat: many", "expected a whole number"),
        ("c.yaml", "[cat, dog]", "holds no class: count lines"),
        ("c.yaml", "cat: [", "cannot be read"),
        ("c.csv", "cat", "cannot be read"),
    ],
)
def test_wrong_counts_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        class_counts(str(path), ("cat", "dog"))


def test_a_number_is_for_every_class_and_anything_else_is_refused():
    assert class_counts("7", ("cat", "dog")) == [7, 7]
    with pytest.raises(InputError, match="neither a number nor a file"):
        class_counts("seven", ("cat", "dog"))
