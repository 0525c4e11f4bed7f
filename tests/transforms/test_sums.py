"""The algebra of metrics: any order, any cut, the same sums; quantiles and means from them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.sums import add, exact_quantiles, histogram_mean, log_bin, plain, quantiles

# One kind of value by name, as operators keep to.
COUNTS = st.integers(-(10**15), 10**15)
SUMS = st.fixed_dictionaries(
    {},
    optional={
        "count": COUNTS,
        "list": st.lists(COUNTS, max_size=5),
        "bins": st.dictionaries(st.sampled_from("abcde"), COUNTS, max_size=4),
        "deep": st.fixed_dictionaries({}, optional={"x": COUNTS, "y": st.lists(COUNTS)}),
    },
)


def total(parts):
    merged = {}
    for part in parts:
        merged = add(merged, part)
    return merged


@given(SUMS, SUMS, SUMS)
def test_addition_is_associative_and_commutative_with_a_zero(a, b, c):
    assert add(a, add(b, c)) == add(add(a, b), c)
    assert add(a, b) == add(b, a)
    assert add(a, {}) == a == add({}, a)


@given(st.lists(SUMS, max_size=8), st.data())
def test_any_cut_and_any_order_give_the_same_sum(parts, data):
    cut = data.draw(st.integers(0, len(parts)))
    shuffled = data.draw(st.permutations(parts))
    assert add(total(parts[:cut]), total(parts[cut:])) == total(parts) == total(shuffled)


@given(SUMS, SUMS)
def test_addition_changes_neither_side(a, b):
    before = json.dumps([a, b])
    add(a, b)
    assert json.dumps([a, b]) == before


@given(SUMS, SUMS)
def test_plain_sums_have_one_spelling_in_json(a, b):
    assert json.dumps(plain(add(a, b))) == json.dumps(plain(add(b, a)))
    assert json.loads(json.dumps(plain(a))) == plain(a) == a


def test_arrays_add_up_and_become_lists():
    a = {"h": np.array([1, 2, 3]), "n": {"m": np.array([[1, 2], [3, 4]])}}
    assert plain(add(a, a)) == {"h": [2, 4, 6], "n": {"m": [[2, 4], [6, 8]]}}
    assert a["h"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, [1]),
        ([1], {"a": 1}),
        (1.5, 2.5),
        (1, 2.5),
        ("a", "b"),
        (None, 1),
        (np.array([1]), [1]),
        (np.array([1, 2]), np.array([1])),
    ],
)
def test_kinds_that_do_not_add_are_refused_by_name(a, b):
    for left, right in ((a, b), (b, a)):
        with pytest.raises(TypeError, match="speed"):
            add({"speed": left}, {"speed": right})


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_quantiles_are_within_one_percent(sigma, count):
    values = np.random.default_rng(4).lognormal(5, sigma, count)
    bins = total(log_bin(value) for value in values)
    at = (0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
    true = np.quantile(values, at, method="inverted_cdf")
    np.testing.assert_allclose(quantiles(bins, at), true, rtol=0.01)


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=30))
def test_the_median_of_anything_positive_is_within_one_percent(values):
    (median,) = quantiles(total(log_bin(value) for value in values), (0.5,))
    assert median == pytest.approx(np.quantile(values, 0.5, method="inverted_cdf"), rel=0.01)


def test_quantiles_of_zeros_and_of_nothing():
    bins = total(log_bin(value) for value in (0, 0, 0, -3, 10))
    assert quantiles(bins, (0.0, 0.5, 0.8)) == [0.0, 0.0, 0.0]
    assert quantiles(bins, (1.0,))[0] == pytest.approx(10, rel=0.01)
    assert all(math.isnan(value) for value in quantiles({}, (0.1, 0.9)))


def test_bins_below_one_sort_by_value_not_by_name():
    bins = total(log_bin(value) for value in (0.001, 0.5, 2, 900))
    got = quantiles(bins, (0.25, 0.5, 0.75, 1.0))
    np.testing.assert_allclose(got, [0.001, 0.5, 2, 900], rtol=0.01)


def test_quantiles_survive_a_trip_through_json():
    bins = total(log_bin(value) for value in range(1, 200))
    assert quantiles(json.loads(json.dumps(bins)), (0.3,)) == quantiles(bins, (0.3,))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=200))
def test_histogram_mean_is_the_mean_of_what_was_counted(bytes_):
    counts = np.bincount(bytes_, minlength=256).tolist()
    assert histogram_mean(counts) == pytest.approx(np.mean(bytes_) / 255)


def test_histogram_mean_of_nothing_is_not_a_number():
    assert math.isnan(histogram_mean([0] * 256))


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_of_counted_whole_numbers_are_exact(values, q):
    counts = total({str(value): 1} for value in values)
    assert exact_quantiles(counts, (q,)) == [np.quantile(values, q, method="inverted_cdf")]
