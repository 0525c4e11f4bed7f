"""Pictures of masks: these go in as class ids or one-hot, and stay the labels of the results."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline import cli, run_files
from transforms.formats.tfrecord import read_records

COLOURS = np.array([[10, 20, 30], [200, 90, 0], [0, 255, 128]], np.uint8)
HW = (24, 36)


def export(folder: Path, channels: str, size_hw: tuple[int | None, int | None]) -> str:
    """Colours of the classes, at twice the size: float32 masks to pictures in 0..255."""
    colours = tf.constant(COLOURS.astype(np.float32))
    depth = 3 if channels == "one_hot" else 1
    spec = tf.TensorSpec([None, *size_hw, depth], tf.float32, name="mask")

    def paint(mask: Any) -> dict[str, Any]:
        hot = mask if depth == 3 else tf.one_hot(tf.cast(mask[..., 0], tf.int32), 3)
        image = tf.einsum("nhwc,cd->nhwd", hot, colours)
        return {"image": tf.repeat(tf.repeat(image, 2, axis=1), 2, axis=2)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=tf.function(paint, [spec]))
    return str(folder)


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, np.ndarray]:
    """Photographs in data/images and masks in data/masks, one of them a palette PNG."""
    found = {}
    for index in range(5):
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 3, (4, 6), np.uint8)
        ids = coarse.repeat(HW[0] // 4, axis=0).repeat(HW[1] // 6, axis=1)
        found[f"m{index}"] = ids
        mask = Image.fromarray(ids)
        if index == 2:
            mask.putpalette([5, 5, 5, 250, 250, 250, 90, 0, 0])
        for folder, image in (("masks", mask), ("images", Image.new("RGB", HW[::-1], "red"))):
            path = tmp_path / "data" / folder / f"m{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return found


def arguments(tmp_path: Path, model: str, channels: str) -> list[str]:
    out = [f"--output={tmp_path / 'out'}", "--output_range=0,255", "--batch_size=2"]
    return ["generate", f"--model={model}", f"--channels={channels}", *out]


@pytest.mark.parametrize("channels", ["ids", "one_hot"])
def test_masks_of_a_folder(tmp_path: Path, masks: dict[str, np.ndarray], channels: str) -> None:
    model = export(tmp_path / "model", channels, (None, None))
    more = [f"--input={tmp_path / 'data' / 'masks'}"]
    assert cli.main([*arguments(tmp_path, model, channels), *more]) == 0
    for name, ids in masks.items():
        large = ids.repeat(2, axis=0).repeat(2, axis=1)
        made, mask = (
            np.asarray(Image.open(tmp_path / "out" / folder / f"{name}.png"))
            for folder in ("images", "masks")
        )
        np.testing.assert_array_equal(made, COLOURS[large])
        np.testing.assert_array_equal(mask, large)
    assert cli.main(["verify", str(tmp_path / "out")]) == 0
    assert "cannot be shown" not in (tmp_path / "out" / run_files.REPORT).read_text()


def test_masks_of_shards(tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    pack = ["pack", f"--input={tmp_path / 'data'}", f"--output={tmp_path / 'packed'}"]
    assert cli.main(pack) == 0
    model = export(tmp_path / "model", "one_hot", (12, 18))  # half the size: by nearest neighbour
    more = [f"--input={tmp_path / 'packed' / 'images'}"]
    more += ["--image_feature=image/segmentation/class/encoded"]
    assert cli.main([*arguments(tmp_path, model, "one_hot"), *more]) == 0
    (shard,) = (tmp_path / "out" / "images").glob("*.tfrecord")
    seen = 0
    with shard.open("rb") as file:
        for data in read_records(file):
            features = tf.train.Example.FromString(data).features.feature
            made, mask, photograph = (
                np.asarray(Image.open(io.BytesIO(features[name].bytes_list.value[0])))
                for name in (
                    "image/encoded",
                    "image/segmentation/class/encoded",
                    "input/image/encoded",
                )
            )
            key = Path(features["image/filename"].bytes_list.value[0].decode()).stem
            np.testing.assert_array_equal(mask, masks[key])
            np.testing.assert_array_equal(made, COLOURS[mask])
            assert photograph[0, 0].tolist() == [255, 0, 0]
            seen += 1
    assert seen == 5


def test_photographs_are_no_masks(
    tmp_path: Path, masks: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    model = export(tmp_path / "model", "ids", (None, None))
    more = [f"--input={tmp_path / 'data' / 'images'}"]
    assert cli.main([*arguments(tmp_path, model, "ids"), *more]) == 1
    report = (tmp_path / "out" / run_files.REPORT).read_text()
    assert "got a picture of mode RGB, expected class ids" in report


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--value_range=0,1"], "class ids are not scaled: leave out range"),
        (["--set=input.classes=7"], "takes 3 classes, the card says 7"),
        (["--fit=letterbox", "--image_size=8x8"], "masks have none"),
    ],
)
def test_what_masks_do_not_have_is_refused(
    tmp_path: Path,
    masks: dict[str, np.ndarray],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    model = export(tmp_path / "model", "one_hot", (None, None))
    more = [*more, f"--input={tmp_path / 'data' / 'masks'}"]
    assert cli.main([*arguments(tmp_path, model, "one_hot"), *more]) == 2
    assert message in capsys.readouterr().err
