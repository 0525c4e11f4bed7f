"""Real images and SavedModels that we did not write: the pipeline equals a plain loop."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from support import Segment, real_data, run_measured

from pipeline import cli

pytestmark = pytest.mark.real_data


def nchw(signature: Any, pixels: np.ndarray) -> np.ndarray:
    """DeepLab of fixed size 513x513, x / 127.5 - 1, logits NCHW."""
    resized = tf.image.resize(pixels[np.newaxis].astype(np.float32), (513, 513))
    logits = tf.transpose(signature(input=resized / 127.5 - 1)["logits"], [0, 2, 3, 1])
    return tf.argmax(tf.image.resize(logits, pixels.shape[:2])[0], axis=-1).numpy()


def portrait(signature: Any, pixels: np.ndarray) -> np.ndarray:
    """DeepLab of free size, uint8, a batch of one; its own class ids."""
    return signature(ImageTensor=pixels[np.newaxis])["SemanticPredictions"][0].numpy()


CASES = {
    "camvid, nchw": ("camvid_val", "deeplab_nchw_tf1", nchw, ["--value_range=-1,1"], 101),
    "nuclei, nchw": ("nuclei_dsb2018", "deeplab_nchw_tf1", nchw, ["--value_range=-1,1"], 136),
    "camvid, portrait": ("camvid_val", "deeplab_portrait_tf1", portrait, [], 101),
}


def check(case: str, limit: int | None, tmp_path: Path) -> int:
    """Segments images of a case and compares every mask; returns how many."""
    data, model, loop, more, _ = CASES[case]
    images = sorted(Path(real_data(data), "images").iterdir())[:limit]
    source = tmp_path / "images"
    source.mkdir()
    for path in images:
        shutil.copy(path, source)
    folder = os.path.join(real_data("saved_models"), model)
    arguments = ["--input", str(source), "--output", str(tmp_path / "out"), "--model", folder]
    assert cli.main(["segment", *arguments, *more, "--files_per_shard=50"]) == 0
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    compare: Callable[[Any, np.ndarray], np.ndarray] = loop
    for path in images:
        with Image.open(path) as image:
            expected = compare(signature, np.asarray(image.convert("RGB")))
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{path.stem}.png"))
        np.testing.assert_array_equal(mask, expected, err_msg=path.name)
    return len(images)


@pytest.mark.parametrize("case", CASES)
def test_some_masks_equal_a_plain_loop(case: str, tmp_path: Path) -> None:
    assert check(case, 8, tmp_path) == 8


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_masks_equal_a_plain_loop(case: str, tmp_path: Path) -> None:
    assert check(case, None, tmp_path) == CASES[case][-1]


def test_awkward_images_as_one_shard(tiny_model: str, tmp_path: Path) -> None:
    folder = real_data("awkward_images")
    expected = json.loads(Path(folder, "expected.json").read_text())["files"]
    source = tmp_path / "awkward"
    source.mkdir()
    for entry in expected:
        shutil.copy(os.path.join(folder, entry["file"]), source)
    out = tmp_path / "out"
    arguments = ["--input", f"{source}/*", "--output", str(out), "--model", tiny_model]
    done, peak_bytes = run_measured(["segment", *arguments])
    assert done == 1, "more fail than the budget allows"
    assert peak_bytes < 2 << 30
    rows = {row["key"]: row for row in pq.read_table(out / "records").to_pylist()}
    assert len(rows) == len(expected)
    for entry in expected:
        row = rows[entry["file"]]
        if entry["outcome"] != "policy":
            status = {"decode": "ok", "dead_letter": "failed"}[entry["outcome"]]
            assert row["status"] == status, entry["file"]
        if row["status"] == "ok":
            mask = Image.open(out / "masks" / f"{row['output_name']}.png")
            assert mask.size == (row["width"], row["height"])
            if "oriented_size" in entry:
                assert mask.size == tuple(entry["oriented_size"])
        else:
            assert row["reason"]
            assert row["message"]
    assert (out / "_SUCCESS").exists()


def test_exif_turned_images_give_turned_masks(segment: Segment, tmp_path: Path) -> None:
    assert segment(real_data("exif_orientation") + "/Landscape_*.jpg", tmp_path) == 0
    sizes = {Image.open(path).size for path in (tmp_path / "masks").iterdir()}
    assert sizes == {(1800, 1200)}


def test_astronaut_is_a_person(tmp_path: Path) -> None:
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    model = os.path.join(real_data("saved_models"), "deeplab_portrait_tf1")
    arguments = ["--input", str(tmp_path / "astronaut.png"), "--output", str(tmp_path / "out")]
    assert cli.main(["segment", *arguments, "--model", model, "--classes=ground,person"]) == 0
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "astronaut.png"))
    assert mask.shape == (512, 512)
    assert mask[80:180, 190:260].mean() > 0.95, "the face"
    assert mask[300:, 150:300].mean() > 0.9, "the suit"
    assert mask[:60, :100].mean() < 0.05, "the flag behind her"
