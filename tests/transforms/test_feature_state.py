"""States of features: merged exactly, kept bounded, stored as the same bytes."""

import itertools

import numpy as np
import pytest

from transforms.distances import compare
from transforms.feature_state import (
    ALL,
    FeatureCollector,
    FeatureState,
    Observation,
    name_hash,
)
from transforms.fidelity import inception_score
from transforms.moments import Moments, frechet_distance

D, C = 6, 4


def observations(count, first=0, classes=C):
    found = []
    for i in range(first, first + count):
        rng = np.random.default_rng(i)
        p = rng.dirichlet(np.ones(classes))
        label = i % classes
        features = (rng.normal(size=D) + label).astype(np.float32)
        found.append(Observation(f"item {i}", i - first, label, features, p))
    return found


def state_of(rows, classes=C):
    collector = FeatureCollector(classes)
    for row in rows:
        collector.add(row)
    return collector.state()


def merged(parts):
    """Through files, as at the end of a run."""
    total = None
    for number, rows in enumerate(parts):
        state = FeatureState.from_bytes(state_of(rows).to_bytes(), number)
        total = state if total is None else total.merge(state)
    return total


def cut(rows, parts):
    edges = [len(rows) * i // parts for i in range(parts + 1)]
    return [rows[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("parts", [1, 7, 20])
def test_every_distance_is_the_same_in_any_number_of_shards(parts):
    made, real = observations(600), observations(900, first=10_000)
    whole = compare(state_of(made), state_of(real))
    found = compare(merged(cut(made, parts)), merged(cut(real, parts)))

    def same(a, b):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            for name in a:
                same(a[name], b[name])
        elif isinstance(a, float):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-9)
        else:
            assert a == b

    same(found, whole)
    assert whole["classes"].keys() == {"0", "1", "2", "3"}
    features = [np.stack([row.features for row in rows]) for rows in (made, real)]
    expected = frechet_distance(*map(Moments.of, features))
    assert found["all"]["frechet"] == pytest.approx(expected, rel=1e-9)
    assert (found["all"]["n"], found["all"]["m"]) == (600, 900)
    assert found["all"]["few"] is False
    assert found["classes"]["1"]["n"] == 150
    score = inception_score(merged(cut(made, parts)).all_scores())
    assert score == pytest.approx(inception_score(state_of(made).all_scores()), rel=1e-12)


def test_the_sample_depends_on_names_alone():
    rows = observations(300)
    whole = state_of(rows).sample
    for parts in (3, 11):
        shards = cut(rows, parts)
        sample = merged(shards).sample
        np.testing.assert_array_equal(sample.hashes, whole.hashes)
        np.testing.assert_array_equal(sample.features, whole.features)
        np.testing.assert_array_equal(sample.labels, whole.labels)
        for place, features in zip(sample.places.tolist(), sample.features, strict=True):
            np.testing.assert_array_equal(rows[place[1]].features, features)
            assert rows[place[1]] in shards[place[0]]
    small = whole.merge(whole.merge(whole, 0), 10)
    assert small.hashes.tolist() == sorted(name_hash(row.key) for row in rows)[:10]
    assert whole.merge(state_of(observations(50, 5000)).sample, 7).hashes.size == 7


def test_the_same_state_is_the_same_bytes():
    rows = observations(80)
    assert state_of(rows).to_bytes() == state_of(rows).to_bytes()
    again = FeatureState.from_bytes(state_of(rows).to_bytes(), 0)
    assert again.to_bytes() == state_of(rows).to_bytes()


def test_scatters_by_class_are_left_out_where_they_would_be_too_large():
    state = state_of(observations(40), classes=10**7)
    assert set(state.moments) == {ALL}
    assert state.all_moments().n == 40
    assert compare(state, state)["classes"] == {}


def test_no_pictures_have_no_state():
    assert FeatureCollector(3).state() is None


@pytest.mark.parametrize("data", [b"", b"no npz", state_of(observations(5)).to_bytes()[:90]])
def test_a_damaged_file_is_refused(data):
    with pytest.raises(ValueError, match="it is no state of features"):
        FeatureState.from_bytes(data, 0)
