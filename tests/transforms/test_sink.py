"""Writing and committing shards: layout, records file, and what a second or dying attempt does."""

import dataclasses
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExampleToNumpyDict

from transforms import storage
from transforms.clock import Clock
from transforms.failures import Failure
from transforms.inputs import Shard
from transforms.records import Encoded, Record, Result
from transforms.shard_report import ShardReport
from transforms.sink import Sink

COLUMNS = pa.schema([pa.field("width", pa.int32()), pa.field("ids", pa.list_(pa.int64()))])
SHARD = Shard("part/train-00000-of-00001", "/in/train.tfrecord", 100)
BROKEN = Failure("decode", "truncated", "made to fail")


def sink_at(tmp_path, as_files=False, kind="masks"):
    return Sink(str(tmp_path / "out"), kind, "folder" if as_files else "tfrecord", COLUMNS)


def features(**values):
    made = tf.train.Example()
    for name, value in values.items():
        feature = made.features.feature[name.replace("__", "/")]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return made.SerializeToString(deterministic=True)


def record(index, serialized=b""):
    return Record(index, f"k{index}", f"src#{index}", 10 + index, serialized, f"deep/k{index}")


def result(data=b"mask", **outputs):
    pictures = {kind: Encoded(value, "png") for kind, value in {"masks": data, **outputs}.items()}
    return Result(pictures, {"width": 4, "ids": [1, 2]}, {"pixels": 7}, rank=0.5)


ITEMS = [
    (record(0, features(label=3, image__filename=b"k0")), result(b"m0")),
    (record(1, features(label=4, score=0.5)), BROKEN),
    (record(2), result(b"m2")),
]


def write(sink, items=ITEMS, shard=SHARD):
    with sink.open(shard, Clock()) as writer:
        for item in items:
            writer.write(*item)
        return writer.commit()


def tree(root):
    """Every file below a folder, with its content and when it was last changed."""
    return {
        os.path.relpath(os.path.join(folder, name), root): (
            storage.read_bytes(os.path.join(folder, name)),
            os.stat(os.path.join(folder, name)).st_mtime_ns,
        )
        for folder, _, names in os.walk(root)
        for name in names
    }


def examples(sink, shard=SHARD):
    path = f"{sink.root}/{sink.kind}/{shard.name}.tfrecord"
    return [
        tf.train.Example.FromString(data)
        for data in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]


def rows(sink, shard=SHARD):
    return pq.read_table(f"{sink.root}/records/{shard.name}.parquet").to_pylist()


def test_the_files_of_a_shard(tmp_path):
    sink = sink_at(tmp_path)
    report = write(sink)
    name = SHARD.name
    assert sorted(tree(sink.root)) == [
        f"masks/{name}.tfrecord",
        f"metrics/{name}.json",
        f"records/{name}.parquet",
    ]
    assert [file.path for file in report.files] == [
        f"masks/{name}.tfrecord",
        f"records/{name}.parquet",
    ]
    for file in report.files:
        path = os.path.join(sink.root, file.path)
        assert (file.size_bytes, file.crc32c) == (os.path.getsize(path), storage.file_crc32c(path))
    assert report.bytes_out == sum(file.size_bytes for file in report.files)


def test_the_report_counts_every_record(tmp_path):
    report = write(sink_at(tmp_path))
    assert (report.read, report.written, report.failed) == (3, 2, 1)
    assert report.read == report.written + report.failed
    assert report.failed_by_reason == {"truncated": 1}
    assert report.bytes_in == 33
    assert report.sums["pixels"] == 14 and sum(report.sums["image_bytes"].values()) == 2
    assert report.highlights["failures"]["truncated"][0][2] == "k1"
    assert (
        ShardReport.from_json(storage.read_bytes(f"{tmp_path}/out/metrics/{SHARD.name}.json"))
        == report
    )


def test_tensorflow_reads_the_layout_of_deeplab(tmp_path):
    sink = sink_at(tmp_path)
    write(sink)
    path = f"{sink.root}/masks/{SHARD.name}.tfrecord"
    spec = {
        name: tf.io.FixedLenFeature([], tf.string)
        for name in (
            "image/filename",
            "image/segmentation/class/encoded",
            "image/segmentation/class/format",
        )
    }
    parsed = [tf.io.parse_single_example(x, spec) for x in tf.data.TFRecordDataset(path)]
    got = [tuple(example[name].numpy() for name in spec) for example in parsed]
    assert got == [(b"k0", b"m0", b"png"), (b"k2", b"m2", b"png")]


def test_other_kinds_of_pictures_have_their_own_features(tmp_path):
    sink = sink_at(tmp_path, kind="images")
    write(sink, [(record(0), result(b"m", images=b"i", confidence=b"c"))])
    (example,) = examples(sink)
    values = {name: f.bytes_list.value[0] for name, f in example.features.feature.items()}
    assert values["image/encoded"] == b"i" and values["image/format"] == b"png"
    assert values["image/segmentation/class/encoded"] == b"m"
    assert values["image/segmentation/confidence/encoded"] == b"c"


def test_input_features_are_kept_as_tfx_bsl_reads_them(tmp_path):
    original = features(label=7, score=0.25, text=b"\xff\0", image__filename=b"name")
    sink = sink_at(tmp_path)
    write(sink, [(record(0, original), result())])
    (written,) = examples(sink)
    before = ExampleToNumpyDict(original)
    after = ExampleToNumpyDict(written.SerializeToString())
    assert set(after) - set(before) == {
        "image/segmentation/class/encoded",
        "image/segmentation/class/format",
    }
    for name, values in before.items():
        assert after[name].dtype == values.dtype and after[name].tolist() == values.tolist()


def test_a_feature_in_the_way_is_moved_not_lost(tmp_path):
    truth = {"image__segmentation__class__encoded": b"truth"}
    chained = {**truth, "input__image__segmentation__class__encoded": b"older"}
    sink = sink_at(tmp_path)
    write(
        sink, [(record(0, features(**truth)), result()), (record(1, features(**chained)), result())]
    )
    first, second = (example.features.feature for example in examples(sink))
    name = "image/segmentation/class/encoded"
    assert first[name].bytes_list.value == [b"mask"]
    assert first[f"input/{name}"].bytes_list.value == [b"truth"]
    assert second[name].bytes_list.value == [b"mask"]
    assert second[f"input/{name}"].bytes_list.value == [b"older"]
    assert second[f"input/input/{name}"].bytes_list.value == [b"truth"]


def test_a_feature_in_the_way_of_another_type_is_moved_too(tmp_path):
    sink = sink_at(tmp_path)
    write(sink, [(record(0, features(image__segmentation__class__format=5)), result())])
    (example,) = examples(sink)
    found = example.features.feature
    assert found["image/segmentation/class/format"].bytes_list.value == [b"png"]
    assert found["input/image/segmentation/class/format"].int64_list.value == [5]


def test_a_tree_of_files(tmp_path):
    sink = sink_at(tmp_path, as_files=True)
    report = write(sink, [(record(0), result(b"m0", confidence=b"c0")), (record(1), BROKEN)])
    assert {path: data for path, (data, _) in tree(sink.root).items() if path.endswith(".png")} == {
        "masks/deep/k0.png": b"m0",
        "confidence/deep/k0.png": b"c0",
    }
    assert sorted(file.path for file in report.files) == [
        "confidence/deep/k0.png",
        "masks/deep/k0.png",
        f"records/{SHARD.name}.parquet",
    ]


def test_a_folder_with_a_table_for_records_of_shards(tmp_path):
    sink = sink_at(tmp_path, as_files=True)
    records = [
        dataclasses.replace(record(i, features(image__filename=b"a/p.jpg", n=i)), output_name="")
        for i in range(2)
    ]
    left = tmp_path / "out" / "masks" / SHARD.name / "000001-p.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of an attempt that died, where this record did not fail")
    picture = b"\x89PNG\r\n\x1a\n"
    report = write(sink, [(records[0], result(picture, confidence=b"c")), (records[1], BROKEN)])
    folder = f"masks/{SHARD.name}"
    assert sorted(file.path for file in report.files) == [
        f"{folder}/000000-p.png",
        f"{folder}/000000-p_confidence.bin",
        f"{folder}/metadata.jsonl",
        f"records/{SHARD.name}.parquet",
    ]
    assert not left.exists()
    (line,) = map(json.loads, (left.parent / "metadata.jsonl").read_text().splitlines())
    assert line["file_name"] == "000000-p.png"
    assert (line["n"], line["image/filename"]) == (0, "a/p.jpg")


def test_every_record_has_a_row_and_failed_ones_no_picture(tmp_path):
    sink = sink_at(tmp_path)
    write(sink)
    ok, failed, last = rows(sink)
    assert len(examples(sink)) == 2
    assert ok["status"] == last["status"] == "ok" and ok["reason"] is None
    assert (ok["index"], ok["key"], ok["source"], ok["bytes_in"]) == (0, "k0", "src#0", 10)
    assert (ok["width"], ok["ids"]) == (4, [1, 2])
    assert failed["status"] == "failed" and failed["width"] is None
    assert (failed["stage"], failed["reason"], failed["message"]) == (
        "decode",
        "truncated",
        "made to fail",
    )


def test_the_records_file_is_typed_and_pandas_reads_it(tmp_path):
    sink = sink_at(tmp_path)
    write(sink)
    path = f"{sink.root}/records/{SHARD.name}.parquet"
    schema = pq.read_schema(path)
    assert schema.field("width").type == pa.int32() and schema.field("index").type == pa.int64()
    struct = schema.field("features").type
    assert struct.field("label").type == pa.large_list(pa.int64())
    assert struct.field("score").type == pa.large_list(pa.float32())
    assert struct.field("image/filename").type == pa.large_list(pa.large_binary())
    frame = pd.read_parquet(path)
    assert frame["status"].tolist() == ["ok", "failed", "ok"]
    assert [
        list(row["label"]) if row and row["label"] is not None else None
        for row in frame["features"]
    ] == [[3], [4], None]


def test_a_shard_without_records_is_a_shard(tmp_path):
    sink = sink_at(tmp_path)
    report = write(sink, [])
    assert (report.read, report.written, report.failed) == (0, 0, 0)
    assert examples(sink) == rows(sink) == []


def test_odd_keys_and_messages_are_stored_as_they_are(tmp_path):
    sink = sink_at(tmp_path)
    key = 'a\n\t"<script>\0☃'
    odd = dataclasses.replace(record(0), key=key)
    write(sink, [(odd, result()), (odd, Failure("model", "model_error", key))])
    assert [row["key"] for row in rows(sink)] == [key, key]
    assert rows(sink)[1]["message"] == key


@pytest.mark.parametrize("as_files", [False, True])
def test_paths_that_are_no_utf_8_do_not_stop_a_shard(tmp_path, as_files):
    sink = sink_at(tmp_path, as_files)
    name = os.fsdecode(b"caf\xe9")
    odd = dataclasses.replace(record(0), output_name=name)
    report = write(sink, [(odd, result(b"m")), (odd, Failure("read", "unreadable", name))])
    assert rows(sink)[1]["message"] == "caf\\xe9"
    assert sink.committed(SHARD) == report
    if as_files:
        assert storage.read_bytes(f"{sink.root}/{report.files[0].path}") == b"m"


@pytest.mark.parametrize("as_files", [False, True])
def test_all_files_are_synced_before_the_commit_record_says_so(tmp_path, monkeypatch, as_files):
    sink = sink_at(tmp_path, as_files)
    synced, at_commit = set(), []
    fsync, create_once = os.fsync, storage.create_once

    def note(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def look(root, path, data):
        for file in ShardReport.from_json(data).files:
            at_commit.append(os.stat(f"{root}/{file.path}").st_ino in synced)
        return create_once(root, path, data)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(storage, "create_once", look)
    report = write(sink)
    assert len(report.files) == (3 if as_files else 2)
    assert at_commit == [True] * len(report.files)


def test_records_of_one_name_are_counted(tmp_path):
    twice = dataclasses.replace(record(1), twice=True)
    report = write(sink_at(tmp_path), [(record(0), result()), (twice, result()), (twice, BROKEN)])
    assert report.sums["repeated_names"] == 2


@pytest.mark.parametrize("as_files", [False, True])
def test_the_same_results_give_the_same_bytes(tmp_path, as_files):
    sinks = [sink_at(tmp_path / name, as_files) for name in "ab"]
    trees = []
    for sink in sinks:
        write(sink)
        found = tree(sink.root)
        trees.append({p: d for p, (d, _) in found.items() if not p.startswith("metrics")})
    assert trees[0] == trees[1] and trees[0]


def test_a_second_attempt_answers_with_the_first_and_changes_nothing(tmp_path):
    sink = sink_at(tmp_path)
    first = write(sink)
    before = tree(sink.root)
    assert write(sink, [(record(0), result(b"other"))]) == first
    assert tree(sink.root) == before


def test_a_late_commit_is_refused_also_past_the_first_look(tmp_path, monkeypatch):
    """The zombie looked before the commit of the other and publishes after it."""
    sink = sink_at(tmp_path)
    with sink.open(SHARD, Clock()) as zombie:
        for item in ITEMS:
            zombie.write(*item)
        first = write(sink)
        before = {path: data for path, (data, _) in tree(sink.root).items() if path[0] != "_"}
        looks = iter([None, first])
        monkeypatch.setattr(Sink, "committed", lambda self, shard: next(looks))
        assert zombie.commit() == first
    assert {path: data for path, (data, _) in tree(sink.root).items()} == before


def test_of_racing_attempts_exactly_one_is_the_commit(tmp_path):
    sink = sink_at(tmp_path)
    for round_ in range(5):
        shard = Shard(f"s{round_}", "/in", 1)
        barrier = threading.Barrier(2)

        def attempt(_, shard=shard, barrier=barrier):
            with sink.open(shard, Clock()) as writer:
                for item in ITEMS:
                    writer.write(*item)
                barrier.wait(5)
                return writer.commit()

        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(attempt, range(2))
        assert one == two == sink.committed(shard)
        for file in one.files:
            assert storage.file_crc32c(f"{sink.root}/{file.path}") == file.crc32c
    assert os.listdir(f"{sink.root}/_tmp") == []


@pytest.mark.parametrize("as_files", [False, True])
def test_an_attempt_that_dies_commits_nothing_and_leaves_no_temporaries(tmp_path, as_files):
    sink = sink_at(tmp_path, as_files)
    with pytest.raises(KeyboardInterrupt), sink.open(SHARD, Clock()) as writer:
        writer.write(*ITEMS[0])
        raise KeyboardInterrupt
    assert sink.committed(SHARD) is None
    assert not os.path.exists(f"{sink.root}/metrics")
    assert os.listdir(f"{sink.root}/_tmp") == []
    assert write(sink).read == 3


def test_an_attempt_that_dies_between_publishing_and_committing_is_repaired(tmp_path, monkeypatch):
    sink = sink_at(tmp_path)

    def die(*_args):
        raise OSError("pulled the plug")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "create_once", die)
        with pytest.raises(OSError, match="plug"):
            write(sink)
    assert sink.committed(SHARD) is None
    assert os.path.exists(f"{sink.root}/masks/{SHARD.name}.tfrecord")
    assert write(sink) == sink.committed(SHARD)


def test_temporaries_go_also_when_the_disk_is_full(tmp_path, monkeypatch):
    sink = sink_at(tmp_path)

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "sync", full)
    with pytest.raises(OSError, match="No space"):
        write(sink)
    assert os.listdir(f"{sink.root}/_tmp") == []


def test_a_damaged_commit_record_is_named_with_the_way_out(tmp_path):
    sink = sink_at(tmp_path)
    write(sink)
    path = f"{sink.root}/metrics/{SHARD.name}.json"
    with open(path, "wb") as file:
        file.write(b"{")
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.json: .*delete it"):
        sink.committed(SHARD)
