"""Generators with a fault are caught by the scorecard, in words; a good one is not."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import blobs
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from markupsafe import escape
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from support import content, run_apart

from pipeline import cli, run_files
from transforms.formats.tfrecord import read_records


class World(NamedTuple):
    """Folders of the models by kind, of the classifier, and of training images in shards."""

    generators: dict[str, str]
    classifier: str
    training: str


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("blobs")
    made = {"good": blobs.export_generator(root / "good", "good")}
    arguments = ["--per_class=60", "--seed=99", "--images_per_shard=50", "--output_range=0,255"]
    arguments += [f"--classes={','.join(blobs.CLASSES)}", f"--model={made['good']}"]
    assert cli.main(["generate", *arguments, f"--output={root / 'training'}"]) == 0
    found = sorted(pictures(root / "training"), key=lambda row: row["label"])
    images = np.stack([row["pixels"] for row in found])
    for kind in blobs.KINDS[1:]:
        made[kind] = blobs.export_generator(root / kind, kind, images)
    classifier = blobs.export_classifier(root / "classifier")
    return World(made, classifier, str(root / "training" / "images"))


def pictures(out: Path, folder: str = "images") -> list[dict[str, Any]]:
    """Pixels, label and texts of the pictures of a run."""
    found = []
    for shard in sorted(out.glob(f"{folder}/*.tfrecord")):
        with shard.open("rb") as file:
            for data in read_records(file):
                features = tf.train.Example.FromString(data).features.feature
                row: dict[str, Any] = {
                    name.rpartition("/")[2]: next(
                        iter(f.bytes_list.value or f.int64_list.value or f.float_list.value)
                    )
                    for name, f in features.items()
                }
                row["pixels"] = np.asarray(Image.open(io.BytesIO(row["encoded"])))
                found.append(row)
    return found


Generate = Callable[..., int]


@pytest.fixture
def generate(world: World) -> Generate:
    def run(kind: str, out: Path, *more: str) -> int:
        arguments = [f"--model={world.generators[kind]}", "--output_range=0,255"]
        arguments += [f"--classes={','.join(blobs.CLASSES)}", f"--verifier={world.classifier}"]
        arguments += ["--images_per_shard=40", f"--output={out}"]
        return cli.main(["generate", *arguments, *more])

    return run


def card_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())["scorecard"]
    return found


def finding(card: dict[str, Any], name: str) -> dict[str, str]:
    return next(f for f in card["findings"] if f["name"] == name)


FAULTS = {
    "good": {},
    "ignores_label": {"Labels": "ignores its label"},
    "collapsed": {"Duplicates": "collapsed to few pictures", "Diversity": "has collapsed"},
    # and it has but 60 of each class to choose from
    "copies": {"Copies": "copies training images", "Duplicates": "collapsed to few pictures"},
}


@pytest.mark.parametrize("kind", blobs.KINDS)
def test_faults_are_caught_in_words(
    generate: Generate, world: World, tmp_path: Path, kind: str
) -> None:
    assert generate(kind, tmp_path, "--per_class=40", f"--reference={world.training}") == 0
    card = card_of(tmp_path)
    bad = {f["name"] for f in card["findings"] if f["level"] == "bad"}
    assert bad == set(FAULTS[kind])
    for name, words in FAULTS[kind].items():
        assert words in finding(card, name)["text"]
    report = (tmp_path / run_files.REPORT).read_text()
    for found in card["findings"]:
        assert escape(found["text"]) in report
    assert "cannot be shown" not in report
    assert cli.main(["verify", str(tmp_path)]) == 0


def test_what_fails_is_drawn_again_until_quotas_are_met(generate: Generate, tmp_path: Path) -> None:
    arguments = ["--per_class=20", "--accept=agree", "--max_attempts=60"]
    assert generate("ignores_label", tmp_path, *arguments) == 0
    rows = pq.read_table(tmp_path / "records").to_pylist()
    assert len(rows) == 80
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["predicted"] == row["label"] and row["agrees"] for row in rows)
    attempts = [row["attempt"] + 1 for row in rows]
    assert 2.5 < np.mean(attempts) < 6  # four classes: one of four agrees
    card = card_of(tmp_path)
    assert card["attempts"] == sum(attempts)
    assert card["rejected"] == {"disagrees": sum(attempts) - 80}
    assert card["confusion"]["accuracy"] == 1
    assert card["first_confusion"]["n"] == 80
    assert "ignores its label" in finding(card, "Labels")["text"]  # although all were met
    for row in card["classes"]:
        assert row["written"] == row["asked"] == 20
        assert row["acceptance"] == 20 / row["attempts"]
    for example in pictures(tmp_path):
        assert example["label_predicted"] == example["label"] == example["label_asked"]
        assert example["confidence"] > 0.25
    shown = pictures(tmp_path, "rejected")
    assert shown
    assert all(row["label_predicted"] != row["label_asked"] for row in shown)
    assert {row["reason"] for row in shown} == {b"disagrees"}


def test_a_shortfall_is_named_by_class(
    generate: Generate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--per_class=20", "--accept=agree", "--max_attempts=2"]
    assert generate("ignores_label", tmp_path, *arguments) == 1  # over the budget of failures
    rows = pq.read_table(tmp_path / "records").to_pylist()
    failed = [row for row in rows if row["status"] == "failed"]
    assert {row["reason"] for row in failed} == {"rejected"}
    assert all(row["message"].startswith("2 attempts: 2 disagrees") for row in failed)
    card = card_of(tmp_path)
    short = {row["name"]: row["asked"] - row["written"] for row in card["classes"]}
    assert sum(short.values()) == len(failed) > 20
    text, printed = finding(card, "Quotas")["text"], capsys.readouterr().out
    for name, missing in short.items():
        assert f"{name} {missing}" in text
        assert f"{missing} of 20 pictures of {name} are missing" in printed


def test_metrics_agree_with_scikit_learn(generate: Generate, tmp_path: Path) -> None:
    assert generate("ignores_label", tmp_path, "--per_class=30") == 0
    rows = pq.read_table(tmp_path / "records").to_pylist()
    asked, predicted = ([row[name] for row in rows] for name in ("label", "predicted"))
    card = card_of(tmp_path)["confusion"]
    np.testing.assert_array_equal(card["matrix"], confusion_matrix(asked, predicted))
    expected = precision_recall_fscore_support(asked, predicted)
    for name, values in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        np.testing.assert_allclose(card[name], values, rtol=1e-12)


def test_copies_and_duplicates_are_dropped_on_request(
    generate: Generate, world: World, tmp_path: Path
) -> None:
    arguments = ["--per_class=4", f"--reference={world.training}", "--max_attempts=3"]
    assert generate("copies", tmp_path / "a", *arguments, "--drop=copies") == 1
    assert card_of(tmp_path / "a")["pictures"] == 0
    assert card_of(tmp_path / "a")["rejected"] == {"copy": 48}
    dropping = ["--per_class=4", "--max_attempts=3", "--drop=duplicates"]
    assert generate("collapsed", tmp_path / "b", *dropping) == 1
    rows = pq.read_table(tmp_path / "b" / "records").to_pylist()
    kept = [row["item"] for row in rows if row["status"] == "ok"]
    assert kept == [0, 1, 2, 3]  # the first of each class
    assert card_of(tmp_path / "b")["rejected"] == {"duplicate": 36}
    few = ["--per_class=11", f"--reference={world.training}", "--max_attempts=2", "--accept=agree"]
    assert generate("ignores_label", tmp_path / "c", *few) == 1
    for name in "abc":
        assert "Scorecard" in (tmp_path / name / run_files.REPORT).read_text()


def test_duplicates_across_shards_are_listed(generate: Generate, tmp_path: Path) -> None:
    assert generate("collapsed", tmp_path, "--per_class=20", "--images_per_shard=20") == 0
    with (tmp_path / "duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 76
    assert {row["kind"] for row in rows} == {"exact"}
    assert {row["of_key"] for row in rows} == {
        f"{name}/{item:08d}" for item, name in enumerate(blobs.CLASSES)
    }
    assert len({row["shard"] for row in rows}) == 4
    within = [row["duplicate_of"] for row in pq.read_table(tmp_path / "records").to_pylist()]
    assert sum(name is not None for name in within) == 64  # in each shard, all but the first


def test_copies_name_what_they_copy(generate: Generate, world: World, tmp_path: Path) -> None:
    assert generate("copies", tmp_path, "--count=8", f"--reference={world.training}") == 0
    training = pictures(Path(world.training).parent)
    names = sorted(path.stem for path in Path(world.training).glob("*.tfrecord"))
    by_name = {}
    position = 0
    for name in names:
        for index in range(pq.read_metadata(_records_of(world, name)).num_rows):
            by_name[f"{name}#{index}"] = training[position]["pixels"]
            position += 1
    for row, made in zip(
        pq.read_table(tmp_path / "records").to_pylist(), pictures(tmp_path), strict=True
    ):
        assert row["copy_bits"] == 0
        np.testing.assert_array_equal(by_name[row["copy_of"]], made["pixels"])


def _records_of(world: World, name: str) -> Path:
    return Path(world.training).parent / "records" / f"{name}.parquet"


def test_nothing_depends_on_threads_batches_or_restarts(
    generate: Generate, world: World, tmp_path: Path
) -> None:
    arguments = ["--per_class=30", "--accept=agree", "--max_attempts=30", "--drop=duplicates"]
    arguments += [f"--reference={world.training}"]
    a, b, c = (tmp_path / name for name in "abc")
    assert generate("ignores_label", a, *arguments, "--threads=1") == 0
    assert generate("ignores_label", b, *arguments, "--threads=3") == 0
    assert content(a) == content(b)
    for path in sorted(b.glob("*/images-00001-of-00003.*")):  # as a kill would leave it
        path.unlink()
    next(b.glob("reference/metrics/*.json")).unlink()
    assert generate("ignores_label", b, *arguments) == 0
    assert content(a) == content(b)
    assert generate("ignores_label", c, *arguments, "--batch_size=7") == 0
    for one, other in zip(pictures(a), pictures(c), strict=True):
        for name in ("item", "attempt", "label", "label_predicted"):
            assert one[name] == other[name]
        assert np.abs(one["pixels"].astype(int) - other["pixels"]).max() <= 1


def test_features_of_another_model(generate: Generate, world: World, tmp_path: Path) -> None:
    """Only distances are of them; what the verifier says stays."""

    def look(image: Any) -> dict[str, Any]:
        means = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3])
        return {"pool_3": means[:, tf.newaxis] * tf.ones([1, 40]) / 255}

    spec = tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="image")
    model = str(tmp_path / "other")
    tf.saved_model.save(tf.Module(), model, signatures=tf.function(look, [spec]))
    more = ["--count=48", f"--feature_model={model}", f"--reference={world.training}"]
    assert generate("good", tmp_path / "out", *more) == 0
    card = card_of(tmp_path / "out")
    assert card["first_confusion"]["accuracy"] == 1
    assert card["reference"]["metric"] == "Frechet distance"  # of other features than FID's
    assert card["reference"]["distances"]["all"]["frechet"] < 0.01
    assert card["reference"]["distances"]["all"]["few"]
    assert "biased upwards" in finding(card, "Frechet distance")["text"]
    with np.load(next((tmp_path / "out" / "features").glob("*.npz"))) as arrays:
        assert arrays["mean"].shape == (4, 40)


def test_a_reference_without_models(world: World, tmp_path: Path) -> None:
    """Fingerprints need none: copies are found, and neighbours by their hashes."""
    arguments = ["generate", f"--model={world.generators['copies']}", "--output_range=0,255"]
    arguments += [f"--classes={','.join(blobs.CLASSES)}", f"--reference={world.training}"]
    assert cli.main([*arguments, "--count=20", f"--output={tmp_path}"]) == 0
    card = card_of(tmp_path)
    assert card["copies"]["exact"] == 20
    assert card["neighbours"]["unit"] == "bits of the perceptual hash"
    assert [pair[-1] for pair in card["neighbours"]["closest"]] == [0.0] * 6
    assert "distances" not in card["reference"]
    assert "copies training images" in (tmp_path / run_files.REPORT).read_text()


@pytest.mark.slow
def test_worker_processes_check_alike(world: World, tmp_path: Path) -> None:
    arguments = ["generate", f"--model={world.generators['ignores_label']}", "--per_class=30"]
    arguments += ["--output_range=0,255", f"--classes={','.join(blobs.CLASSES)}"]
    arguments += [f"--verifier={world.classifier}", "--accept=agree", "--max_attempts=40"]
    arguments += [f"--reference={world.training}", "--drop=duplicates", "--images_per_shard=30"]
    processes = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    for name, more in (("one", []), ("two", processes)):
        done = run_apart([*arguments, f"--output={tmp_path / name}", *more])
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop=copies"], "give --reference"),
        (["--drop=all"], "expected copies, duplicates"),
        (["--classes=a,b,c,d", "--verifier_card=CARD"], "names class 0"),
        (["--max_attempts=0"], "--max_attempts"),
        (["--near_bits=9"], "from 0 to 7"),
        (["--verifier=nowhere"], "nowhere"),
        (["--reference=nowhere"], "nowhere"),
        (["--feature_model_card=x.yaml"], "give --feature_model too"),
    ],
)
def test_bad_usage_is_refused(
    generate: Generate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    card = tmp_path / "card.yaml"
    card.write_text(f"classes: [{', '.join(blobs.CLASSES)}]\n")
    arguments = [a.replace("CARD", str(card)) for a in arguments]
    try:
        code = generate("good", tmp_path / "out", "--count=4", *arguments)
    except SystemExit as stopped:  # argparse refuses by itself
        code = int(str(stopped.code))
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
