"""`pixelmill pack` as a whole: masks and labels of the field, conversions, splits, new shards."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from support import content, metrics_of, real_data

from pipeline import cli, pack_job
from transforms.sink import read_written
from transforms.splits import is_validation

COUNT = 23


def pack(source: str | Path, out: str | Path, *more: str) -> int:
    return cli.main(["pack", "--input", str(source), "--output", str(out), *more])


def shards(out: str | Path) -> dict[str, list[bytes]]:
    """The examples of a run by the name of their shard."""
    names = [
        str(path.relative_to(Path(out) / "records").with_suffix(""))
        for path in sorted(Path(out).glob("records/**/*.parquet"))
    ]
    found: dict[str, list[bytes]] = {}
    for name in names:
        found[name] = []
        for example in read_written(str(out), "images", name):
            assert isinstance(example, bytes), example
            found[name].append(example)
    return found


def records(out: str | Path) -> list[bytes]:
    return [example for examples in shards(out).values() for example in examples]


def feature(example: bytes, name: str) -> Any:
    features = tf.train.Example.FromString(example).features.feature
    if name not in features:
        return None
    found = features[name]
    values = found.bytes_list.value or found.int64_list.value or found.float_list.value
    return values[0]


def name_of(example: bytes) -> str:
    found: bytes = feature(example, "image/filename")
    return found.decode()


def mask_of(example: bytes) -> Any:
    data = feature(example, "image/segmentation/class/encoded")
    return None if data is None else np.asarray(Image.open(io.BytesIO(data)))


def rows(out: str | Path) -> Iterator[dict[str, Any]]:
    for path in sorted(Path(out).glob("records/**/*.parquet")):
        yield from pq.read_table(path).to_pylist()


def picture(seed: int, height: int = 12, width: int = 16) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with EXIF, masks beside them; one is broken."""
    root = tmp_path_factory.mktemp("folder") / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for n in range(COUNT):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 1 + n % 8, "Secret Ltd"
        image = picture(n)
        image.save(root / f"images/{n % 4}_{n:02d}.jpg", exif=exif, quality=80)
        size = (16, 12) if n % 8 < 4 else (12, 16)
        ids = np.random.default_rng(n).integers(0, 5, size[::-1], np.uint8)
        Image.fromarray(ids).save(root / f"masks/{n % 4}_{n:02d}.png")
    (root / "images/0_08.jpg").write_bytes(b"\xff\xd8\xff broken")
    return root


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as 4 shards; the broken one has failed."""
    out = tmp_path_factory.mktemp("packed") / "out"
    assert pack(folder, out, "--images_per_shard=6", "--max_failed_fraction=0.2") == 0
    return out


def test_metadata_is_gone_from_packed_pictures_by_default(folder: Path, packed: Path) -> None:
    found = records(packed)
    assert len(found) == COUNT - 1
    for example in found:
        assert b"Secret" not in example
        before = Image.open(folder / name_of(example))
        after = Image.open(io.BytesIO(feature(example, "image/encoded")))
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
        assert after.getexif().get(0x0112, 1) == before.getexif()[0x0112]
    assert metrics_of(packed)["sums"]["metadata"] == {"EXIF": COUNT - 1}


def test_keep_and_refuse(folder: Path, tmp_path: Path) -> None:
    allowed = "--max_failed_fraction=0.2"
    assert pack(folder, tmp_path / "kept", "--metadata=keep", allowed) == 0
    for example in records(tmp_path / "kept"):
        assert feature(example, "image/encoded") == (folder / name_of(example)).read_bytes()
    assert pack(folder, tmp_path / "refused", "--metadata=refuse", allowed) == 1
    reasons = metrics_of(tmp_path / "refused")["records"]["failed_by_reason"]
    assert reasons["metadata"] == COUNT - 1


# ---- masks and labels of the field


def test_voc(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    palette = np.random.default_rng(0).integers(0, 256, 768).tolist()
    ids = {}
    for n in range(6):
        picture(n).save(root / f"JPEGImages/{n}.jpg")
        if n < 4:
            ids[n] = np.random.default_rng(n).choice([0, 1, 15, 20, 255], (12, 16)).astype(np.uint8)
            mask = Image.fromarray(ids[n], "P")
            mask.putpalette(palette)
            mask.save(root / f"SegmentationClass/{n}.png")
            mask.save(root / f"SegmentationObject/{n}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("1\n3\n")
    assert pack(root, tmp_path / "all", "--labels=voc") == 0
    assert pack(root, tmp_path / "val", "--labels=voc", "--image_set=val") == 0
    for out, numbers in (("all", [0, 1, 2, 3]), ("val", [1, 3])):
        found = records(tmp_path / out)
        assert [name_of(one) for one in found] == [f"JPEGImages/{n}.jpg" for n in numbers]
        for n, one in zip(numbers, found, strict=True):
            np.testing.assert_array_equal(mask_of(one), ids[n])
    assert pack(root, tmp_path / "no", "--labels=voc", "--image_set=train") == 2
    assert pack(root, tmp_path / "no", "--image_set=val") == 2


def test_voc_boxes(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for n in range(4):
        picture(n).save(root / f"JPEGImages/{n}.jpg")
        box = f"<bndbox><xmin>{n}</xmin><ymin>3</ymin><xmax>8</xmax><ymax>12</ymax></bndbox>"
        objects = f"<object><name>cat</name>{box}</object>" * n
        size = "<size><width>16</width><height>12</height></size>"
        (root / f"Annotations/{n}.xml").write_text(f"<a>{size}{objects}</a>")
    (root / "ImageSets/Main/cat_val.txt").write_text("1 -1\n2  1\n")
    more = ["--labels=voc_boxes", "--image_set=cat_val"]
    assert pack(root, tmp_path / "out", *more) == 0
    first, second = records(tmp_path / "out")
    assert feature(first, "image/object/bbox/xmin") == pytest.approx(1 / 16)
    features = tf.train.Example.FromString(second).features.feature
    assert features["image/object/class/label"].int64_list.value == [8, 8]
    assert features["image/object/bbox/ymax"].float_list.value == [1.0, 1.0]
    (root / "Annotations/3.xml").unlink()
    allowed = "--max_failed_fraction=0.5"
    assert pack(root, tmp_path / "all", "--labels=voc_boxes", allowed) == 0
    reasons = metrics_of(tmp_path / "all")["records"]["failed_by_reason"]
    assert reasons == {"label_missing": 1}


def test_cityscapes(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 34, (12, 16), np.uint8)
    for folder in ("leftImg8bit/val/ulm", "gtFine/val/ulm"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    picture(0).save(tmp_path / "in/leftImg8bit/val/ulm/ulm_0_leftImg8bit.png")
    for kind, values in (("labelIds", ids), ("labelTrainIds", ids % 19), ("instanceIds", ids + 1)):
        Image.fromarray(values).save(tmp_path / f"in/gtFine/val/ulm/ulm_0_gtFine_{kind}.png")
    for labels, expected in (("cityscapes", ids), ("cityscapes_train", ids % 19)):
        assert pack(tmp_path / "in", tmp_path / labels, f"--labels={labels}") == 0
        (example,) = records(tmp_path / labels)
        np.testing.assert_array_equal(mask_of(example), expected)


def test_folders_of_classes(tmp_path: Path) -> None:
    for n, name in enumerate(("dog", "cat", "dog")):
        (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
        picture(n).save(tmp_path / f"in/{name}/{n}.png")
    assert pack(tmp_path / "in", tmp_path / "out", "--labels=folders") == 0
    found = {
        name_of(e): (feature(e, "image/class/label"), feature(e, "image/class/text"))
        for e in records(tmp_path / "out")
    }
    assert found == {"cat/1.png": (0, b"cat"), "dog/0.png": (1, b"dog"), "dog/2.png": (1, b"dog")}
    assert {row["key"]: row["label"] for row in rows(tmp_path / "out")}["dog/0.png"] == 1
    more = ["--labels=folders", "--classes=dog,cat"]
    assert pack(tmp_path / "in", tmp_path / "other", *more) == 0
    assert {name_of(e): feature(e, "image/class/label") for e in records(tmp_path / "other")} == {
        "cat/1.png": 1,
        "dog/0.png": 0,
        "dog/2.png": 0,
    }


def test_coco(tmp_path: Path) -> None:
    (tmp_path / "in/val").mkdir(parents=True)
    for n in range(3):
        picture(n).save(tmp_path / f"in/val/{n}.jpg")
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    annotations = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "height": 12, "width": 16} for n in (0, 1, 5)
        ],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "iscrowd": 0, "segmentation": [square]},
            {
                "id": 2,
                "image_id": 0,
                "category_id": 90,
                "iscrowd": 1,
                "segmentation": {"size": [12, 16], "counts": [0, 12 * 16]},
            },
            {"id": 3, "image_id": 5, "category_id": 3, "iscrowd": 0, "segmentation": [square]},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 90, "name": "brush"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(annotations))
    more = ["--labels=coco", "--annotations", str(tmp_path / "c.json"), "--images_per_shard=1"]
    assert pack(tmp_path / "in", tmp_path / "out", *more) == 0
    first, second = records(tmp_path / "out")
    expected = np.full((12, 16), 90, np.uint8)
    expected[2:8, 2:8] = 3
    np.testing.assert_array_equal(mask_of(first), expected)
    assert not mask_of(second).any()
    notes = json.loads((tmp_path / "out/run.json").read_text())["notes"]
    assert notes["classes"] == {"3": "car", "90": "brush"}
    assert cli.main(["verify", str(tmp_path / "out")]) == 0
    assert pack(tmp_path / "in", tmp_path / "out", *more) == 0  # done is done
    more[0] = "--labels=coco_instances"
    assert pack(tmp_path / "in", tmp_path / "instances", *more) == 0
    np.testing.assert_array_equal(
        mask_of(records(tmp_path / "instances")[0]), np.where(expected == 3, 3 * 256 + 1, 90 * 256)
    )
    more[0] = "--labels=coco"
    annotations["categories"] = []
    (tmp_path / "c.json").write_text(json.dumps(annotations))
    assert pack(tmp_path / "in", tmp_path / "out", *more) == 2  # another run
    assert pack(tmp_path / "in", tmp_path / "no", "--labels=coco") == 2


# ---- shards of shards


def test_a_tfds_schema_gets_the_usual_names(packed: Path, tmp_path: Path) -> None:
    writer = tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord"))
    for example in records(packed):
        made = tf.train.Example()
        features = made.features.feature
        features["image"].bytes_list.value.append(feature(example, "image/encoded"))
        features["file_name"].bytes_list.value.append(name_of(example).encode())
        features["label"].int64_list.value.append(7)
        mask = feature(example, "image/segmentation/class/encoded")
        features["segmentation_mask"].bytes_list.value.append(mask)
        writer.write(made.SerializeToString())
    writer.close()
    assert pack(tmp_path / "a.tfrecord", tmp_path / "out", "--schema=tfds") == 0
    for old, new in zip(records(packed), records(tmp_path / "out"), strict=True):
        for name in ("image/encoded", "image/filename", "image/segmentation/class/encoded"):
            assert feature(new, name) == feature(old, name)
        assert feature(new, "image/class/label") == 7
    assert pack(tmp_path / "a.tfrecord", tmp_path / "no") == 2  # and says which flag


def test_formats_in_a_circle(packed: Path, tmp_path: Path) -> None:
    """By tar, Parquet, folder, ArrayRecord, tar.gz to TFRecord: examples are what they were."""
    source = packed / "images"
    for number, name in enumerate(
        ("tar", "parquet", "folder", "array_record", "tar.gz", "tfrecord")
    ):
        out = tmp_path / f"{number}"
        assert pack(source, out, f"--output_format={name}", "--images_per_shard=6") == 0
        assert cli.main(["verify", str(out)]) == 0
        source = out / "images"
        if name != "folder":
            assert [tf.train.Example.FromString(e) for e in records(out)] == [
                tf.train.Example.FromString(e) for e in records(packed)
            ]
    assert records(out) == records(packed)
    assert pack(packed / "images", tmp_path / "tar", "--output_format=tar") == 0
    assert {n: len(s) for n, s in shards(tmp_path / "tar").items()} == {
        n: len(s) for n, s in shards(packed).items()
    }


def test_a_split_by_name_shard_by_shard(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ["--validation_fraction=0.4", r"--split_by=/(\d)_"]
    assert pack(packed / "images", out, *more) == 0
    found = shards(out)
    keys = {name_of(e) for e in records(packed)}
    parts: dict[str, set[str]] = {"train": set(), "validation": set()}
    for name, examples in found.items():
        parts[name.partition("/")[0]] |= {name_of(e) for e in examples}
    assert parts["train"] | parts["validation"] == keys
    groups = {part: {key[7] for key in found} for part, found in parts.items()}
    assert not groups["train"] & groups["validation"] and all(groups.values())
    report = metrics_of(out)["records"]
    assert report["read"] == report["written"] == COUNT - 1


def test_records_of_a_run(packed: Path, folder: Path, tmp_path: Path) -> None:
    more = ["--records", str(packed), "--where", "status = ok and width > 12"]
    wide = {row["key"] for row in rows(packed) if row["status"] == "ok" and row["width"] > 12}
    assert 0 < len(wide) < COUNT - 1
    for source, out in ((packed / "images", "shards"), (folder, "files")):
        assert pack(source, tmp_path / out, *more) == 0
        assert {name_of(e) for e in records(tmp_path / out)} == wide
    assert pack(folder, tmp_path / "ok", "--records", str(packed)) == 0
    assert metrics_of(tmp_path / "ok")["records"]["failed"] == 0
    assert pack(folder, tmp_path / "no", "--records", str(packed), "--where=x") == 2


@pytest.mark.parametrize("source", ["files", "shards"])
def test_new_shards_are_shuffled_split_and_bounded(
    folder: Path, packed: Path, tmp_path: Path, source: str
) -> None:
    more = ["--images_per_shard=4", "--shuffle=5", "--validation_fraction=0.3"]
    more.append("--max_failed_fraction=0.5")
    place = folder if source == "files" else packed / "images"
    assert pack(place, tmp_path / "a", *more) == 0
    assert pack(place, tmp_path / "b", *more) == 0
    assert pack(place, tmp_path / "c", *more, "--shuffle=6") == 0
    found = shards(tmp_path / "a")
    assert found == shards(tmp_path / "b") != shards(tmp_path / "c")
    assert content(tmp_path / "a", places=False) == content(tmp_path / "b", places=False)
    keys = [name_of(e) for examples in found.values() for e in examples]
    assert sorted(keys) == sorted(name_of(e) for e in records(packed)) != keys
    for name, examples in found.items():
        assert len(examples) <= 4
        for example in examples:
            validates = is_validation(name_of(example), 0.3)
            assert validates == name.startswith("validation/")
    assert {e for es in found.values() for e in es} == set(records(packed))
    assert cli.main(["verify", str(tmp_path / "a")]) == 0
    assert not (tmp_path / "a/staged").exists()
    assert pack(place, tmp_path / "a", *more) == 0  # done is done


@pytest.mark.slow
def test_the_order_does_not_depend_on_the_shards_that_were(packed: Path, tmp_path: Path) -> None:
    more = ["--images_per_shard=5", "--shuffle=5"]
    assert pack(packed / "images", tmp_path / "a", *more) == 0
    assert pack(packed / "images", tmp_path / "other", "--images_per_shard=3") == 0
    assert records(tmp_path / "other") == records(packed)  # without --shuffle in their order
    assert pack(tmp_path / "other/images", tmp_path / "b", *more) == 0
    assert list(shards(tmp_path / "a").values()) == list(shards(tmp_path / "b").values())


def test_failed_records_stay_in_the_books(packed: Path, tmp_path: Path) -> None:
    """read = written + failed in every new shard: a record that cannot be read has its row."""
    (tmp_path / "in").mkdir()
    for path in sorted((packed / "images").iterdir()):
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    (tmp_path / "in" / path.name).write_bytes(data)
    more = ["--images_per_shard=4", "--shuffle=1", "--max_failed_fraction=0.3"]
    assert pack(tmp_path / "in", tmp_path / "out", *more) == 0
    found = metrics_of(tmp_path / "out")["records"]
    assert (found["read"], found["failed_by_reason"]) == (COUNT - 1, {"bad_record": 1})
    (failed,) = (row for row in rows(tmp_path / "out") if row["status"] == "failed")
    assert failed["reason"] == "bad_record" and "checksum" in failed["message"]


def test_shards_by_size(packed: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    for n in range(9):
        picture(n, 300, 400).save(big / f"{n}.png")
    assert pack(big, tmp_path / "files", "--shard_mb=1") == 0
    assert pack(tmp_path / "files/images", tmp_path / "out", "--shard_mb=2") == 0
    for out, most, count in (("files", 10**6, 5), ("out", 2 * 10**6, 2)):
        sizes = [sum(map(len, examples)) for examples in shards(tmp_path / out).values()]
        assert len(sizes) == count and max(sizes) <= most * 1.01
    assert records(tmp_path / "out") == records(tmp_path / "files")


def test_masks_that_came_in_shards_are_exported(packed: Path, tmp_path: Path) -> None:
    assert pack(packed / "images", tmp_path / "new", "--images_per_shard=9") == 0
    command = ["export", "--format=hf_imagefolder", str(tmp_path / "new"), str(tmp_path / "out")]
    assert cli.main(command) == 0
    tables = list((tmp_path / "out").rglob("metadata.jsonl"))
    assert sum(len(table.read_text().splitlines()) for table in tables) == COUNT - 1


def test_a_first_pass_that_was_stopped(
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = packed / "images", tmp_path / "out"

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pack_job, "plan_groups", stop)
        assert pack(source, out, "--images_per_shard=9") == 130
    assert cli.main(["status", str(out)]) == 0
    assert "4 of 4 committed" in capsys.readouterr().out
    assert cli.main(["verify", str(out)]) == 2
    assert "verify it when it is done" in capsys.readouterr().err
    assert pack(source, out) == 2
    assert "the first pass of another run" in capsys.readouterr().err
    assert pack(source, out, "--overwrite") == 0
    assert not (out / "staged").exists()


def test_flags_that_contradict_one_another(packed: Path, folder: Path, tmp_path: Path) -> None:
    source = packed / "images"
    for place, *more in (
        (source, "--shuffle=3"),
        (source, "--labels=voc"),
        (source, "--split_by=x"),
        (source, "--where=a=b"),
        (folder, "--image_format=png", "--metadata=keep"),
        (folder, "--quality=50"),
        (folder, "--quality=50", "--image_format=png"),
        (folder, "--classes=a,b"),
        (folder, "--annotations=x.json"),
        (folder, "--validation_fraction=0.5", "--split_by=("),
    ):
        assert pack(place, tmp_path / "no", *more) == 2
    assert not (tmp_path / "no").exists()


def test_another_codec(folder: Path, tmp_path: Path) -> None:
    more = ["--image_format=webp", "--quality=80", "--max_failed_fraction=0.2"]
    assert pack(folder, tmp_path / "out", *more) == 0
    for example in records(tmp_path / "out"):
        assert feature(example, "image/format") == b"webp"
        with Image.open(io.BytesIO(feature(example, "image/encoded"))) as image:
            assert image.format == "WEBP" and image.size == mask_of(example).shape[::-1]


@pytest.mark.slow
def test_killed_in_either_pass_it_ends_as_if_it_was_never_killed(
    packed: Path, tmp_path: Path
) -> None:
    more = ["--images_per_shard=3", "--shuffle=5", "--output_format=tar"]
    assert pack(packed / "images", tmp_path / "usual", *more) == 0
    out = tmp_path / "killed"
    command: Sequence[str] = [
        *(sys.executable, "-m", "pipeline.cli", "pack", "--input", str(packed / "images")),
        *("--output", str(out), *more),
    ]
    killed = 0
    for wanted in ("staged/metrics/*.json", "staged/_SUCCESS", "run.json", "metrics/*.json"):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + 240
        while not list(out.glob(wanted)) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 3
    assert pack(packed / "images", out, *more) == 0
    assert shards(out) == shards(tmp_path / "usual")
    for path in sorted(Path(tmp_path / "usual").glob("images/**/*.tar")):
        assert (out / path.relative_to(tmp_path / "usual")).read_bytes() == path.read_bytes()
    assert cli.main(["verify", str(out)]) == 0


def test_real_pictures_with_masks(tmp_path: Path) -> None:
    """CamVid's: into Parquet with other shards, and back by way of a split."""
    source = real_data("camvid_val")
    listed = f"{source}/images/*_0*.png,{source}/masks/*_0*.png"
    assert pack(listed, tmp_path / "a", "--images_per_shard=40") == 0
    more = ["--output_format=parquet", "--images_per_shard=30", "--shuffle=1"]
    assert pack(tmp_path / "a/images", tmp_path / "b", *more) == 0
    assert pack(tmp_path / "b/images", tmp_path / "c", "--validation_fraction=0.2") == 0
    assert sorted(records(tmp_path / "c")) == sorted(records(tmp_path / "a"))
    assert all(mask_of(e) is not None for e in records(tmp_path / "c"))
