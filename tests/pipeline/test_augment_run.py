"""Whole runs of an augmentation: equal to a plain loop, in every way of running it."""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from augmented import (
    examples,
    ids,
    left_out,
    picture,
    pixels_of,
    png,
    recipe,
    row,
    run,
    text,
    write_shards,
)
from gcs_server import GcsServer
from PIL import Image
from sklearn.datasets import load_digits
from support import commits, content

from models.errors import UserError
from models.loading import import_tensorflow
from pipeline import cli
from pipeline.augment_run import augment, plan_source
from pipeline.run_files import read_metrics
from transforms.augmentation.apply import make_copy
from transforms.augmentation.recipe import parse_recipe
from transforms.augmentation.scene import Scene

ROUGH = [
    {"step": "flip"},
    {"step": "rotate", "degrees": [-30, 30]},
    {"step": "scale_crop", "size": [40, 40]},
    {"step": "elastic", "p": 0.5},
    {"step": "colour", "hue": [-20, 20]},
    {"step": "noise"},
    {"step": "fog", "p": 0.3},
]
MIXED = [*ROUGH, {"step": "cutmix"}, {"step": "copy_paste", "classes": [1, 2]}]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eighteen pictures with masks in three shards; one is broken."""
    rows = [row(number) for number in range(18)]
    rows[7]["image/encoded"] = rows[7]["image/encoded"][:200]
    folder = tmp_path_factory.mktemp("masked")
    return write_shards(folder, [rows[:6], rows[6:12], rows[12:]])


def test_copies_equal_a_plain_loop(masked: str, tmp_path: Path) -> None:
    made = recipe(masked, per_image=3, steps=ROUGH, classes=["ground", "a", "b", "c"])
    assert run(made, tmp_path) == 0
    found = examples(tmp_path)
    assert len(found) == 17 * 3
    for number in set(range(18)) - {7}:
        scene = Scene(picture(number), ids(number), key=f"{number}.png")
        for copy in range(3):
            expected, done = make_copy(
                scene, made.steps, seed=5, copy=copy, ignore_id=255, partners=None
            )
            features = found[f"{number}.png#{copy}"]
            np.testing.assert_array_equal(pixels_of(features), expected.pixels)
            mask = pixels_of(features, "image/segmentation/class/encoded")
            np.testing.assert_array_equal(mask, expected.mask)
            assert json.loads(text(features, "image/augmented/operations")) == done
            assert text(features, "image/augmented/source") == f"{number}.png"
            assert text(features, "image/augmented/recipe") == made.fingerprint
            assert features["image/augmented/copy"].int64_list.value == [copy]
            assert features["image/height"].int64_list.value == [40]
    metrics = read_metrics(str(tmp_path))
    assert metrics["records"]["failed_by_reason"] == {"truncated": 1}
    sums = metrics["sums"]
    assert (sums["sources"], sums["sources_used"], sums["copies"]) == (18, 17, 51)
    all_ids = np.bincount(
        np.concatenate(
            [pixels_of(f, "image/segmentation/class/encoded").ravel() for f in found.values()]
        ),
        minlength=256,
    )
    assert sums["class_pixels"] == all_ids[:4].tolist()
    assert sums["ignored_pixels"] == all_ids[255]
    rows = [
        r for p in sorted((tmp_path / "records").iterdir()) for r in pq.read_table(p).to_pylist()
    ]
    assert [r["key"] for r in rows if r["status"] == "failed"] == ["7.png"]
    table = {r["name"]: r["images"] for r in metrics["metrics"]["classes"]}
    assert list(table) == ["ground", "a", "b", "c"] and table["ground"] == 51
    report = (tmp_path / "report.html").read_text()
    assert "Augmentation report" in report and "No report" not in report
    assert "cannot be shown" not in report
    assert cli.main(["verify", str(tmp_path)]) == 0
    assert cli.main(["status", str(tmp_path)]) == 0


def test_nothing_depends_on_threads_or_restarts(masked: str, tmp_path: Path) -> None:
    made = recipe(masked, per_image=2, steps=MIXED, balance={"by": "pixels"})
    assert run(made, tmp_path / "a", threads=1) == 0
    assert run(made, tmp_path / "b", threads=3) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")
    name = "in-00001-of-00003"  # as a kill would leave it
    (tmp_path / "b" / "metrics" / f"{name}.json").unlink()
    (tmp_path / "b" / "images" / f"{name}.tfrecord").unlink()
    assert run(made, tmp_path / "b", threads=2) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")
    with pytest.raises(UserError, match=r"recipe.seed: 5 in .*, now 6"):
        run(made.model_copy(update={"seed": 6}), tmp_path / "b")


@pytest.mark.slow
def test_a_shard_depends_on_no_other(masked: str, tmp_path: Path) -> None:
    made = recipe(masked, per_image=2, steps=MIXED, balance={"by": "images", "target": 12})
    assert run(made, tmp_path / "all") == 0
    shards = plan_source(masked)
    flags = argparse.Namespace(max_failed_fraction=0.5)
    for shard in shards:
        assert augment(made, [shard], str(tmp_path / shard.name), flags) == 0
        for name in (f"images/{shard.name}.tfrecord", f"records/{shard.name}.parquet"):
            alone, together = (tmp_path / part / name for part in (shard.name, "all"))
            assert alone.read_bytes() == together.read_bytes()


@pytest.mark.slow
def test_worker_processes_make_the_same(masked: str, tmp_path: Path) -> None:
    made = recipe(masked, per_image=2, steps=MIXED, balance={"by": "pixels"})
    assert run(made, tmp_path / "one") == 0
    fields = json.dumps(made.model_dump(mode="json"))
    code = (
        "import argparse, json, sys\n"
        "from pipeline.augment_run import augment, plan_source\n"
        "from pipeline.engine import pipeline_options\n"
        "from transforms.augmentation.recipe import parse_recipe\n"
        "made = parse_recipe(json.loads(sys.argv[1]))\n"
        "several = ['--direct_running_mode=multi_processing', '--direct_num_workers=2']\n"
        "flags = argparse.Namespace(max_failed_fraction=0.5)\n"
        "shards = plan_source(made.source)\n"
        "sys.exit(augment(made, shards, sys.argv[2], flags, pipeline_options(several)))\n"
    )
    command = [sys.executable, "-c", code, fields, str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "one") == content(tmp_path / "two")


def _slowly(fields: dict[str, Any], out: str) -> None:
    from transforms import augment as module

    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(0.05)
        return make_copy(*args, **named)

    module.make_copy = slow  # type: ignore[assignment]
    os._exit(run(parse_recipe(fields), out))


@pytest.mark.slow
def test_killed_and_started_again_it_ends_the_same(masked: str, tmp_path: Path) -> None:
    made = recipe(masked, per_image=2, steps=MIXED)
    assert run(made, tmp_path / "usual") == 0
    out = tmp_path / "killed"
    halfway = 0
    for _ in range(3):
        before = len(commits(out))
        process = faults.start(_slowly, made.model_dump(mode="json"), str(out))
        while process.is_alive() and len(commits(out)) == before:
            time.sleep(0.01)
        process.kill()
        process.join()
        halfway += 0 < len(commits(out)) < 3
    assert halfway, "no kill fell between two commits"
    assert run(made, out) == 0
    assert content(out) == content(tmp_path / "usual")


@pytest.mark.slow
def test_in_a_bucket_it_is_the_same(gcs: GcsServer, tmp_path: Path) -> None:
    sources = [[row(0), row(1), row(2)], [row(3), row(2), row(4)]]
    local = write_shards(tmp_path / "in", sources)
    held = write_shards(tmp_path / "val", [[row(1)]])
    gcs.upload(str(tmp_path / "in"), "in")
    gcs.upload(str(tmp_path / "val"), "val")
    fields: dict[str, Any] = {"steps": MIXED, "per_image": 2, "classes": ["a", "b", "c", "d"]}
    usual = recipe(local, filter={"validation": [held]}, **fields)
    assert run(usual, tmp_path / "out") == 0
    remote = "gs://bucket/val/in-*.tfrecord"
    there = recipe("gs://bucket/in/in-*.tfrecord", filter={"validation": [remote]}, **fields)
    assert there.fingerprint == usual.fingerprint
    assert run(there, "gs://bucket/out") == 0
    found = content(gcs.download("out", tmp_path / "copy"), places=False)
    expected = content(tmp_path / "out", places=False)
    assert found == expected
    assert cli.main(["replay", "gs://bucket/out", "4.png#1"]) == 0


# What is left out


def test_nothing_is_made_of_validation_pictures(tmp_path: Path) -> None:
    """Nor of a copy of one, of what says that it was made of one, or of what looks like one."""
    brighter = np.clip(picture(3).astype(int) + 4, 0, 255).astype(np.uint8)
    rows = [
        row(0),
        row(1),
        {**row(2), "image/filename": "renamed.png"},
        {**row(3), "image/filename": "brighter.png", "image/encoded": png(brighter)},
        {**row(4), "image/filename": "child.png", "image/augmented/source": "104.png"},
        row(5),
    ]
    validation = [
        {**row(100), "image/filename": "1.png"},
        {**row(2), "image/filename": "v2.png"},
        {**row(3), "image/filename": "v3.png"},
        {**row(104), "image/filename": "104.png"},
    ]
    source = write_shards(tmp_path / "train", [rows])
    held = write_shards(tmp_path / "val", [validation])
    made = recipe(source, steps=MIXED, filter={"validation": [held]})
    assert run(made, tmp_path / "out") == 0
    assert left_out(tmp_path / "out") == {
        "1.png": "leak_key",
        "renamed.png": "leak_exact",
        "brighter.png": "leak_near",
        "child.png": "leak_key",
    }
    found = examples(tmp_path / "out")
    assert set(found) == {"0.png#0", "5.png#0"}
    partners = {
        value.decode()
        for features in found.values()
        for value in features["image/augmented/partners"].bytes_list.value
    }
    assert partners == {"0.png", "5.png"}, "parts of others come from usable pictures only"
    assert read_metrics(str(tmp_path / "out"))["sums"]["left_out"] == {
        "leak_exact": 1,
        "leak_key": 2,
        "leak_near": 1,
    }
    assert cli.main(["verify", str(tmp_path / "out")]) == 0


def test_copies_of_synthetic_pictures_say_so(tmp_path: Path) -> None:
    rows = [row(0), {**row(1), "image/generated/model": "abc"}]
    steps = [{"step": "cutmix"}]
    assert run(recipe(write_shards(tmp_path / "in", [rows]), steps=steps), tmp_path / "a") == 0
    for key, features in examples(tmp_path / "a").items():
        assert text(features, "image/augmented/generators") == "abc", key  # of source or partner
        assert (
            b"compositeWithTrainedAlgorithmicMedia" in features["image/encoded"].bytes_list.value[0]
        )
    # and so do copies of copies
    again = recipe(f"{tmp_path}/a/images/in-*.tfrecord")
    assert run(again, tmp_path / "b") == 0
    features = examples(tmp_path / "b")["0.png#0#0"]
    assert text(features, "image/augmented/generators") == "abc"
    assert features["image/augmented/ancestors"].bytes_list.value == [b"0.png", b"1.png"]
    assert cli.main(["replay", str(tmp_path / "b"), "0.png#0#0"]) == 0


def test_poor_and_repeated_pictures_are_left_out(tmp_path: Path) -> None:
    flat = np.full((44, 52, 3), 90, np.uint8)
    rows = [
        row(0),
        {**row(0), "image/filename": "twin.png"},
        {**row(1), "image/encoded": png(np.zeros((44, 52, 3), np.uint8))},
        {**row(2), "image/encoded": png(flat)},
        {
            **row(3),
            "image/encoded": png(picture(3, (8, 52))),
            "image/segmentation/class/encoded": png(ids(3, (8, 52))),
        },
        {**row(4), "image/segmentation/class/encoded": png(np.full((44, 52), 255, np.uint8))},
    ]
    source = write_shards(tmp_path / "train", [rows])
    filters = {"min_side_px": 10, "brightness": [5, 250], "min_sharpness": 0.5}
    assert run(recipe(source, filter=filters), tmp_path / "out") == 0
    assert left_out(tmp_path / "out") == {
        "twin.png": "duplicate",
        "1.png": "brightness",
        "2.png": "blurred",
        "3.png": "too_small",
        "4.png#0": "mostly_ignored",
    }
    assert set(examples(tmp_path / "out")) == {"0.png#0"}


# Labels


def test_labels_are_balanced_and_blended(tmp_path: Path) -> None:
    labels = [0] * 6 + [1] * 2 + [2]
    names = ("ant", "bee", "cow")
    rows = [
        row(n, False, **{"image/class/label": c, "image/class/text": names[c]})
        for n, c in enumerate(labels)
    ]
    source = write_shards(tmp_path / "train", [rows])
    made = recipe(source, per_image=0, balance={"max_copies": 10}, format="jpeg")
    assert run(made, tmp_path / "plain") == 0
    found = examples(tmp_path / "plain")
    counts = Counter(f["image/class/label"].int64_list.value[0] for f in found.values())
    assert counts == {1: 4, 2: 5}
    assert {text(f, "image/class/text") for f in found.values()} == {"bee", "cow"}
    assert all(text(f, "image/format") == "jpeg" for f in found.values())
    made = recipe(source, steps=[{"step": "mixup", "weight": [0.3, 0.3]}])
    assert run(made, tmp_path / "mixed") == 0
    for features in examples(tmp_path / "mixed").values():
        own = int(text(features, "image/augmented/source").removesuffix(".png"))
        other = int(features["image/augmented/partners"].bytes_list.value[0].removesuffix(b".png"))
        mean = 0.7 * picture(own) + 0.3 * picture(other)
        assert np.abs(pixels_of(features) - mean).max() <= 0.51
        shares = dict(
            zip(
                features["image/augmented/labels"].int64_list.value,
                features["image/augmented/label_shares"].float_list.value,
                strict=True,
            )
        )
        expected = Counter({labels[own]: 0.7})
        expected[labels[other]] += 0.3
        assert shares == pytest.approx(dict(expected))


# Masks by a segmenter


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A segmenter that is sure of dark and of bright, and unsure between."""
    tensorflow = import_tensorflow()

    @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, None, None, 3], tf.float32)])
    def segment(image: Any) -> dict[str, Any]:
        grey = tensorflow.reduce_mean(image, -1, keepdims=True) - 0.5
        return {"logits": tensorflow.concat([-20.0 * grey, 20.0 * grey], -1)}

    path = str(tmp_path_factory.mktemp("models") / "halves")
    tensorflow.saved_model.save(tensorflow.Module(), path, signatures=segment)
    return path


def test_pictures_without_masks_get_them_where_the_segmenter_is_sure(
    halves: str, tmp_path: Path
) -> None:
    rows = [row(0), row(1, False), row(2, False), row(3, False)]
    rows[2]["image/encoded"] = png(np.full((44, 52, 3), 127, np.uint8))  # unsure all over
    source = write_shards(tmp_path / "train", [rows])
    card = tmp_path / "card.yaml"
    card.write_text('input: {range: "0,1"}\noutput: {kind: logits}\n')
    wanted = {"model": halves, "card": str(card), "min_confidence": 0.9, "min_part": 0.2}
    made = recipe(source, pseudo_label=wanted, steps=[{"step": "flip", "p": 1}])
    out = tmp_path / "out"
    assert run(made, out) == 0
    found = examples(out)
    assert left_out(out) == {"2.png": "unsure"}
    assert set(found) == {"0.png#0", "1.png#0", "3.png#0"}
    for number in (1, 3):
        grey = picture(number).astype(np.float64).mean(-1) / 255 - 0.5
        probability = 1 / (1 + np.exp(-40 * np.abs(grey)))
        mask = pixels_of(found[f"{number}.png#0"], "image/segmentation/class/encoded")[:, ::-1]
        clear = np.abs(probability - 0.9) > 0.004  # confidence is kept in steps of 1/255
        expected = np.where(probability >= 0.9, grey > 0, 255)
        np.testing.assert_array_equal(mask[clear], expected[clear])
        models = json.loads(text(found[f"{number}.png#0"], "image/augmented/models"))
        assert len(models["pseudo_label"]) == 64
    assert text(found["0.png#0"], "image/augmented/models") == "{}"
    assert cli.main(["replay", str(out), "1.png#0"]) == 0


# Made again


def test_replay_makes_every_example_again(
    masked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(masked, per_image=1, steps=[{"step": "jpeg"}, *MIXED])
    assert run(made, tmp_path) == 0
    keys = sorted(examples(tmp_path))
    for key in keys[::3]:
        assert cli.main(["replay", str(tmp_path), key]) == 0
    assert "the same to the last byte" in capsys.readouterr().out
    assert cli.main(["replay", str(tmp_path), "1.pn#0"]) == 2
    assert "has no example 1.pn#0; there is 1.png#0" in capsys.readouterr().err
    assert cli.main(["replay", str(tmp_path / "records"), "1.png#0"]) == 2
    records = next((tmp_path / "records").iterdir())
    records.write_bytes(records.read_bytes()[:100])
    capsys.readouterr()
    assert cli.main(["replay", str(tmp_path), "1.png#0"]) == 2
    assert f"{records} cannot be read" in capsys.readouterr().err


def test_replay_tells_when_the_source_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_shards(tmp_path / "train", [[row(0), row(1)]])
    assert run(recipe(source, steps=ROUGH), tmp_path / "out") == 0
    write_shards(tmp_path / "train", [[{**row(2), "image/filename": "0.png"}, row(1)]])
    assert cli.main(["replay", str(tmp_path / "out"), "1.png#0"]) == 0
    assert cli.main(["replay", str(tmp_path / "out"), "0.png#0"]) == 1
    assert "other bytes in image/encoded, image/segmentation" in capsys.readouterr().out
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    assert cli.main(["replay", str(tmp_path / "out"), "1.png#0"]) == 2
    assert "cannot be read" in capsys.readouterr().err


# What is refused

Refused = Callable[..., None]


def test_what_cannot_work_is_refused_before_anything_is_written(
    masked: str, photos: str, tmp_path: Path
) -> None:
    bare = write_shards(tmp_path / "bare", [[row(0, False, **{"image/class/label": 1})]])
    with pytest.raises(UserError, match="class ids of two masks cannot be blended"):
        run(recipe(masked, steps=[{"step": "mixup"}]), tmp_path / "out")
    with pytest.raises(UserError, match="takes instances from masks"):
        run(recipe(bare, steps=[{"step": "copy_paste", "classes": [1]}]), tmp_path / "out")
    with pytest.raises(UserError, match="pixelmill pack --input"):
        plan_source(photos)
    with pytest.raises(UserError, match="expected one bytes value in feature 'picture'"):
        run(recipe(masked, features={"image": "picture"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_without_any_answer_are_failures(tmp_path: Path) -> None:
    source = write_shards(tmp_path / "train", [[row(0), row(1, False)]])
    assert run(recipe(source), tmp_path / "out") == 0
    metrics = read_metrics(str(tmp_path / "out"))
    assert metrics["records"]["failed_by_reason"] == {"label_missing": 1}


# Pictures by a generator

SHIPPED = Path(__file__).parents[2] / "models" / "shipped"


def digit_shard(folder: Path) -> str:
    """Real digits: five of each but two of the 4 and one of the 7."""
    digits = load_digits()
    rows, have = [], Counter[int]()
    for number, (grey, label) in enumerate(zip(digits.images, digits.target.tolist(), strict=True)):
        if have[label] < {4: 2, 7: 1}.get(label, 5):
            have[label] += 1
            small = Image.fromarray(np.rint(grey * 15.9).astype(np.uint8))
            pixels = np.repeat(np.asarray(small.resize((32, 32)))[..., None], 3, axis=2)
            name = {"image/filename": f"{number}.png", "image/encoded": png(pixels)}
            rows.append({**name, "image/class/label": label})
    return write_shards(folder, [rows])


def test_what_copies_leave_short_is_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = digit_shard(tmp_path / "digits")
    made = recipe(
        source,
        per_image=0,
        steps=[{"step": "rotate"}],
        balance={"target": 6, "max_copies": 1},
        generate={
            "model": str(SHIPPED / "digits_generator"),
            "verifier": str(SHIPPED / "digits_classifier"),
        },
    )
    assert run(made, tmp_path / "out") == 0
    found = examples(tmp_path / "out")
    copies, items = Counter[int](), Counter[int]()
    for key, features in found.items():
        label = features["image/class/label"].int64_list.value[0]
        (items if key.startswith("generated/") else copies)[label] += 1
    assert copies == {label: {4: 2, 7: 1}.get(label, 1) for label in range(10)}
    assert items == {4: 2, 7: 4}
    sums = read_metrics(str(tmp_path / "out"))["sums"]
    assert (sums["copies"], sums["generated"], sums["short"]) == (11, 6, {})
    assert "by the generator" in capsys.readouterr().out
    generated = [key for key in found if key.startswith("generated/")]
    features = found[generated[0]]
    assert set(json.loads(text(features, "image/augmented/models"))) == {"generate", "verifier"}
    label = features["image/generated/label_asked"].int64_list.value[0]
    assert features["image/generated/label_predicted"].int64_list.value == [label]
    for key in generated:
        assert cli.main(["replay", str(tmp_path / "out"), key]) == 0
    assert cli.main(["verify", str(tmp_path / "out")]) == 0


# Odd shards


def test_odd_records_cost_themselves_only(tmp_path: Path) -> None:
    grey = np.arange(44 * 52, dtype=np.uint16).reshape(44, 52)
    buffer = io.BytesIO()
    Image.fromarray(picture(5)).convert("RGBA").save(buffer, "PNG")
    mask = "image/segmentation/class/encoded"
    rows = [
        {**row(0), mask: png(np.full((44, 52), 300, np.uint16))},
        {**row(1), "image/encoded": png(grey)},
        {**row(2), mask: png(ids(2, (10, 10)))},
        {**row(3), mask: png(picture(3))},
        {**row(4), "image/class/label": -3},
        {**row(5), "image/encoded": buffer.getvalue(), "image/class/label": 2},
        {**row(6), "image/encoded": png(picture(6, (1, 1))), mask: png(ids(6)[:1, :1])},
        {"image/filename": "bare"},
        {**row(8), "image/filename": "1.png"},
    ]
    source = write_shards(tmp_path / "in", [rows, []])
    cut = tmp_path / "in" / "in-00001-of-00002.tfrecord"
    cut.write_bytes((tmp_path / "in" / "in-00000-of-00002.tfrecord").read_bytes()[:-40])
    made = recipe(source, steps=[*MIXED, {"step": "perspective"}, {"step": "cutout"}])
    assert run(made, tmp_path / "out") == 1, "a shard that is cut is over every budget"
    failed = {"label_range": 2, "mask_format": 2, "mask_size": 2, "no_image": 2, "rest_lost": 1}
    metrics = read_metrics(str(tmp_path / "out"))
    assert metrics["records"]["failed_by_reason"] == failed
    assert metrics["complete"]
    found = examples(tmp_path / "out")
    assert set(found) == {f"{k}#0" for k in ("0.png", "1.png", "5.png", "6.png", "1.png~2")}
    assert pixels_of(found["0.png#0"], mask).dtype == np.uint16
    assert 300 in pixels_of(found["0.png#0"], mask)
    assert found["5.png#0"]["image/class/label"].int64_list.value == [2]
    for name in ("in-00000-of-00002", "in-00001-of-00002"):
        arguments = ["replay", str(tmp_path / "out"), "1.png#0", "--shard", name]
        assert cli.main(arguments) == 0
    assert cli.main(["replay", str(tmp_path / "out"), "1.png#0"]) == 2  # in both
    nothing = write_shards(tmp_path / "none", [[]])
    assert run(recipe(nothing), tmp_path / "empty") == 0
    assert not examples(tmp_path / "empty")
