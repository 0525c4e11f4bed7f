"""Schemas name features; flags for single ones win; what is packed has the usual names."""

import pytest
import tensorflow as tf

from pipeline.command_line import parser
from transforms.failures import Failure
from transforms.feature_names import SCHEMAS, USUAL, to_usual

SEGMENT = ["segment", "--input=i", "--output=o", "--model=m"]
TRAIN = ["train", "segmenter", "--input=i", "--output=o"]
EVALUATE = ["evaluate", "--output=o"]
TFDS = SCHEMAS["tfds"]


def names(arguments):
    flags, rest = parser().parse_known_args(arguments)
    assert not rest
    return {
        name: value for name, value in vars(flags).items() if name.endswith("_feature") and value
    }


def test_without_a_flag_the_names_are_deeplabs():
    assert names(SEGMENT) == {"image_feature": USUAL.image, "key_feature": USUAL.key}
    assert names(TRAIN) == {
        "image_feature": USUAL.image,
        "key_feature": USUAL.key,
        "mask_feature": USUAL.mask,
    }
    assert names(["train", "classifier", *TRAIN[2:]])["label_feature"] == USUAL.label


def test_a_schema_names_all_and_a_flag_wins_whatever_the_order():
    for arguments in (
        ["--schema=tfds", "--key_feature=id"],
        ["--key_feature=id", "--schema=tfds"],
    ):
        assert names([*SEGMENT, *arguments]) == {"image_feature": "image", "key_feature": "id"}
    assert names([*TRAIN, "--schema=tfds"])["mask_feature"] == "segmentation_mask"
    found = names(["train", "classifier", *TRAIN[2:], "--schema=tfds"])
    assert found["label_feature"] == "label" and "mask_feature" not in found
    assert names([*SEGMENT, "--schema=object_detection"])["key_feature"] == "image/source_id"


def test_labels_of_an_evaluation_are_masks():
    found = names([*EVALUATE, "--schema=tfds"])
    assert found["label_feature"] == "segmentation_mask"
    assert found["prediction_feature"] == USUAL.mask


def example(**features):
    made = tf.train.Example()
    for name, value in features.items():
        if isinstance(value, int):
            made.features.feature[name].int64_list.value.append(value)
        else:
            made.features.feature[name].bytes_list.value.append(value)
    return made.features.feature


def test_features_are_renamed_and_others_stay():
    features = example(image=b"i", file_name=b"a", label=3, segmentation_mask=b"m", other=b"o")
    to_usual(features, TFDS)
    assert set(features) == {*USUAL, "other"}
    assert features[USUAL.label].int64_list.value == [3]
    assert features[USUAL.mask].bytes_list.value == [b"m"]
    before = {name: value.SerializeToString() for name, value in features.items()}
    to_usual(features, USUAL)
    assert {name: value.SerializeToString() for name, value in features.items()} == before


def test_nothing_is_written_over():
    features = example(label=3)
    features[USUAL.label].int64_list.value.append(4)
    with pytest.raises(Failure, match="'label' would become 'image/class/label'"):
        to_usual(features, TFDS)
    features[USUAL.label].int64_list.value[:] = [3]
    to_usual(features, TFDS)
    assert list(features) == [USUAL.label]
