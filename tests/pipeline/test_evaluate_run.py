"""`pixelmill evaluate` from end to end: equal to a plain loop, however sets are cut and paired."""

import csv
import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as sk
from support import content, metrics_of

from models.loading import import_tensorflow
from pipeline import cli, evaluate_flags
from transforms.evaluation import bootstrap, encodings, overlap
from transforms.formats.tfrecord import write_record

CLASSES, IMAGES = ["ground", "tree", "rock", "house", "never"], 24


def scene(seed):
    """A true mask with ignored pixels, and a prediction that is wrong in places."""
    rng = np.random.default_rng(seed)
    shape = [(32, 40), (40, 32), (17, 23)][seed % 3]
    blocks = rng.integers(0, 4, (5, 5))
    rows, columns = (np.arange(n) * 5 // n for n in shape)
    truth = blocks[rows[:, None], columns].astype(np.uint8)
    predicted = np.where(rng.random(shape) < 0.8, truth, rng.integers(0, 4, shape))
    truth[: 1 + seed % 4] = 255
    return truth, predicted.astype(np.uint8)


def save(mask, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Folders of labels and predictions; one prediction is missing, and one label."""
    root = tmp_path_factory.mktemp("sides")
    for seed in range(IMAGES):
        truth, predicted = scene(seed)
        name = f"{'ab'[seed % 2]}/scene_{seed:02d}.png"
        if seed != 5:
            save(truth, root / "labels" / name)
        if seed != 8:
            save(predicted, root / "predictions" / name)
    return root


def write_shards(folder, target, cuts, prefix="part"):
    """TFRecord shards of the masks of a folder, as `segment` writes them."""
    tf = import_tensorflow()
    target.mkdir(parents=True)
    paths = sorted(folder.rglob("*.png"))
    for number, part in enumerate(np.array_split(np.arange(len(paths)), cuts)):
        name = f"{prefix}-{number:05d}-of-{cuts:05d}.tfrecord"
        with (target / name).open("wb") as file:
            for index in part:
                example = tf.train.Example()
                features = example.features.feature
                data = paths[index].read_bytes()
                features["image/segmentation/class/encoded"].bytes_list.value.append(data)
                key = str(paths[index].relative_to(folder)).encode()
                features["image/filename"].bytes_list.value.append(key)
                write_record(file, example.SerializeToString())
    return target


def evaluate(predictions, labels, out, *more):
    arguments = ["--predictions", str(predictions), "--labels", str(labels), "--output", str(out)]
    names = ["--classes", ",".join(CLASSES), "--max_failed_fraction", "0.2"]
    return cli.main(["evaluate", *arguments, *names, *more])


def flat_pairs():
    """All pixels that are compared, one after the other, as a plain loop has them."""
    pairs = [scene(seed) for seed in range(IMAGES) if seed not in (5, 8)]
    kept = [(t[t != 255], p[t != 255]) for t, p in pairs]
    return [np.concatenate(side) for side in zip(*kept, strict=True)], kept


@pytest.fixture(scope="module")
def files_run(sides, tmp_path_factory):
    out = tmp_path_factory.mktemp("files") / "out"
    assert evaluate(sides / "predictions", sides / "labels", out, "--boundary", "2") == 0
    return out


def test_a_run_is_what_scikit_learn_says_of_all_pixels(files_run):
    (truth, predicted), kept = flat_pairs()
    found = metrics_of(files_run)["metrics"]
    iou = sk.jaccard_score(truth, predicted, labels=range(5), average=None, zero_division=0)
    assert found["pixel_accuracy"] == pytest.approx(np.mean(truth == predicted), rel=1e-9)
    assert found["miou"] == pytest.approx(iou[:4].mean(), rel=1e-9)
    assert [row["iou"] for row in found["classes"][:4]] == pytest.approx(iou[:4], rel=1e-9)
    assert found["classes"][4]["iou"] is None
    assert (found["classes_evaluated"], found["classes_total"]) == (4, 5)
    each = [
        sk.jaccard_score(t, p, average=None, labels=np.union1d(t, p), zero_division=0).mean()
        for t, p in kept
    ]
    assert found["miou_per_image"] == pytest.approx(np.mean(each), rel=1e-9)
    accuracy = [np.mean(t == p) for t, p in kept]
    assert found["pixel_accuracy_per_image"] == pytest.approx(np.mean(accuracy), rel=1e-9)
    assert found["images_evaluated"] == len(kept)
    low, high = found["intervals"]["miou"].values()
    assert low < found["miou"] < high
    matrix = sk.confusion_matrix(truth, predicted, labels=range(5))
    np.testing.assert_array_equal(np.array(found["confusion"])[:5, :5], matrix)
    worst = [row["value"] for row in found["worst"]["miou"]]
    assert worst == sorted(worst) and worst[0] == pytest.approx(min(each), rel=1e-9)
    assert found["boundary_widths_px"] == {"2": len(kept)}
    assert 0 < found["boundary_iou"] < 1 and 0 < found["boundary_f1"] <= 1


def test_what_has_no_partner_is_counted_and_listed(files_run):
    found = metrics_of(files_run)
    assert found["records"]["failed_by_reason"] == {"prediction_missing": 1}
    assert found["metrics"]["unpaired_predictions"] == found["metrics"]["unpaired_labels"] == 1
    rows = list(csv.DictReader((files_run / "unpaired.csv").open()))
    assert {(row["side"], row["name"]) for row in rows} == {
        ("label", "a/scene_08.png"),
        ("prediction", "b/scene_05"),
    }
    assert any("have no label" in said for said in found["metrics"]["warnings"])


def test_tables_load_as_they_are(files_run):
    images = pd.read_csv(files_run / "images.csv")
    parquet = pd.read_parquet(files_run / "images.parquet")
    assert len(images) == len(parquet) == IMAGES - 1
    assert images["miou"].mean() == pytest.approx(
        metrics_of(files_run)["metrics"]["miou_per_image"], rel=1e-9
    )
    assert parquet["true_pixels"].dropna().map(sum).sum() == images["evaluated_pixels"].sum()
    classes = pd.read_csv(files_run / "classes.csv")
    assert classes["name"].tolist() == CLASSES and classes["iou"].isna().tolist()[-1]
    assert len(pd.read_parquet(files_run / "classes.parquet")) == 5


def test_json_lines_follow_the_rules_of_bigquery(files_run):
    path = next((files_run / "rows").glob("*.jsonl"))
    frame = pd.read_json(path, lines=True)
    assert len(frame) == IMAGES - 1 and frame["status"].tolist().count("failed") == 1

    def strict(text):
        raise AssertionError(f"{text} is no JSON")

    kinds: dict[str, set[type]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line, parse_constant=strict)
        assert list(row) == list(frame.columns)
        for name, value in row.items():
            assert name.isidentifier() and len(name) < 300
            if isinstance(value, list):  # a repeated field: numbers of one kind, never null
                assert all(type(part) is int for part in value)
            kinds.setdefault(name, set()).add(type(value))
    for name, found in kinds.items():
        assert len(found - {type(None)}) <= 1, f"{name} is {found}"
        assert list not in found or type(None) not in found


CUTS = [("shard", 3, 3, "part"), ("key", 2, 5, "part"), ("key", 4, 1, "other")]


@pytest.mark.parametrize(("pair_by", "label_cuts", "prediction_cuts", "prefix"), CUTS)
def test_any_cut_into_shards_gives_the_same_numbers(
    sides, files_run, tmp_path, pair_by, label_cuts, prediction_cuts, prefix
):
    labels = write_shards(sides / "labels", tmp_path / "labels", label_cuts)
    if pair_by == "shard":  # one prediction fails, another shard order does not matter
        (tmp_path / "only").mkdir()
        shutil.copytree(sides / "predictions", tmp_path / "only", dirs_exist_ok=True)
        (tmp_path / "only/b/scene_05.png").unlink()
        save(scene(8)[1], tmp_path / "only/a/scene_08.png")
        predictions = write_shards(tmp_path / "only", tmp_path / "predictions", prediction_cuts)
        _forget(predictions, "a/scene_08.png")
    else:
        predictions = write_shards(
            sides / "predictions", tmp_path / "predictions", prediction_cuts, prefix
        )
    out = tmp_path / "out"
    assert evaluate(predictions, labels, out, "--boundary", "2") == 0
    found, expected = metrics_of(out)["metrics"], metrics_of(files_run)["metrics"]
    assert found.pop("unpaired_predictions") == (0 if pair_by == "shard" else 1)
    for metrics in (found, expected):
        for name in ("warnings", "unpaired_predictions", "image_bytes_quantiles", "worst"):
            metrics.pop(name, None)
    assert found == expected
    run = json.loads((out / "run.json").read_bytes())
    assert run["identity"]["pair_by"] == pair_by


def _forget(shards, key):
    """Takes the record of a key out of its shard, as when a picture failed."""
    from transforms.formats.tfrecord import read_records

    for path in shards.iterdir():
        with path.open("rb") as file:
            records = list(read_records(file))
        with path.open("wb") as file:
            for record in records:
                if key.encode() not in record:
                    write_record(file, record)


def test_encodings_suffixes_and_label_spaces(sides, files_run, tmp_path):
    """RGB labels of a legend, by a suffix, against predictions whose ids are shifted."""
    colors = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 128), (9, 9, 9)]
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\n"
        + "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in zip(CLASSES, colors, strict=True))
    )
    table = np.zeros((256, 3), np.uint8) + 77  # a colour of no class: out of range
    table[:5] = colors
    for path in (sides / "labels").rglob("*.png"):
        target = tmp_path / "labels" / path.relative_to(sides / "labels").with_suffix("")
        save(table[np.asarray(Image.open(path))], Path(f"{target}_color.png"))
        save(np.zeros((2, 2), np.uint8), Path(f"{target}_other.png"))
    for path in (sides / "predictions").rglob("*.png"):
        target = tmp_path / "predictions" / path.relative_to(sides / "predictions")
        save(np.asarray(Image.open(path)) + np.uint8(20), target)
    code = evaluate(
        *(tmp_path / "predictions", tmp_path / "labels", tmp_path / "out"),
        *("--label_suffix", "_color", "--label_encoding", "rgb"),
        *("--legend", str(tmp_path / "labelmap.txt")),
        *("--prediction_class_map", "20=ground,21=1,22=rock,23=3"),
    )
    found, expected = metrics_of(tmp_path / "out")["metrics"], metrics_of(files_run)["metrics"]
    assert code == 0
    assert found["miou"] == expected["miou"] and found["intervals"] == expected["intervals"]
    assert found["label_out_of_range_pixels"] == expected["ignored_pixels"] > 0
    assert any("are no class (colours)" in said for said in found["warnings"])


def test_sizes_must_be_equal_unless_resizing_is_asked_for(tmp_path):
    truth = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((8, 8), np.uint8))
    save(truth, tmp_path / "labels/a.png")
    save(truth, tmp_path / "labels/b.png")
    save(truth[::4, ::4], tmp_path / "predictions/a.png")
    save(truth, tmp_path / "predictions/b.png")
    places = tmp_path / "predictions", tmp_path / "labels"
    assert evaluate(*places, tmp_path / "strict") == 0
    assert metrics_of(tmp_path / "strict")["records"]["failed_by_reason"] == {"mask_size": 1}
    assert evaluate(*places, tmp_path / "resized", "--resize", "nearest") == 0
    found = metrics_of(tmp_path / "resized")["metrics"]
    assert found["miou"] == 1 and found["resized_images"] == 1
    assert any("nearest" in said for said in found["warnings"])


def test_instances_have_panoptic_quality(tmp_path):
    truth = np.zeros((20, 20), np.uint16)
    truth[2:8, 2:8], truth[10:16, 10:16] = 300, 301
    predicted = np.zeros((20, 20), np.uint8)
    predicted[2:8, 3:8] = 1
    save(truth, tmp_path / "labels/a.png")
    save(predicted, tmp_path / "predictions/a.png")
    assert (
        evaluate(
            *(tmp_path / "predictions", tmp_path / "labels", tmp_path / "out"),
            *("--label_encoding", "instances"),
        )
        == 0
    )
    found = metrics_of(tmp_path / "out")["metrics"]
    assert found["pq"] == pytest.approx(30 / 36 / 1.5, abs=1e-9)
    assert found["sq"] == pytest.approx(30 / 36, abs=1e-9)
    assert found["predicted_segments"] == "connected components"
    assert found["classes"][1]["false_negative"] == 1


def test_a_black_and_white_label_read_as_ids_is_told(tmp_path):
    save(np.array([[0, 255]] * 4, np.uint8), tmp_path / "labels/a.png")
    save(np.array([[0, 1]] * 4, np.uint8), tmp_path / "predictions/a.png")
    places = tmp_path / "predictions", tmp_path / "labels"
    assert evaluate(*places, tmp_path / "ids") == 0
    assert any("binary" in said for said in metrics_of(tmp_path / "ids")["metrics"]["warnings"])
    assert evaluate(*places, tmp_path / "binary", "--label_encoding", "binary") == 0
    assert metrics_of(tmp_path / "binary")["metrics"]["miou"] == 1


def test_gates_decide_the_exit_code(sides, tmp_path, capsys):
    places = sides / "predictions", sides / "labels", tmp_path / "out"
    assert evaluate(*places, "--fail_if", "miou < 0.3") == 0
    assert evaluate(*places, "--fail_if", "miou < 0.3", "--fail_if", "classes.never.iou < 0.1") == 1
    assert "FAILED: fail if classes.never.iou < 0.1" in capsys.readouterr().out
    assert evaluate(*places, "--fail_if", "mIoU < 0.3") == 1
    assert "did you mean miou" in capsys.readouterr().out


def test_a_second_run_and_other_threads_give_the_same_bytes(sides, tmp_path):
    for name, threads in (("one", "1"), ("two", "3")):
        code = evaluate(
            *(sides / "predictions", sides / "labels", tmp_path / name, "--threads", threads)
        )
        assert code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    for name in ("images.parquet", "classes.csv", "unpaired.csv"):
        first, second = ((tmp_path / run / name).read_bytes() for run in ("one", "two"))
        assert first == second
    assert cli.main(["verify", str(tmp_path / "one")]) == 0
    next((tmp_path / "one/metrics").iterdir()).unlink()  # as if it had been killed
    (tmp_path / "one/_SUCCESS").unlink()
    assert evaluate(sides / "predictions", sides / "labels", tmp_path / "one") == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_rule_for_absent_classes_is_an_option_and_is_said(sides, files_run, tmp_path, capsys):
    places = sides / "predictions", sides / "labels"
    expected = metrics_of(files_run)["metrics"]["miou"]
    for absent, value in (("zero", 0), ("one", 1)):
        assert evaluate(*places, tmp_path / absent, "--absent", absent) == 0
        assert f"4 of 5 classes, absent={absent}" in capsys.readouterr().out
        found = metrics_of(tmp_path / absent)["metrics"]
        assert found["miou"] == pytest.approx((4 * expected + value) / 5, rel=1e-12)
        assert found["classes"][4]["iou"] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what is evaluated"),
        (["--predictions", "p", "--model", "m"], "say what is evaluated"),
        (["--model", "m"], "give --input"),
        (["--predictions", "P", "--labels", "L"], "--classes=background,road"),
        (["--predictions", "P", "--boundary"], "no effect without labels"),
        (["--predictions", "P", "--fail_if", "miou <"], "expected a name or a number"),
        (["--predictions", "P", "--class_map", "a=1"], "expected like 7=0"),
        (["--predictions", "P", "--labels", "L", "--classes", "a,b", "--class_map", "1=c"], "1=c"),
        (
            ["--predictions", "P", "--labels", "L", "--pair_by", "shard", "--classes", "a,b"],
            "shards of the same names",
        ),
        (
            ["--predictions", "P", "--labels", "L", "--label_suffix", "_x", "--classes", "a,b"],
            "no file of",
        ),
        (["--predictions", "P", "--reference", "L", "--classes", "a,b"], "metrics.json"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(sides, tmp_path, arguments, message, capsys):
    places = {"P": str(sides / "predictions"), "L": str(sides / "labels")}
    given = [places.get(a, a) for a in arguments]
    try:
        code = cli.main(["evaluate", "--output", str(tmp_path / "out"), *given])
    except SystemExit as error:
        code = error.code
    assert code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_flags_have_the_choices_of_the_functions():
    assert get_args(encodings.Encoding) == evaluate_flags.ENCODINGS
    assert get_args(overlap.Absent) == evaluate_flags.ABSENT
    assert evaluate_flags.ROUNDS == bootstrap.ROUNDS


def test_objects_of_a_bucket(sides, files_run, gcs, tmp_path):
    """Labels as shards, predictions as files, and OUT: all in gs://."""
    write_shards(sides / "labels", tmp_path / "labels", 2)
    for name, folder in (("labels", tmp_path / "labels"), ("predictions", sides / "predictions")):
        gcs.upload(folder, name)
    places = "gs://bucket/predictions", "gs://bucket/labels", "gs://bucket/out"
    assert evaluate(*places, "--boundary", "2") == 0
    found = json.loads(gcs.get("out/metrics.json"))["metrics"]
    expected = metrics_of(files_run)["metrics"]
    for name in ("miou", "intervals", "unpaired_predictions", "confusion", "boundary_iou"):
        assert found[name] == expected[name]
    assert b"b/scene_05" in gcs.get("out/unpaired.csv")
