"""`pixelmill evaluate` with a model, with confidence, without labels, against an earlier run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import CLASSES, metrics_of

from pipeline import cli
from transforms.evaluation.drift import jensen_shannon

NAMES = ",".join(f"c{i}" for i in range(CLASSES))


def labelled(photos, target):
    """The photos with masks beside them: images/x.png and masks/x.png; one has no mask."""
    for number, path in enumerate(sorted(Path(photos).rglob("photo_*"))[:18]):
        image = Image.open(path).convert("RGB")
        (target / "images").mkdir(parents=True, exist_ok=True)
        (target / "masks").mkdir(exist_ok=True)
        image.save(target / "images" / f"{path.stem}.png")
        mask = (np.asarray(image).mean(axis=2) // (256 / CLASSES)).astype(np.uint8)
        mask[0] = 255
        if number != 3:
            Image.fromarray(mask).save(target / "masks" / f"{path.stem}.png")
    return target


@pytest.fixture(scope="module")
def dataset(photos, tmp_path_factory):
    return labelled(photos, tmp_path_factory.mktemp("labelled") / "data")


@pytest.fixture(scope="module")
def segmented(dataset, tiny_model, tmp_path_factory):
    """A run of segment over the images, with confidence maps."""
    out = tmp_path_factory.mktemp("segmented") / "out"
    arguments = ["--input", str(dataset / "images"), "--model", tiny_model, "--output", str(out)]
    assert cli.main(["segment", *arguments, "--confidence_map"]) == 0
    return out


def run(*arguments):
    return cli.main(["evaluate", *map(str, arguments), "--max_failed_fraction", "0.2"])


def compared(out):
    """What must be equal whichever way was taken."""
    found = metrics_of(out)["metrics"]
    names = ("warnings", "unpaired_predictions", "unpaired_labels", "image_bytes_quantiles")
    others = ("mean_entropy", "mean_margin", "mean_brightness", "worst")
    return {name: v for name, v in found.items() if name not in (*names, *others)}


def test_one_pass_is_segmenting_and_then_comparing(dataset, segmented, tiny_model, tmp_path):
    two = run("--predictions", segmented, "--labels", dataset / "masks", "--output", tmp_path / "2")
    one = run("--model", tiny_model, "--input", dataset, "--output", tmp_path / "1")
    beside = run(
        *("--model", tiny_model, "--input", dataset / "images", "--labels", dataset / "masks"),
        *("--output", tmp_path / "3", "--write_masks"),
    )
    assert (one, two, beside) == (0, 0, 0)
    found = [compared(tmp_path / name) for name in "123"]
    for other in found[1:]:
        assert [{**row, "name": 0} for row in other.pop("classes")] == [
            {**row, "name": 0} for row in compared(tmp_path / "1")["classes"]
        ]
    del found[0]["classes"]
    assert found[0] == found[1] == found[2]
    assert 0 < found[0]["calibration_error"] < 1 and found[0]["calibration"]
    assert metrics_of(tmp_path / "1")["records"]["failed_by_reason"] == {"mask_missing": 1}
    assert not (tmp_path / "1/masks").exists()
    written = {path.name: path.read_bytes() for path in (tmp_path / "3/masks").iterdir()}
    assert written == {
        path.name: path.read_bytes()
        for path in segmented.glob("masks/*.png")
        if path.stem != _fourth(dataset)
    }


def _fourth(dataset):
    images = {path.stem for path in dataset.glob("images/*")}
    return (images - {path.stem for path in dataset.glob("masks/*")}).pop()


@pytest.mark.slow
def test_shards_that_hold_their_labels(dataset, tiny_model, tmp_path):
    """Packed images with masks: one pass, and segment with a confidence map and then compare."""
    packed, masks = tmp_path / "packed", tmp_path / "segmented"
    whole = tmp_path / "whole"
    for folder in ("images", "masks"):
        (whole / folder).mkdir(parents=True)
        for path in dataset.glob(f"{folder}/*"):
            if path.stem != _fourth(dataset):
                (whole / folder / path.name).write_bytes(path.read_bytes())
    arguments = ["--input", whole, "--output", packed, "--images_per_shard", "6"]
    assert cli.main(["pack", *map(str, arguments)]) == 0
    arguments = ["--input", packed / "images", "--model", tiny_model, "--output", masks]
    assert cli.main(["segment", *map(str, arguments), "--confidence_map"]) == 0
    assert run("--model", tiny_model, "--input", packed / "images", "--output", tmp_path / "1") == 0
    assert run("--predictions", masks, "--labels", packed, "--output", tmp_path / "2") == 0
    one, two = compared(tmp_path / "1"), compared(tmp_path / "2")
    assert one == two and one["classes_evaluated"] > 1 and "calibration_error" in one


def test_calibration_is_that_of_the_maps(dataset, segmented, tmp_path):
    assert (
        run("--predictions", segmented, "--labels", dataset / "masks", "--output", tmp_path / "out")
        == 0
    )
    right, sure = [], []
    for path in dataset.glob("masks/*.png"):
        truth, mask, map_ = (
            np.asarray(Image.open(folder / path.name))
            for folder in (dataset / "masks", segmented / "masks", segmented / "confidence")
        )
        right.append((truth == mask)[truth != 255])
        sure.append(map_[truth != 255] / 255)
    right, sure = np.concatenate(right), np.concatenate(sure)
    edges = np.linspace(0, 1, 16)
    bins = np.digitize(sure, edges[1:-1], right=True)
    expected = sum(
        abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    )
    found = metrics_of(tmp_path / "out")["metrics"]
    assert found["calibration_error"] == pytest.approx(expected, rel=1e-9)
    assert found["mean_confidence"] == pytest.approx(
        np.mean(
            np.concatenate(
                [
                    np.asarray(Image.open(segmented / "confidence" / p.name)).ravel() / 255
                    for p in dataset.glob("masks/*.png")
                ]
            )
        ),
        rel=1e-9,
    )


def test_without_labels_and_drift(dataset, segmented, tiny_model, tmp_path, capsys):
    dark = tmp_path / "dark"
    dark.mkdir()
    for path in dataset.glob("images/*"):
        pixels = np.asarray(Image.open(path)) // 4
        Image.fromarray(pixels).save(dark / path.name)
    later = tmp_path / "later"
    arguments = ["--input", str(dark), "--model", tiny_model, "--output", str(later)]
    assert cli.main(["segment", *arguments, "--confidence_map"]) == 0
    out = tmp_path / "out"
    command = ["--predictions", later, "--reference", segmented, "--output", out]
    assert run(*command, "--fail_if", "drift.brightness > 0.9") == 1
    assert "drift.brightness = " in capsys.readouterr().out
    assert run(*command, "--fail_if", "drift.widths > 0") == 0  # the same sizes
    found = metrics_of(out)["metrics"]
    drift = found["drift"]
    sides = [json.loads((r / "metrics.json").read_bytes())["sums"] for r in (later, segmented)]
    assert drift["class_pixels"] == pytest.approx(
        jensen_shannon(*(side["class_pixels"] for side in sides)), rel=1e-12
    )
    for name in ("confidence", "entropy", "margin", "brightness", "heights", "class_images"):
        assert 0 <= drift[name] <= 1
    shares = [np.array(side["class_pixels"]) / sum(side["class_pixels"]) for side in sides]
    moved = {row["id"]: row["share_change"] for row in drift["classes"]}
    assert [moved[i] for i in range(CLASSES)] == pytest.approx(shares[0] - shares[1], abs=1e-12)
    assert "joint" not in metrics_of(out)["sums"] and found["mean_components"] > 0
    assert found["classes"][0]["pixels"] == sides[0]["class_pixels"][0]
    again = tmp_path / "again"  # an evaluation can be the reference as well
    assert run("--predictions", later, "--reference", out, "--output", again) == 0
    same = metrics_of(again)["metrics"]["drift"]
    assert all(value == 0 for name, value in same.items() if isinstance(value, float)), same


def test_a_run_whose_metrics_were_cut_is_refused_before_the_work(segment, photos, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "drift"
    assert segment(photos, run) == 0
    shutil.copytree(run, tmp_path / "before")
    metrics = run / "metrics.json"
    metrics.write_bytes(metrics.read_bytes()[:100])
    given = ["--predictions", str(run), "--reference", str(tmp_path / "before")]
    assert cli.main(["evaluate", *given, "--output", str(out)]) == 2
    assert f"{metrics} cannot be read" in capsys.readouterr().err
    assert not out.exists()
