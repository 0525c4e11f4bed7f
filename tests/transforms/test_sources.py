"""Reading shards: which record is which, what is an image, and what a damaged record becomes."""

import os
import time

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from transforms import sources
from transforms.failures import Failure
from transforms.feature_names import FeatureNames
from transforms.formats.tfrecord import write_record
from transforms.inputs import ImageFile, Shard, plan_input
from transforms.sources import read_shard


def example(**features):
    """A serialized tf.Example; "__" in a name stands for "/"."""
    made = tf.train.Example()
    for name, values in features.items():
        feature = made.features.feature[name.replace("__", "/")]
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, bytes):
                feature.bytes_list.value.append(value)
            elif isinstance(value, int):
                feature.int64_list.value.append(value)
            else:
                feature.float_list.value.append(value)
    return made.SerializeToString(deterministic=True)


def shard_of(tmp_path, examples, name="s"):
    path = tmp_path / "data.tfrecord"
    with path.open("wb") as file:
        for data in examples:
            write_record(file, data)
    return Shard(name, str(path), path.stat().st_size)


def read(shard, names=FeatureNames()):
    """(record, bytes or Failure) of every record."""

    def load(value):
        if isinstance(value, Failure):
            return value
        try:
            return value()
        except Failure as failure:
            return failure

    return [(record, load(value)) for record, value in read_shard(shard, names)]


def reasons(shard, names=FeatureNames()):
    return [v.reason if isinstance(v, Failure) else None for _, v in read(shard, names)]


def keys_of(tmp_path, keys):
    examples = [
        example(image__encoded=b"x")
        if key is None
        else example(image__encoded=b"x", image__filename=key)
        for key in keys
    ]
    return [record.key for record, _ in read(shard_of(tmp_path, examples))]


def test_images_keys_and_places(tmp_path):
    shard = shard_of(
        tmp_path,
        [
            example(image__encoded=b"one", image__filename=b"a.jpg"),
            example(image__encoded=b"three", image__filename=b"b.jpg"),
        ],
    )
    (first, one), (second, three) = read(shard)
    assert (one, three) == (b"one", b"three")
    assert (first.index, first.key, first.source, first.bytes_in) == (
        0,
        "a.jpg",
        "data.tfrecord#0",
        3,
    )
    assert (second.index, second.key, second.source, second.bytes_in) == (
        1,
        "b.jpg",
        "data.tfrecord#1",
        5,
    )


def test_other_names_of_features(tmp_path):
    shard = shard_of(tmp_path, [example(png=b"pixels", id=b"k", image__encoded=b"no")])
    ((record, data),) = read(shard, FeatureNames(image="png", key="id"))
    assert (record.key, data) == ("k", b"pixels")


def test_records_without_one_image_fail_and_say_what_is_there(tmp_path):
    shard = shard_of(
        tmp_path,
        [
            example(image__filename=b"a", label=3),
            example(image__encoded=[b"one", b"two"], image__filename=b"b"),
            example(image__encoded=[], image__filename=b"c"),
            example(image__encoded=5),
            example(),
        ],
    )
    got = read(shard)
    assert [failure.reason for _, failure in got] == ["no_image"] * 5
    assert [record.key for record, _ in got] == ["a", "b", "c", "s/00000003", "s/00000004"]
    assert "got 0; the example has image/filename, label; " in got[0][1].message
    assert "--image_feature" in got[0][1].message and "got 2" in got[1][1].message
    assert "no features" in got[4][1].message
    assert all(record.bytes_in == 0 for record, _ in got)


def test_keys_that_are_missing_empty_or_of_another_type_are_made(tmp_path):
    shard = shard_of(
        tmp_path,
        [
            example(image__encoded=b"x"),
            example(image__encoded=b"x", image__filename=b""),
            example(image__encoded=b"x", image__filename=[b"a", b"b"]),
            example(image__encoded=b"x", image__filename=7),
        ],
        name="f/t-00000-of-00001",
    )
    assert [record.key for record, _ in read(shard)] == [
        f"f/t-00000-of-00001/0000000{n}" for n in range(4)
    ]


def test_keys_that_are_no_utf_8_are_escaped(tmp_path):
    assert keys_of(tmp_path, [b"caf\xe9", "café".encode(), b"caf\\xe9"]) == [
        "caf\\xe9",
        "café",
        "caf\\xe9~2",
    ]


def test_records_of_one_name_are_told_apart(tmp_path):
    assert keys_of(tmp_path, [b"a", b"a", b"a~2", b"a", b"a~2", b"b"]) == [
        "a",
        "a~2",
        "a~2~2",
        "a~3",
        "a~2~3",
        "b",
    ]
    shard = shard_of(tmp_path, [example(image__filename=key) for key in (b"a", b"a", b"a~2", b"b")])
    assert [r.twice for r, _ in read(shard)] == [False, True, True, False]
    assert keys_of(tmp_path, [b"a~2", b"a", b"a"]) == ["a~2", "a", "a~3"]
    assert keys_of(tmp_path, [b"s/00000001", None]) == ["s/00000001", "s/00000001~2"]


@given(st.lists(st.sampled_from([b"", b"a", b"a~2", b"a~2~2", b"a~3", b"s/00000001", None])))
def test_keys_are_always_unique_and_repeatable(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("keys")
    made = keys_of(folder, keys)
    assert len(set(made)) == len(keys)
    assert made == keys_of(folder, keys)
    for key, given_key in zip(made, keys, strict=True):
        assert not given_key or key.startswith(given_key.decode())


def test_other_features_pass_through_untouched(tmp_path):
    features = {
        "ints": [1, -5, 2**40],
        "floats": [0.5, -1.0],
        "bytes": [b"\xff\x00", b""],
        "image__filename": b"k",
        "empty": [],
    }
    shard = shard_of(tmp_path, [example(image__encoded=b"x", **features)])
    ((record, _),) = read(shard)
    assert record.features == example(**features)


def test_what_is_no_example_fails_alone(tmp_path):
    good = example(image__encoded=b"x", image__filename=b"k")
    shard = shard_of(tmp_path, [good, b"\xff\xff\xff", b"just text", good])
    got = read(shard)
    assert [v.reason if isinstance(v, Failure) else v for _, v in got] == [
        b"x",
        "bad_example",
        "bad_example",
        b"x",
    ]
    assert [record.index for record, _ in got] == [0, 1, 2, 3]
    assert got[1][0].key == "s/00000001"


def test_a_damaged_record_fails_in_its_place_and_a_cut_file_at_its_end(tmp_path):
    good = example(image__encoded=b"x" * 50, image__filename=b"k")
    shard = shard_of(tmp_path, [good] * 4)
    data = bytearray((tmp_path / "data.tfrecord").read_bytes())
    frame = len(data) // 4
    data[frame + 30] ^= 1
    (tmp_path / "data.tfrecord").write_bytes(bytes(data[: 3 * frame + 20]))
    assert reasons(shard) == [None, "bad_record", None, "rest_lost"]


@pytest.mark.real_data
def test_floats_are_no_image_as_in_a_real_shard(real_data):
    path = real_data / "mnist_tfrecord" / "mnist.tfrecord"
    shard = Shard("mnist", str(path), path.stat().st_size)
    got = read(shard)
    assert len(got) == 1000
    assert {failure.reason for _, failure in got} == {"no_image"}
    assert "the example has image_class, image_floats" in got[0][1].message


def test_a_shard_file_that_cannot_be_opened_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(Shard("s", str(tmp_path / "gone.tfrecord"), 1))
    with pytest.raises(IsADirectoryError):
        read(Shard("s", str(tmp_path), 1))


def test_files_of_a_folder(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.png").write_bytes(b"12345")
    (tmp_path / "x/d.png").mkdir()
    files = (
        ImageFile("x/a.png", "x/a", 5),
        ImageFile("x/gone.png", "x/gone", 7),
        ImageFile("x/d.png", "x/d", 7),
    )
    (a, data), (gone, failure), (_, folder) = read(Shard("s", str(tmp_path), 19, files))
    assert data == b"12345"
    assert (a.key, a.source, a.output_name, a.bytes_in) == ("x/a.png", "x/a.png", "x/a", 5)
    assert failure.reason == folder.reason == "unreadable" and failure.stage == "read"
    assert "x/gone.png: No such file" in failure.message
    assert gone.index == 1 and gone.features == b""


def test_files_are_read_by_whoever_calls_not_while_listing(tmp_path):
    files = tuple(ImageFile(f"{n}.png", f"{n}", 1) for n in range(3))
    loads = list(read_shard(Shard("s", str(tmp_path), 3, files)))
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(b"%d" % n)
    assert [load() for _, load in loads] == [b"0", b"1", b"2"]


def test_a_file_name_that_is_no_utf_8_can_be_read_and_written_down(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(b"1")
    files = (ImageFile(name, name[:-4], 1), ImageFile("gone-" + name, "gone", 1))
    (good, data), (gone, failure) = read(Shard("s", str(tmp_path), 2, files))
    assert data == b"1"
    assert good.key == good.source == "caf\\xe9.png"
    assert gone.key == "gone-caf\\xe9.png" and failure.reason == "unreadable"


def test_files_that_are_requests_are_fetched_ahead_in_order_and_bounded(gcs):
    for index in range(100):
        gcs.put(f"in/{index:03d}.png", b"%d" % index)
    (shard,) = plan_input("gs://bucket/in", 200).shards
    gcs.fail(path="download.*003.png", status=403, message="no access")
    gcs.log.clear()
    items = read_shard(shard)
    loads = [next(items)]
    time.sleep(0.2)
    assert len(gcs.log) <= sources._AHEAD_FILES + 1
    loads += items  # asked for after all were handed out
    assert [record.key for record, _ in loads] == [f"{i:03d}.png" for i in range(100)]
    for index, (_, load) in enumerate(loads):
        if index == 3:
            with pytest.raises(Failure, match="no access"):
                load()
        else:
            assert load() == b"%d" % index
