"""What holds for every step: ids stay ids, nothing drawn is nothing done, all is repeatable."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.augmentation import steps as kinds
from transforms.augmentation.apply import make_copy, repeat_copy
from transforms.augmentation.recipe import parse_recipe
from transforms.augmentation.scene import Scene
from transforms.failures import Failure

IGNORE = 255
ALL = {
    model.model_fields["step"].annotation.__args__[0]: model
    for model in kinds.Step.__origin__.__args__
}
FIELDS: dict[str, dict[str, object]] = {"copy_paste": {"classes": [1, 2, 3], "min_pixels": 1}}
MASKED = sorted(set(ALL) - {"mixup"})
# drawn from such ranges, a step does nothing
STILL: dict[str, dict[str, object]] = {
    "flip": {"p": 0},
    "rotate": {"degrees": [0, 0]},
    "scale_crop": {"scale": [1, 1]},
    "elastic": {"amount": 0},
    "perspective": {"amount": 0},
    "colour": {"brightness": [0, 0], "contrast": [1, 1], "saturation": [1, 1]},
    "gamma": {"gamma": [1, 1]},
    "noise": {"sigma": [0, 0]},
    "blur": {"radius_px": [0, 0]},
    "night": {"darkness": [0, 0]},
    "fog": {"density": [0, 0]},
    "mixup": {"weight": [0, 0]},
}


def step(name, **fields):
    made = parse_recipe(
        {"source": "a", "publish": "b", "steps": [{"step": name, **FIELDS.get(name, {}), **fields}]}
    )
    return made.steps[0]


def scene(seed, size_hw=(17, 23), dtype=np.uint8, index=0, masked=True):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    mask = rng.choice(np.array([1, 2, 3, 7, 200], dtype), size_hw)
    labels = ((seed % 5, 1.0),)
    return Scene(pixels, mask if masked else None, labels, key=f"s{seed}", index=index)


class One:
    """A shard of two: the other one is the partner."""

    def __init__(self, other):
        self.other = other

    def choose(self, draws, index, classes=()):
        return self.other


def copy_of(one, steps, other=None, copy=0, seed=0):
    partners = One(other) if other is not None else None
    return make_copy(one, steps, seed=seed, copy=copy, ignore_id=IGNORE, partners=partners)


def test_every_step_is_tried_here():
    assert set(ALL) == {*STILL, "quarter_turn", "jpeg", "cutout", "cutmix", "copy_paste"}


@pytest.mark.parametrize("name", MASKED)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    wide=st.booleans(),
)
def test_ids_never_blend(name, seed, height, width, wide):
    dtype = np.uint16 if wide else np.uint8
    one, other = scene(seed, (height, width), dtype), scene(seed + 1, (13, 9), dtype, index=1)
    made, done = copy_of(one, [step(name)], other, copy=seed)
    allowed = {*np.unique(one.mask).tolist(), IGNORE}
    if any("partner" in each for each in done):
        allowed |= set(np.unique(other.mask).tolist())
    assert set(np.unique(made.mask).tolist()) <= allowed
    assert made.pixels.dtype == np.uint8 and made.mask.dtype == dtype
    assert made.pixels.shape == (*made.mask.shape, 3)


@pytest.mark.parametrize("name", sorted(STILL))
def test_what_is_drawn_as_nothing_does_nothing(name):
    one = scene(3, masked=name != "mixup")
    made, _ = copy_of(one, [step(name, **STILL[name])], scene(4, masked=name != "mixup"))
    np.testing.assert_array_equal(made.pixels, one.pixels)
    if one.mask is not None:
        np.testing.assert_array_equal(made.mask, one.mask)
    assert made.labels[0] == one.labels[0]


def test_a_recipe_without_steps_is_the_identity():
    one = scene(5)
    made, done = copy_of(one, [])
    assert done == [] and made is one


@pytest.mark.parametrize("name", sorted(ALL))
def test_operations_are_json_and_make_the_same_again(name):
    masked = name != "mixup"
    one, other = scene(6, (31, 20), masked=masked), scene(7, (24, 30), index=1, masked=masked)
    before = one.pixels.copy()
    steps = [step(name), step("flip", p=1)]
    made, done = copy_of(one, steps, other, copy=2)
    again = repeat_copy(one, json.loads(json.dumps(done)), IGNORE, {1: other}.__getitem__)
    np.testing.assert_array_equal(made.pixels, again.pixels)
    np.testing.assert_array_equal(made.mask, again.mask)
    assert made.labels == again.labels
    np.testing.assert_array_equal(one.pixels, before, err_msg="the source was changed")


def test_copies_seeds_pictures_and_places_in_the_recipe_draw_differently():
    rotate = step("rotate")
    drawn = {
        json.dumps(copy_of(scene(s), steps, copy=copy, seed=seed)[1])
        for s, copy, seed, steps in [
            (1, 0, 0, [rotate]),
            (2, 0, 0, [rotate]),
            (1, 1, 0, [rotate]),
            (1, 0, 1, [rotate]),
        ]
    }
    assert len(drawn) == 4
    _, twice = copy_of(scene(1), [rotate, rotate])
    assert twice[0] != twice[1]
    # a step that others follow is not changed by them
    assert copy_of(scene(1), [rotate])[1][0] == twice[0]


def test_chances_are_kept():
    steps = [step("flip", p=0.25)]
    flipped = sum(bool(copy_of(scene(1), steps, copy=copy)[1]) for copy in range(2000))
    assert abs(flipped - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5


def test_labels_of_mixed_pictures_have_their_shares():
    one, other = scene(1, masked=False), scene(2, (9, 9), masked=False)
    made, done = copy_of(one, [step("mixup", weight=[0.25, 0.25])], other)
    assert made.labels == ((1, 0.75), (2, 0.25))
    made, done = copy_of(one, [step("cutmix")], other)
    _, _, height, width = done[0]["box"]
    assert made.labels[1] == (2, round(height * width / (17 * 23), 6))


def test_what_cannot_be_done_is_a_failure_that_says_why():
    with pytest.raises(Failure) as mixed:
        copy_of(scene(1), [step("mixup")], scene(2))
    assert "class ids of two masks cannot be blended" in mixed.value.message
    with pytest.raises(Failure) as pasted:
        copy_of(scene(1, masked=False), [step("copy_paste")], scene(2))
    assert pasted.value.reason == "mask_missing"


def test_alone_in_its_shard_a_picture_is_not_mixed():
    assert copy_of(scene(1), [step("cutmix"), step("copy_paste")])[1] == []
