"""Several sets as one: every example once in an order drawn, in memory or not; their survey."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transforms.inputs import cut
from transforms.listing import list_input
from transforms.training_data import Reading, TrainingSet
from transforms.training_mix import Mix, joined


def folder(root: Path, first: int, count: int) -> Path:
    """Pictures of one level, by which they are known, in two classes."""
    for level in range(first, first + count):
        path = root / ("odd" if level % 2 else "even") / f"{level}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 3 + level % 2), level, np.uint8)).save(path)
    return root


def training_set(root: Path, cache_bytes: int) -> TrainingSet:
    reading = Reading("labels", folders=("even", "odd"))
    return TrainingSet(cut(list_input(str(root)), 5).shards, reading, 0.0, None, cache_bytes)


@pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
def test_every_example_comes_once_and_sets_are_mixed(tmp_path: Path, cache_bytes: int) -> None:
    a = training_set(folder(tmp_path / "a", 0, 60), cache_bytes)
    b = training_set(folder(tmp_path / "b", 100, 30), cache_bytes)
    test = training_set(folder(tmp_path / "c", 200, 4), cache_bytes)
    for data in (a, b, test):
        data.survey()
    mix = Mix([(a, 60), (b, 30)], test)
    assert mix.in_memory == bool(cache_bytes)

    def levels(seed: int) -> list[int]:
        return [int(e.pixels[0, 0, 0]) for e in mix.examples("train", np.random.default_rng(seed))]

    found = levels(0)
    assert sorted(found) == [*range(60), *range(100, 130)]
    assert levels(0) == found != levels(1)
    places = [i for i, level in enumerate(found) if level >= 100]
    assert 30 < np.mean(places) < 60  # 44.5, with a deviation of 4: spread over the epoch
    unmixed = [int(e.pixels[0, 0, 0]) for e in mix.examples("train")]
    assert sorted(unmixed) == sorted(found) and max(unmixed[:60]) < 60
    assert sorted(e.label or 0 for e in mix.examples("validation")) == [0, 0, 1, 1]


def test_repeats_are_mixed_too(tmp_path: Path) -> None:
    a = training_set(folder(tmp_path / "a", 0, 4), 1 << 20)
    b = training_set(folder(tmp_path / "b", 100, 2), 1 << 20)
    for data in (a, b):
        data.survey()
    mix = Mix([(a, 8), (b, 4)], a)
    order = np.random.default_rng(0)
    found = [int(e.pixels[0, 0, 0]) for e in mix.examples("train", order, lambda e: 2)]
    assert sorted(found) == sorted([*range(4), 100, 101] * 2)


def test_the_joined_survey_is_that_of_all_files(tmp_path: Path) -> None:
    surveys = [
        training_set(folder(tmp_path / name, first, count), 0).survey()
        for name, first, count in (("a", 0, 5), ("b", 100, 3), ("c", 200, 2))
    ]
    both = training_set(folder(folder(tmp_path / "ab", 0, 5), 100, 3), 0).survey()
    found = joined(surveys[:2], surveys[2])
    assert found.counts["train"].tolist() == both.counts["train"].tolist() == [5, 3]
    assert found.images["validation"].tolist() == [1, 1]
    assert found.sizes_hw["train"] == both.sizes_hw["train"]
    assert sorted(found.keys["train"]) == sorted(both.keys["train"])
    assert found.texts == {0: "even", 1: "odd"}
    assert found.first_with == {0: surveys[0].first_with[0], 1: surveys[0].first_with[1]}
    assert found.grey
