"""Where pictures lie in what the model sees, and masks of the picture alone; ids that are moved."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loading import import_tensorflow
from models.segmenter import Segmenter

SIDES = st.tuples(st.integers(1, 300), st.integers(1, 300))
FITS = ["stretch", "letterbox", "pad"]
SIZES = [(64, 48), (20, 90), (16, 24), (32, 48), (7, 200), (1, 1)]


@pytest.fixture(scope="module")
def fixed(bound):
    return bound("fixed")  # 32x48


@given(size_hw=SIDES, fit=st.sampled_from(FITS))
def test_a_picture_lies_inside_and_keeps_its_aspect(fixed, size_hw, fit):
    placed = dataclasses.replace(fixed, fit=fit).placed(size_hw)
    assert placed.canvas_hw == (32, 48)
    for axis in (0, 1):
        assert placed.offset_yx[axis] >= 0
        assert placed.offset_yx[axis] + placed.size_hw[axis] <= placed.canvas_hw[axis]
    if fit == "stretch":
        assert placed.fills
        return
    scale = min(32 / size_hw[0], 48 / size_hw[1])
    if fit == "pad":
        scale = min(1, scale)
        assert placed.offset_yx == (0, 0)
    for side, original in zip(placed.size_hw, size_hw, strict=True):
        assert side == 1 or abs(side - original * scale) <= 0.5 + 1e-9


@given(size_hw=SIDES, multiple=st.integers(1, 64))
def test_sides_become_the_next_multiples(bound, size_hw, multiple):
    binding = dataclasses.replace(bound("logits"), multiple_of=multiple)
    placed = binding.placed(size_hw)
    assert placed.size_hw == size_hw
    assert placed.offset_yx == (0, 0)
    for side, original in zip(placed.canvas_hw, size_hw, strict=True):
        assert side % multiple == 0
        assert original <= side < original + multiple


@pytest.mark.parametrize("fit", ["letterbox", "pad"])
@pytest.mark.parametrize("size_hw", [(64, 48), (20, 90), (16, 24), (32, 48), (7, 200)])
def test_masks_equal_a_plain_loop_with_bars(saved, bound, picture, fit, size_hw):
    tf = import_tensorflow()
    binding = dataclasses.replace(bound("fixed"), fit=fit, fill=127.5)
    image = picture(*size_hw)
    mask = Segmenter(saved("fixed"), binding)([image])[0].mask

    scale = min(32 / size_hw[0], 48 / size_hw[1])
    if fit == "pad":
        scale = min(1.0, scale)
    height, width = (round(side * scale) for side in size_hw)
    small = tf.image.resize(image.astype(np.float32), (height, width)).numpy()
    canvas = np.full((32, 48, 3), 127.5, np.float32)
    top, left = ((32 - height) // 2, (48 - width) // 2) if fit == "letterbox" else (0, 0)
    canvas[top : top + height, left : left + width] = small
    model = tf.saved_model.load(saved("fixed"))
    scores = model.signatures["serving_default"](image=canvas[np.newaxis] / 255)["out"][0]
    part = scores[top : top + height, left : left + width]
    expected = tf.argmax(tf.image.resize(part, size_hw), -1).numpy()
    assert mask.shape == size_hw
    assert np.mean(mask != expected) < 1e-3, "ties aside"


@given(size_hw=SIDES)
def test_the_part_that_is_seen_is_the_largest_in_the_middle(fixed, size_hw):
    part = dataclasses.replace(fixed, fit="crop").seen(size_hw)
    spare = [size_hw[axis] - part.size_hw[axis] for axis in (0, 1)]
    assert min(part.size_hw) >= 1 and min(spare) == 0
    assert [spare[axis] // 2 for axis in (0, 1)] == list(part.offset_yx)
    if max(spare):  # less than a pixel short of the aspect of 32x48
        axis = spare.index(max(spare))
        wanted = size_hw[1 - axis] * (32, 48)[axis] / (32, 48)[1 - axis]
        assert part.size_hw[axis] == max(1, int(wanted))


@given(size_hw=SIDES, fit=st.sampled_from(FITS))
def test_all_is_seen_unless_it_is_cropped(fixed, size_hw, fit):
    part = dataclasses.replace(fixed, fit=fit).seen(size_hw)
    assert (part.offset_yx, part.size_hw) == ((0, 0), size_hw)


@pytest.mark.parametrize("size_hw", SIZES)
def test_the_part_that_is_seen_is_that_of_keras(saved, bound, picture, size_hw, monkeypatch):
    import keras

    binding = dataclasses.replace(bound("fixed"), fit="crop")
    segmenter = Segmenter(saved("fixed"), binding)
    given_to_model = []
    answer = segmenter.scores
    monkeypatch.setattr(segmenter, "scores", lambda x: given_to_model.append(x) or answer(x))
    image = picture(*size_hw)
    segmenter([image])
    resize = keras.layers.Resizing(32, 48, crop_to_aspect_ratio=True)
    np.testing.assert_allclose(
        given_to_model[0], resize(image[np.newaxis].astype(np.float32)) / 255, atol=1e-6
    )


@pytest.mark.parametrize("name", ["fixed", "classes300_fixed", "int32_fixed"])
def test_what_was_not_seen_is_ignored(saved, bound, picture, name):
    """A mask of the part, as of a picture of its own, and the ignore id around it."""
    binding = bound(name)
    cropping = Segmenter(saved(name), dataclasses.replace(binding, fit="crop"), len(SIZES))
    alone = Segmenter(saved(name), binding)
    images = [picture(*size_hw) for size_hw in SIZES]  # (7, 200) and (1, 1): parts of one size too
    for image, answer in zip(images, cropping(images), strict=True):
        part = cropping.binding.seen(image.shape[:2])
        (expected,) = alone([part.of(image)])
        ignore_id = 65535 if name == "classes300_fixed" else 255
        assert answer.mask.shape == image.shape[:2]
        np.testing.assert_array_equal(part.of(answer.mask), expected.mask)
        outside = answer.mask.copy()
        part.of(outside)[:] = ignore_id
        assert (outside == ignore_id).all()
        np.testing.assert_array_equal(answer.class_pixels, expected.class_pixels)
        assert answer.class_pixels.sum() == np.prod(part.size_hw)
        if name != "int32_fixed":
            np.testing.assert_array_equal(part.of(answer.confidence), expected.confidence)
            np.testing.assert_array_equal(answer.histograms, expected.histograms)
            assert answer.confidence.sum(dtype=int) == expected.confidence.sum(dtype=int)


def test_masks_at_the_models_size_are_of_the_part(saved, bound, picture):
    binding = dataclasses.replace(bound("fixed"), fit="crop")
    image = picture(64, 300)
    (answer,) = Segmenter(saved("fixed"), binding, mask_at_model_size=True)([image])
    part = binding.seen((64, 300)).of(image)
    (expected,) = Segmenter(saved("fixed"), bound("fixed"), mask_at_model_size=True)([part])
    np.testing.assert_array_equal(answer.mask, expected.mask)


@pytest.mark.parametrize("name", ["logits", "int32"])
@pytest.mark.parametrize("offset", [-1, 1])
def test_ids_are_moved_and_negative_ones_are_void(saved, bound, picture, name, offset):
    image = picture(24, 40)
    plain = Segmenter(saved(name), bound(name, classes=["a", "b", "c"]))([image])[0]
    classes = [f"c{i}" for i in range(3 + offset)]
    binding = bound(name, output__id_offset=offset, classes=classes)
    moved = Segmenter(saved(name), binding)([image])[0]
    expected = plain.mask.astype(int) + offset
    assert set(np.unique(plain.mask)) == {0, 1, 2}
    np.testing.assert_array_equal(moved.mask, np.where(expected < 0, 255, expected))
    assert moved.class_pixels.tolist() == [
        np.count_nonzero(expected == i) for i in range(len(classes))
    ]
    assert moved.in_range


@pytest.mark.parametrize("name", ["logits", "int32"])
def test_the_id_of_unlabelled_becomes_the_ignore_id(saved, bound, picture, name):
    image = picture(24, 40)
    plain = Segmenter(saved(name), bound(name, classes=["a", "b", "c"]))([image])[0].mask
    binding = bound(name, output__void_id=1, classes=["a", "b", "c"])
    answer = Segmenter(saved(name), binding)([image])[0]
    np.testing.assert_array_equal(answer.mask, np.where(plain == 1, 255, plain))
    assert answer.class_pixels.tolist() == [np.sum(plain == 0), 0, np.sum(plain == 2)]


def test_a_void_id_beyond_the_classes_is_in_range(saved, bound, picture):
    image = picture(24, 40)
    ids = Segmenter(saved("int32"), bound("int32"))([image])[0].mask
    known = bound("int32", classes=["a", "b"])
    assert not Segmenter(saved("int32"), known)([image])[0].in_range
    answer = Segmenter(saved("int32"), dataclasses.replace(known, void_id=2))([image])[0]
    assert answer.in_range
    np.testing.assert_array_equal(answer.mask, np.where(ids == 2, 255, ids))
