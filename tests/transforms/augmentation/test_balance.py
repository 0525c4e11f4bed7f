"""How many copies bring classes to what they are to have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.augmentation.balance import plan_copies, read_have
from transforms.augmentation.draws import Draws
from transforms.augmentation.recipe import Balance, RecipeError


def plan(counts, per_image=0, have=None, name="shard", **balance):
    return plan_copies(counts, per_image, Balance(**balance), have, Draws(1, name))


def totals(counts, copies):
    found: dict[int, int] = {}
    for each, times in zip(counts, copies, strict=True):
        for c, n in each.items():
            found[c] = found.get(c, 0) + n * (1 + int(times))
    return found


LABELS = [{0: 1}] * 9 + [{1: 1}] * 3 + [{2: 1}]


def test_labels_are_brought_to_the_largest():
    copies = plan(LABELS, max_copies=20).of
    assert totals(LABELS, copies) == {0: 9, 1: 9, 2: 9}
    assert copies.tolist() == [0] * 9 + [2] * 3 + [8]  # in turns


def test_a_number_for_all_or_for_each():
    assert totals(LABELS, plan(LABELS, target=12, max_copies=20).of) == {0: 12, 1: 12, 2: 12}
    found = plan(LABELS, target={1: 5, 2: 4})
    assert totals(LABELS, found.of) == {0: 9, 1: 5, 2: 4}


def test_copies_that_all_get_count():
    found = plan(LABELS, per_image=1, target=12, max_copies=20)
    assert totals(LABELS, found.of) == {0: 18, 1: 12, 2: 12}


def test_caps_hold_and_what_lacks_is_told():
    found = plan(LABELS, max_copies=2)
    assert found.of.max() == 2
    assert found.short() == {2: 6}
    found = plan(LABELS, max_copies=100, max_synthetic_share=0.25)
    assert found.of.sum() == 4  # of 13 pictures: 4 / 17 is the most below a quarter
    assert found.of[-1] == 4, "the class that lacks most comes first"


def test_pixels_go_to_pictures_that_show_most():
    counts = [{0: 90, 1: 10}, {0: 50, 1: 50}, {0: 100}]
    found = plan(counts, by="pixels", target={1: 150})
    assert found.of.tolist() == [1, 2, 0]  # 60 + 50 + 10 + 50
    assert plan(counts, by="images", target={1: 3}).of.tolist() == [1, 0, 0]


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(
        st.dictionaries(st.integers(0, 4), st.integers(1, 50), min_size=1), min_size=1, max_size=30
    ),
    per_image=st.integers(0, 2),
    by=st.sampled_from(["images", "pixels"]),
    most=st.integers(2, 9),
    share=st.floats(0.1, 0.9),
)
def test_bounds_hold_for_any_shard(counts, per_image, by, most, share):
    found = plan(counts, per_image, by=by, max_copies=most, max_synthetic_share=share)
    again = plan(counts, per_image, by=by, max_copies=most, max_synthetic_share=share)
    assert found.of.tolist() == again.of.tolist()
    assert (found.of >= per_image).all() and found.of.max() <= most
    extra = found.of.sum() - per_image * len(counts)
    assert extra == 0 or found.of.sum() <= len(counts) * share / (1 - share) + 1e-6
    for c, need in found.need.items():
        full = all(n == most for each, n in zip(counts, found.of, strict=True) if c in each)
        room = len(counts) * share / (1 - share) - found.of.sum()
        assert found.got[c] >= need or full or room < 1


def test_shards_make_their_share_of_what_the_whole_needs():
    """By counts of the whole, shards together make what it needs, each by itself."""
    rng = np.random.default_rng(3)
    shards = [[{int(c): 1} for c in rng.choice(3, 40, p=[0.7, 0.25, 0.05])] for _ in range(60)]
    have = {c: sum(each.get(c, 0) for shard in shards for each in shard) for c in range(3)}
    made = {0: 0, 1: 0, 2: 0}
    for number, shard in enumerate(shards):
        found = plan(shard, have=have, name=str(number), target=900, max_copies=30)
        for each, times in zip(shard, found.of, strict=True):
            made[next(iter(each))] += int(times)
    for c in (1, 2):
        assert have[c] + made[c] == pytest.approx(900, rel=0.05)
    assert made[0] == 0


def test_counts_of_the_whole_are_read(tmp_path):
    (tmp_path / "metrics.json").write_text('{"sums": {"class_pixels": [5, 7], "labels": {"3": 2}}}')
    assert read_have(f"{tmp_path}/metrics.json", "pixels") == {0: 5, 1: 7}
    assert read_have(f"{tmp_path}/metrics.json", "images") == {3: 2}
    (tmp_path / "counts.yaml").write_text("3: 40\n")
    assert read_have(f"{tmp_path}/counts.yaml", "images") == {3: 40}
    (tmp_path / "wrong.yaml").write_text("- 3\n")
    with pytest.raises(RecipeError, match="holds no counts of images"):
        read_have(f"{tmp_path}/wrong.yaml", "images")
    with pytest.raises(RecipeError, match="cannot read"):
        read_have(f"{tmp_path}/none.yaml", "images")
