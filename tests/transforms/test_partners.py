"""Finding partners: by name, in files, in shards of the same name, and in any shards."""

import pytest
from PIL import Image

from models.loading import import_tensorflow
from transforms.feature_names import FeatureNames
from transforms.formats.tfrecord import write_record
from transforms.inputs import plan_input
from transforms.listing import InputError
from transforms.partners import MaskSet, Partners, pair_name, write_index

NAMES = FeatureNames("mask", "key")


@pytest.mark.parametrize(
    ("key", "suffix", "name"),
    [
        ("a/b.png", "", "a/b"),
        ("a/b.JPG", "", "a/b"),
        ("a/b.c.png", "", "a/b.c"),
        ("scene.0001", "", "scene.0001"),  # no extension of a picture
        ("x_gtFine_labelIds.png", "_gtFine_labelIds", "x"),
        ("x_leftImg8bit.png", "_gtFine_labelIds", None),
    ],
)
def test_names(key, suffix, name):
    assert pair_name(key, suffix) == name


def shards(folder, content):
    """TFRecord shards: {shard name: [(key, mask bytes)]}."""
    tf = import_tensorflow()
    folder.mkdir(parents=True)
    for name, records in content.items():
        with (folder / f"{name}.tfrecord").open("wb") as file:
            for key, data in records:
                example = tf.train.Example()
                example.features.feature["mask"].bytes_list.value.append(data)
                example.features.feature["key"].bytes_list.value.append(key.encode())
                write_record(file, example.SerializeToString())
    return plan_input(str(folder))


def opened(tmp_path, plan, **how):
    (tmp_path / "plan.jsonl").write_text(plan.to_lines())
    return Partners(MaskSet(str(tmp_path / "plan.jsonl"), NAMES, **how))


def test_files(tmp_path):
    for name in ("a/x_pred.png", "a/y.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / "masks" / name)
    found = opened(tmp_path, plan_input(str(tmp_path / "masks")), suffix="_pred").of(None, set())
    assert set(found) == {"a/x"}
    assert found["a/x"].mask() == (tmp_path / "masks/a/x_pred.png").read_bytes()


def test_shards_of_the_same_name(tmp_path):
    plan = shards(tmp_path / "p", {"one": [("b.jpg", b"B"), ("a.jpg", b"A")], "two": []})
    partners = opened(tmp_path, plan, by_shard=True)
    assert {n: f.mask() for n, f in partners.of(plan.shards[0], set()).items()} == {
        "a": b"A",
        "b": b"B",
    }
    other = shards(tmp_path / "q", {"three": [("c", b"C")]}).shards[0]
    assert partners.of(other, {"c"}) == {}


def test_any_shards_by_an_index(tmp_path):
    plan = shards(
        tmp_path / "p", {"one": [("b.jpg", b"B"), ("a.jpg", b"A")], "two": [("c.jpg", b"C")]}
    )
    index = str(tmp_path / "index.jsonl")
    write_index(str(tmp_path), index, plan, NAMES, "")
    partners = opened(tmp_path, plan, index=index)
    found = partners.of(plan.shards[0], {"a", "c", "missing"})
    assert {n: f.mask() for n, f in found.items()} == {"a": b"A", "c": b"C"}


def test_a_name_that_comes_twice_is_refused(tmp_path):
    plan = shards(tmp_path / "p", {"one": [("a.jpg", b"A")], "two": [("a.png", b"B")]})
    with pytest.raises(InputError, match="a is in one and in two"):
        write_index(str(tmp_path), str(tmp_path / "i"), plan, NAMES, "")
