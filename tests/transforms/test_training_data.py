"""Training data: examples from shards and files, in memory or read again, failures kept apart."""

import io

import numpy as np
import pytest
from PIL import Image

from models.errors import UserError
from models.loading import import_tensorflow
from transforms import training_data
from transforms.decode import decode
from transforms.formats.tfrecord import write_record
from transforms.inputs import Plan, cut, cut_images, pair_masks
from transforms.listing import list_input
from transforms.training_checks import check_survey, not_validated, usual_size_hw
from transforms.training_data import Reading, Survey, TrainingSet

tf = import_tensorflow()


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(number, height=6, width=8):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(number, height=6, width=8):
    return np.random.default_rng(100 + number).integers(0, 3, (height, width), dtype=np.uint8)


def write_shards(folder, rows, per_shard=10):
    """TFRecord shards of (key, image bytes, mask bytes or None, label or None)."""
    folder.mkdir(exist_ok=True)
    parts = [rows[i : i + per_shard] for i in range(0, len(rows), per_shard)]
    for index, part in enumerate(parts):
        with open(folder / f"d-{index:05d}-of-{len(parts):05d}.tfrecord", "wb") as file:
            for key, image, encoded_mask, label in part:
                example = tf.train.Example()
                features = example.features.feature
                features["image/encoded"].bytes_list.value.append(image)
                features["image/filename"].bytes_list.value.append(key.encode())
                if encoded_mask is not None:
                    name = "image/segmentation/class/encoded"
                    features[name].bytes_list.value.append(encoded_mask)
                if label is not None:
                    features["image/class/label"].int64_list.value.append(label)
                    text = f"digit {label}".encode()
                    features["image/class/text"].bytes_list.value.append(text)
                write_record(file, example.SerializeToString())
    return cut(list_input(str(folder)))


@pytest.fixture
def masks_plan(tmp_path):
    rows = [(f"p{i}", encoded(picture(i)), encoded(mask(i)), None) for i in range(40)]
    return write_shards(tmp_path / "masks", rows)


@pytest.fixture
def labels_plan(tmp_path):
    rows = [(f"p{i}", encoded(picture(i)), None, i % 4) for i in range(40)]
    return write_shards(tmp_path / "labels", rows)


def training_set(plan: Plan, wanted="masks", **more):
    return TrainingSet(plan.shards, Reading(wanted), 0.25, **more)


def test_every_example_is_in_one_part_and_whole(masks_plan):
    data = training_set(masks_plan)
    survey = data.survey()
    keys = survey.keys["train"] + survey.keys["validation"]
    assert sorted(keys) == sorted(f"p{i}" for i in range(40))
    assert len(survey.keys["validation"]) in range(4, 18)
    for part in ("train", "validation"):
        examples = list(data.examples(part))
        assert [example.key for example in examples] == survey.keys[part]
        for example in examples:
            number = int(example.key[1:])
            np.testing.assert_array_equal(example.pixels, picture(number))
            np.testing.assert_array_equal(example.mask, mask(number))
        counted = sum(np.bincount(e.mask.ravel(), minlength=3) for e in examples)
        np.testing.assert_array_equal(survey.counts[part], counted)


@pytest.mark.parametrize("wanted", ["masks", "labels"])
def test_what_is_too_large_for_memory_is_read_again(masks_plan, labels_plan, wanted):
    plan = {"masks": masks_plan, "labels": labels_plan}[wanted]
    kept, again = training_set(plan, wanted), training_set(plan, wanted, cache_bytes=1000)
    for data in (kept, again):
        data.survey()
    assert kept.in_memory and not again.in_memory
    for part in ("train", "validation"):
        for one, other in zip(kept.examples(part), again.examples(part), strict=True):
            assert (one.key, one.label, one.text) == (other.key, other.label, other.text)
            np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("cache_bytes", [1 << 30, 1000])
def test_an_order_shuffles_and_repeats(masks_plan, cache_bytes):
    data = training_set(masks_plan, cache_bytes=cache_bytes)
    data.survey()

    def keys(seed):
        return [e.key for e in data.examples("train", np.random.default_rng(seed))]

    assert keys(1) == keys(1)
    assert len({tuple(keys(seed)) for seed in range(6)}) > 1
    assert sorted(keys(1)) == sorted(keys(2))


@pytest.mark.parametrize("cache_bytes", [1 << 30, 1000])
def test_an_example_comes_as_often_as_asked(masks_plan, cache_bytes):
    data = training_set(masks_plan, cache_bytes=cache_bytes)
    survey = data.survey()
    order = np.random.default_rng(0)
    keys = [e.key for e in data.examples("train", order, times=lambda e: 1 + int(e.key[1:]) % 3)]
    for key in survey.keys["train"]:
        assert keys.count(key) == 1 + int(key[1:]) % 3


def test_labels_and_their_names(labels_plan):
    survey = training_set(labels_plan, "labels").survey()
    assert survey.texts == {i: f"digit {i}" for i in range(4)}
    assert (survey.counts["train"] + survey.counts["validation"]).tolist() == [10] * 4
    assert check_survey(survey, "labels", None, 255, 0.01)[2] == "digit 2"
    assert not survey.grey and usual_size_hw(survey, 128) == (6, 8)
    assert usual_size_hw(survey, 4) == (3, 4)


def test_image_files_with_masks_beside_them(tmp_path):
    for i in range(12):
        for folder, pixels in (("images", picture(i)), ("masks", mask(i))):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"p{i}.png").write_bytes(encoded(pixels))
    listing = list_input(str(tmp_path))
    images, masks = pair_masks(listing.files)
    plan = Plan(tuple(cut_images(listing.root, images, 5, masks)), "images")
    data = training_set(plan)
    data.survey()
    found = {e.key: e for part in ("train", "validation") for e in data.examples(part)}
    assert len(found) == 12
    np.testing.assert_array_equal(found["images/p7.png"].mask, mask(7))


def test_folders_name_the_classes_of_files(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(picture(i)))
    plan = cut(list_input(str(tmp_path)), 4)
    data = TrainingSet(plan.shards, Reading("labels", folders=("cat", "dog")), 0.0)
    data.survey()
    assert [(e.key, e.label, e.text) for e in data.examples("train")][4:6] == [
        ("cat/4.png", 0, "cat"),
        ("dog/0.png", 1, "dog"),
    ]


def rows_with(change, wanted):
    rows = []
    for i in range(40):
        image, encoded_mask, label = encoded(picture(i)), encoded(mask(i)), i % 3
        rows.append((f"p{i}", image, encoded_mask, label) if i != 17 else change(i))
    return rows


WRONG = {
    "mask of another size": (
        "masks",
        lambda i: (f"p{i}", encoded(picture(i)), encoded(mask(i, 5, 8)), 0),
        r"p17: mask p17 is 8x5, its image is 8x6",
    ),
    "mask of colours": (
        "masks",
        lambda i: (f"p{i}", encoded(picture(i)), encoded(picture(i)), 0),
        r"p17: mask p17 has mode RGB",
    ),
    "no mask": (
        "masks",
        lambda i: (f"p{i}", encoded(picture(i)), None, 0),
        r"p17: expected one bytes value in feature 'image/segmentation/class/encoded', got 0",
    ),
    "no label": (
        "labels",
        lambda i: (f"p{i}", encoded(picture(i)), None, None),
        r"p17: expected one integer in feature 'image/class/label', got 0",
    ),
    "negative label": (
        "labels",
        lambda i: (f"p{i}", encoded(picture(i)), None, -2),
        r"p17: feature 'image/class/label' is -2, expected a class id from 0 to 65535",
    ),
    "label beyond memory": (
        "labels",
        lambda i: (f"p{i}", encoded(picture(i)), None, 10**15),
        r"p17: feature 'image/class/label' is 1000000000000000, expected",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_refused_with_names(tmp_path, name):
    wanted, change, words = WRONG[name]
    survey = training_set(write_shards(tmp_path / "d", rows_with(change, wanted)), wanted).survey()
    with pytest.raises(UserError, match=words):
        check_survey(survey, wanted, None, 255, 0.5)


def test_a_broken_picture_is_left_out_within_the_budget(tmp_path):
    rows = rows_with(lambda i: (f"p{i}", b"no picture", encoded(mask(i)), 0), "masks")
    data = training_set(write_shards(tmp_path / "d", rows))
    survey = data.survey()
    assert [key for key, _ in survey.failed] == ["p17"]
    assert check_survey(survey, "masks", None, 255, 0.03) == ["class 0", "class 1", "class 2"]
    assert "p17" not in {e.key for part in survey.keys for e in data.examples(part)}
    with pytest.raises(UserError, match=r"1 of 40 examples cannot be read.*\n  p17:"):
        check_survey(survey, "masks", None, 255, 0.01)


def test_classes_and_ids_must_fit(masks_plan):
    survey = training_set(masks_plan).survey()
    with pytest.raises(UserError, match=r"ids go from 0 to 1; there is 2 in p\d+\. Name more"):
        check_survey(survey, "masks", ["a", "b"], 255, 0.01)
    assert check_survey(survey, "masks", ["a", "b"], 2, 0.01) == ["a", "b"]  # 2 is unlabelled
    with pytest.raises(UserError, match="no Unicode text"):
        check_survey(survey, "masks", ["a", "b", "c\udcff"], 255, 0.01)
    with pytest.raises(UserError, match="no training example shows d; ids found: 0, 1, 2\\."):
        check_survey(survey, "masks", ["a", "b", "c", "d"], 255, 0.01)
    with pytest.raises(UserError, match="several classes have the name a;"):
        check_survey(survey, "masks", ["a", "a", "c"], 255, 0.01)


def test_one_class_is_none(tmp_path):
    rows = [
        (f"p{i}", encoded(picture(i)), encoded(mask(i) // 3 + np.uint8(255 * (i % 2))), None)
        for i in range(20)
    ]
    survey = training_set(write_shards(tmp_path / "d", rows)).survey()
    with pytest.raises(UserError, match=r"ids found: 0, 255, of which 255 counts as unlabelled"):
        check_survey(survey, "masks", None, 255, 0.01)


def test_an_empty_part_is_refused(masks_plan):
    data = TrainingSet(masks_plan.shards, Reading("masks"), 0.0)
    with pytest.raises(UserError, match="nothing is left to validate with"):
        check_survey(data.survey(), "masks", None, 255, 0.01)


def test_no_examples_at_all():
    none = np.zeros(0, np.int64)
    empty = Survey(*({"train": value, "validation": value} for value in ([], none, none, {})))
    with pytest.raises(UserError, match="no examples"):
        check_survey(empty, "masks", None, 255, 0.01)


def survey_of(train_ids, validation_ids):
    """A survey in which one picture of each part shows each id."""
    counts = {
        part: np.bincount(ids).astype(np.int64)
        for part, ids in (("train", train_ids), ("validation", validation_ids))
    }
    first_with = dict.fromkeys([*train_ids, *validation_ids], "p")
    keys = {"train": ["p"], "validation": ["q"]}
    return Survey(keys, counts, counts, {"train": {}, "validation": {}}, first_with=first_with)


@pytest.mark.parametrize(
    ("ids", "names", "words"),
    [
        ([0, 255], ["ground", "cell"], "shows cell; ids found: 0, 255, of which 255 counts as unl"),
        ([0, 2, 5], None, "shows class 1, class 3, class 4; ids found: 0, 2, 5. Add some, number"),
        ([0, 20], None, "class 5 and 14 more; ids found"),
        ([255], None, "too few classes to tell apart, 0, at least 2 are needed; ids found: 255, "),
    ],
)
def test_what_is_missing_is_told_with_what_is_there(ids, names, words):
    with pytest.raises(UserError) as caught:
        check_survey(survey_of(ids, ids), "masks", names, 255, 0.01)
    assert words in str(caught.value)


def test_a_validation_part_without_a_label_is_refused():
    with pytest.raises(UserError, match=r"all of the validation part is unlabelled \(id 255"):
        check_survey(survey_of([0, 1, 255], [255]), "masks", None, 255, 0.01)


def test_the_ignore_id_may_be_one_of_the_classes():
    """As in masks whose 0 means unlabelled: nothing needs to show it."""
    names = ["void", "a", "b"]
    assert check_survey(survey_of([1, 2], [1, 2]), "masks", names, 0, 0.01) == names
    with pytest.raises(UserError, match="too few classes to tell apart, 1"):
        check_survey(survey_of([0, 1], [1]), "masks", ["void", "a"], 0, 0.01)


def test_classes_without_a_validation_example_are_named():
    assert not_validated(survey_of([0, 1, 2], [1]), ["a", "b", "c"]) == ["a", "c"]


def test_a_class_text_that_is_empty_is_none(tmp_path):
    plan = write_shards(tmp_path / "d", [(f"p{i}", encoded(picture(i)), None, i) for i in range(2)])
    path = plan.shards[0].root
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(encoded(picture(0)))
    example.features.feature["image/class/label"].int64_list.value.append(1)
    example.features.feature["image/class/text"].bytes_list.SetInParent()
    with open(path, "wb") as file:
        write_record(file, example.SerializeToString())
    survey = training_set(plan, "labels").survey()
    assert not survey.failed and not survey.texts and set(survey.first_with) == {1}


def test_of_what_is_read_again_the_other_part_is_not_decoded(masks_plan, monkeypatch):
    data = training_set(masks_plan, cache_bytes=1000)
    survey = data.survey()
    decoded = []

    def counted(data, policy):
        decoded.append(len(data))
        return decode(data, policy)

    monkeypatch.setattr(training_data, "decode", counted)
    assert [e.key for e in data.examples("validation")] == survey.keys["validation"]
    assert len(decoded) == len(survey.keys["validation"])
