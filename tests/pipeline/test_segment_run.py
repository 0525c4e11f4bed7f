"""Whole runs: the pipeline equals a plain loop, in every way of running it."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from support import CLASSES, Segment, commits, content

from pipeline import run_files
from transforms import sink, storage
from transforms.formats.tfrecord import read_records


def plain_loop(path: Path, model: str) -> np.ndarray:
    """The mask of one picture, by TensorFlow and Pillow alone."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    logits = tf.saved_model.load(model).signatures["serving_default"](image=pixels[np.newaxis])
    return tf.argmax(logits["logits"][0], axis=-1).numpy()


def test_masks_equal_a_plain_loop(
    photos: str, tiny_model: str, segment: Segment, tmp_path: Path
) -> None:
    assert segment(photos, tmp_path, "--files_per_shard=16", "--confidence_map") == 0
    images = sorted(Path(photos).glob("*/*"))
    assert len(images) == 60
    counted = np.zeros(CLASSES, np.int64)
    for path in images:
        name = path.relative_to(photos).with_suffix(".png")
        mask = np.asarray(Image.open(tmp_path / "masks" / name))
        expected = plain_loop(path, tiny_model)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected, err_msg=str(name))
        assert Image.open(tmp_path / "confidence" / name).size == mask.shape[::-1]
        counted += np.bincount(mask.ravel(), minlength=CLASSES)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["records"] == {
        "read": 60,
        "written": 60,
        "failed": 0,
        "failed_by_reason": {},
        "over_budget": False,
    }
    assert metrics["sums"]["class_pixels"] == counted.tolist()
    assert len({len(set(counted)), 1}) == 2, "the case is trivial: all classes are equally many"
    for name in ("confidence", "entropy", "margin"):
        assert sum(metrics["sums"][name]) == counted.sum()


def test_what_is_cropped_away_is_ignored_and_counted(
    photos: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(photos, tmp_path, "--image_size=32x32", "--fit=crop") == 0
    seen = pixels = 0
    for path in (tmp_path / "masks").glob("*/*.png"):
        mask = np.asarray(Image.open(path))
        side, longer = min(mask.shape), max(mask.shape)
        first = (longer - side) // 2
        middle = mask[:, first : first + side] if mask.shape[1] > side else mask[first:][:side]
        assert middle.max() < CLASSES
        assert np.count_nonzero(mask == 255) == mask.size - side * side
        seen += side * side
        pixels += mask.size
    sums = json.loads((tmp_path / "metrics.json").read_text())["sums"]
    assert sum(sums["class_pixels"]) == seen == sum(sums["confidence"])
    assert (sums["pixels"], sums["ignored_pixels"]) == (pixels, pixels - seen)
    share = 1 - seen / pixels
    assert f"(the ignore id)        {share:.2%} of pixels" in capsys.readouterr().out
    assert f"{share:.1%} of them have no class" in (tmp_path / "report.html").read_text()


def test_shards_in_shards_out(packed: str, photos: str, segment: Segment, tmp_path: Path) -> None:
    assert segment(packed, tmp_path / "shards") == 0
    assert segment(photos, tmp_path / "files") == 0
    shards = sorted((tmp_path / "shards" / "masks").iterdir())
    assert [s.name for s in shards] == sorted(p.name for p in Path(packed).iterdir())
    for shard in shards:
        with shard.open("rb") as found, (Path(packed) / shard.name).open("rb") as given:
            for data, original in zip(read_records(found), read_records(given), strict=True):
                assert isinstance(data, bytes)
                features = tf.train.Example.FromString(data).features.feature
                key = features["image/filename"].bytes_list.value[0].decode()
                source = tf.train.Example.FromString(original).features.feature
                assert source["image/filename"].bytes_list.value[0].decode() == key
                assert features["image/height"] == source["image/height"]
                assert "image/encoded" not in features
                encoded = features["image/segmentation/class/encoded"].bytes_list.value[0]
                mask = Path(tmp_path / "files" / "masks" / key).with_suffix(".png")
                assert encoded == mask.read_bytes()


def test_records_have_a_row_for_every_image(packed: str, segment: Segment, tmp_path: Path) -> None:
    assert segment(packed, tmp_path) == 0
    table = pq.read_table(tmp_path / "records").to_pandas()
    assert len(table) == 60
    assert set(table.status) == {"ok"}
    assert table.key.is_unique
    assert (table.class_pixels.map(sum) == table.width * table.height).all()
    assert table.features[0]["image/width"][0] == table.width[0]


@pytest.mark.parametrize(
    "more",
    [
        ("--threads=1",),
        ("--threads=4",),
        ("--direct_runner_bundle_repeat=1",),
        ("--runner=BundleBasedDirectRunner",),
    ],
    ids=" ".join,
)
def test_every_way_of_running_gives_the_same_bytes(
    packed: str, segment: Segment, tmp_path: Path, more: tuple[str, ...]
) -> None:
    assert segment(packed, tmp_path / "usual") == 0
    assert segment(packed, tmp_path / "other", *more) == 0
    assert content(tmp_path / "other") == content(tmp_path / "usual")


def test_the_order_of_shards_changes_nothing(packed: str, segment: Segment, tmp_path: Path) -> None:
    names = sorted(str(p) for p in Path(packed).iterdir())
    shuffled = [names[i] for i in (3, 0, 5, 1, 4, 2)]
    assert segment(",".join(names), tmp_path / "usual") == 0
    assert segment(",".join(shuffled), tmp_path / "other") == 0
    assert content(tmp_path / "other") == content(tmp_path / "usual")


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_bundle_that_fails_around_its_commit_is_retried(
    packed: str,
    segment: Segment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    assert segment(packed, tmp_path / "usual") == 0
    commit, failed = sink.ShardWriter.commit, []

    def fail_once(writer: sink.ShardWriter) -> object:
        if moment == "before the commit" and not failed:
            failed.append(1)
            raise RuntimeError("injected")
        report = commit(writer)
        if not failed:
            failed.append(1)
            raise RuntimeError("injected")
        return report

    monkeypatch.setattr(sink.ShardWriter, "commit", fail_once)
    assert segment(packed, tmp_path / "other", "--runner=BundleBasedDirectRunner") == 0
    assert failed
    assert content(tmp_path / "other") == content(tmp_path / "usual")


def test_a_finished_run_is_recognised_and_not_done_again(
    packed: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(packed, tmp_path) == 0
    before = commits(tmp_path)
    assert segment(packed, tmp_path) == 0
    assert commits(tmp_path) == before
    assert "resuming: 6 shards are committed already" in capsys.readouterr().out


def test_one_bad_image_costs_one_image(
    packed: str, segment: Segment, tmp_path: Path, photos: str
) -> None:
    bad = tmp_path / "photos"
    bad.mkdir()
    for index, path in enumerate(sorted(Path(photos).glob("left/*"))):
        data = path.read_bytes()
        (bad / path.name).write_bytes(data[: len(data) // 2] if index == 7 else data)
    assert segment(str(bad), tmp_path / "out") == 0, "one failure of a small shard is allowed"
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["records"]["written"] == 29
    assert metrics["records"]["failed_by_reason"] == {"truncated": 1}
    rows = pq.read_table(tmp_path / "out" / "records").to_pylist()
    assert [r["status"] for r in rows].count("failed") == 1
    assert rows[7]["status"] == "failed"
    assert segment(str(bad), tmp_path / "strict", "--max_failed_fraction=0") == 1
    assert (tmp_path / "strict" / "_SUCCESS").exists(), "the good ones are all there"


def test_a_run_has_a_budget_too(photos: str, segment: Segment, tmp_path: Path) -> None:
    """One failure in each of many small shards is too much for all of them."""
    bad = tmp_path / "bad"
    shutil.copytree(photos, bad)
    for path in sorted(bad.rglob("*.*"))[::10]:
        path.write_bytes(b"")
    more = ["--files_per_shard=10"]
    assert segment(str(bad), tmp_path / "out", *more, "--max_failed_fraction=0.09") == 1
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["complete"] and metrics["shards"]["over_budget"] == 0
    assert metrics["records"]["over_budget"] and metrics["records"]["failed"] == 6
    assert segment(str(bad), tmp_path / "out", *more, "--max_failed_fraction=0.1") == 0


def test_a_cut_shard_loses_its_tail_and_says_so(
    packed: str, segment: Segment, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in Path(packed).iterdir():
        data = path.read_bytes()
        (shards / path.name).write_bytes(data[:-100] if "00002" in path.name else data)
    assert segment(str(shards), tmp_path / "out") == 1, "nobody knows how much is lost"
    records = json.loads((tmp_path / "out" / "metrics.json").read_text())["records"]
    assert records == {
        "read": 60,
        "written": 59,
        "failed": 1,
        "failed_by_reason": {"rest_lost": 1},
        "over_budget": False,
    }


def test_a_wrong_feature_name_is_found_at_the_start(
    packed: str, segment: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(packed, tmp_path / "out", "--image_feature=pixels") == 2
    message = capsys.readouterr().err
    assert "'pixels'" in message
    assert "image/encoded" in message, "what is there"
    assert not (tmp_path / "out").exists()


def test_a_shard_of_bad_images_only_is_not_good(segment: Segment, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"junk")
    assert segment(str(tmp_path / "bad"), tmp_path / "out") == 1


def test_results_inside_the_input_are_no_input(
    photos: str, segment: Segment, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    assert segment(str(source), source / "out") == 0
    assert segment(str(source), source / "out") == 0, "the same command again"
    records = json.loads((source / "out" / "metrics.json").read_text())["records"]
    assert records["read"] == 60


def test_a_run_whose_start_or_overwriting_was_killed_goes_on(
    packed: str, segment: Segment, tmp_path: Path
) -> None:
    (tmp_path / "out" / "_tmp").mkdir(parents=True)  # all that there is before run.json
    (tmp_path / "out" / "_tmp" / "run.json.0123").write_text("{")
    assert segment(packed, tmp_path / "out") == 0
    usual = content(tmp_path / "out")
    for deleted in (1, 2, 5):  # --overwrite was killed after so many
        for name in run_files.OURS[:deleted]:
            storage.delete_tree(str(tmp_path / "out" / name))
        assert segment(packed, tmp_path / "out") == 0
        assert content(tmp_path / "out") == usual


def test_mask_size_model_and_draft(photos: str, segment: Segment, tmp_path: Path) -> None:
    more = ("--image_size=24x32", "--mask_size=model")
    assert segment(photos, tmp_path, *more) == 0
    for path in (tmp_path / "masks").glob("*/*.png"):
        assert Image.open(path).size == (32, 24)


def test_masks_are_plain_grey_png(photos: str, segment: Segment, tmp_path: Path) -> None:
    assert segment(photos, tmp_path) == 0
    path = next((tmp_path / "masks").glob("*/*.png"))
    image = Image.open(io.BytesIO(path.read_bytes()))
    assert (image.format, image.mode) == ("PNG", "L")
    np.testing.assert_array_equal(
        np.asarray(image), tf.io.decode_png(path.read_bytes(), channels=1)[..., 0].numpy()
    )
