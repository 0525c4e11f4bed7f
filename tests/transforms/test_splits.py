"""The split: by name alone, in the asked proportion, groups together."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from transforms.splits import is_validation

NAMES = [f"video{i % 40:02d}/frame_{i:05d}.png" for i in range(4000)]


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_share_is_about_what_was_asked_for(fraction):
    share = sum(is_validation(name, fraction) for name in NAMES) / len(NAMES)
    assert abs(share - fraction) < 0.03


def test_nothing_and_everything():
    assert not any(is_validation(name, 0.0) for name in NAMES)
    assert all(is_validation(name, 1.0) for name in NAMES)


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_only_adds(key, a, b):
    low, high = sorted((a, b))
    assert is_validation(key, high) or not is_validation(key, low)


@pytest.mark.parametrize("pattern", ["^[^/]+", "^(video..)/frame"])
def test_groups_stay_together(pattern):
    sides = {}
    for name in NAMES:
        found = is_validation(name, 0.3, re.compile(pattern))
        sides.setdefault(name.split("/")[0], set()).add(found)
    assert all(len(side) == 1 for side in sides.values())
    assert {True, False} == {side.copy().pop() for side in sides.values()}


def test_a_group_is_split_as_a_record_of_that_name():
    for name in NAMES[:40]:
        group = name.split("/")[0]
        assert is_validation(name, 0.4, re.compile("^[^/]+")) == is_validation(group, 0.4)


def test_a_name_without_the_group_is_refused():
    with pytest.raises(UserError, match=r"is not in the name 'a\.png'"):
        is_validation("a.png", 0.2, re.compile("^video"))


def test_the_split_never_changes():
    """Else a resumed training, or next year's, would validate with what it was trained on."""
    assert [is_validation(name, 0.2) for name in ("a", "b", "c", "d", "e", "f", "g")] == [
        False, False, False, False, True, True, False,
    ]  # fmt: skip


def test_a_group_that_took_no_part_in_the_match_is_refused():
    with pytest.raises(UserError, match=r"is not in the name 's01\.png'"):
        is_validation("s01.png", 0.2, re.compile(r"(x)?s"))
