"""The shipped scenes are exact and repeatable, and the shipped model still fits them."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from models.shipped import digit_scenes

SHIPPED = Path(digit_scenes.__file__).parent
SIZES = [(128, 128), (100, 75), (16, 16), (500, 700)]


def test_a_scene_is_fixed_by_seed_and_index_whatever_the_order():
    forwards = [digit_scenes.scene(3, index) for index in range(6)]
    backwards = [digit_scenes.scene(3, index) for index in reversed(range(6))][::-1]
    for (image, mask), (image_again, mask_again) in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(mask, mask_again)
    assert len({image.tobytes() for image, _ in forwards}) == 6
    assert not np.array_equal(forwards[0][0], digit_scenes.scene(4, 0)[0])


def test_scenes_stacks_the_single_scenes():
    images, masks = digit_scenes.scenes(3, range(2, 5), split="train", size_hw=(40, 60))
    assert images.shape == (3, 40, 60, 3) and masks.shape == (3, 40, 60)
    image, mask = digit_scenes.scene(3, 4, split="train", size_hw=(40, 60))
    np.testing.assert_array_equal(images[2], image)
    np.testing.assert_array_equal(masks[2], mask)


@pytest.mark.parametrize("size_hw", SIZES)
def test_shapes_dtypes_and_ids(size_hw):
    for index in range(5):
        image, mask = digit_scenes.scene(0, index, size_hw=size_hw)
        assert image.shape == (*size_hw, 3) and image.dtype == np.uint8
        assert mask.shape == size_hw and mask.dtype == np.uint8
        assert 0 < mask.max() <= 10
        assert 1 <= len(np.unique(mask)) - 1 <= digit_scenes.MAX_DIGITS


def test_every_class_turns_up():
    _, masks = digit_scenes.scenes(0, range(60))
    assert set(np.unique(masks)) == set(range(len(digit_scenes.CLASS_NAMES)))


@pytest.mark.parametrize("size_hw", SIZES)
def test_the_mask_is_exactly_what_was_painted(size_hw):
    changed_inside = inside = 0
    for index in range(8):
        image, mask = digit_scenes.scene(7, index, size_hw=size_hw)
        photo = digit_scenes.photo_crop(np.random.default_rng([7, index]), size_hw)
        changed = (image != photo).any(-1)
        assert not changed[mask == 0].any()
        changed_inside += int(changed[mask > 0].sum())
        inside += int((mask > 0).sum())
    assert changed_inside / inside > 0.99  # a colour may equal the photograph by chance


def test_training_and_demo_digits_are_disjoint_and_complete():
    train, demo = digit_scenes.digit_indices("train"), digit_scenes.digit_indices("demo")
    assert not set(train) & set(demo)
    assert sorted([*train, *demo]) == list(range(1797))
    assert len(demo) == pytest.approx(1797 / 5, abs=1)


@pytest.mark.parametrize("split", ["train", "demo"])
def test_scenes_draw_only_digits_of_their_split(split, monkeypatch):
    drawn = []
    monkeypatch.setattr(digit_scenes, "_add_digit", lambda *args: drawn.append(args[-1]))
    digit_scenes.scenes(0, range(20), split=split)
    assert drawn and set(drawn) <= set(digit_scenes.digit_indices(split))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        digit_scenes.scene(0, 0, size_hw=(128, 15))
    with pytest.raises(ValueError, match="expected one of"):
        digit_scenes.scene(0, 0, split="test")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def signature():
    tf = pytest.importorskip("tensorflow")
    loaded = tf.saved_model.load(str(SHIPPED / "digits_segmenter"))
    assert set(loaded.signatures) == {"serving_default", "encoded"}
    yield loaded.signatures["serving_default"]
    del loaded  # a signature does not keep its model's variables alive


def test_the_shipped_model_scores_as_its_json_says(signature):
    card = json.loads((SHIPPED / "digits_segmenter.json").read_text(encoding="utf-8"))
    images, truth = digit_scenes.scenes(1_000_021, range(20))
    predicted = np.argmax(signature(image=images)["logits"].numpy(), -1)
    classes = range(len(digit_scenes.CLASS_NAMES))
    unions = [np.sum((truth == c) | (predicted == c)) for c in classes]
    inters = [np.sum((truth == c) & (predicted == c)) for c in classes]
    assert min(unions) > 0
    assert np.mean(np.divide(inters, unions)) == pytest.approx(card["mean_iou"], abs=0.08)


@pytest.mark.parametrize("size_hw", [(128, 128), (100, 75), (1, 1)])
def test_the_shipped_model_takes_any_size(signature, size_hw):
    logits = signature(image=np.zeros((2, *size_hw, 3), np.uint8))["logits"]
    assert logits.shape == (2, *size_hw, 11) and logits.dtype == np.float32


def test_the_shipped_model_names_no_machine_path():
    files = [path for path in SHIPPED.glob("digits_segmenter/**/*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for trace in (b"site-packages", b".py", b"/home/", b"/tmp/", bytes(SHIPPED.parents[1])):
            assert trace not in content, (path, trace)
