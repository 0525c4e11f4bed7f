"""`pixelmill segment --tile_px`: what it says, what it refuses, what a resumed run keeps."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import Segment, content

from models.halo import Halo
from models.loading import import_tensorflow
from pipeline import cli, flag_values
from pipeline.windows import settle


def binding(**fields):
    return SimpleNamespace(kind="logits", multiple_of=None, **fields)


def test_windows_of_a_local_model_are_cropped_where_that_is_exact():
    tiling, said = settle((256, 256), None, None, Halo(30, 8), binding())
    assert (tiling.overlap_hw, tiling.blend, tiling.period_px) == ((68, 68), "crop", 8)
    assert "as if the picture were shown whole" in said
    tiling, said = settle((256, 256), 32, None, Halo(30, 8), binding())
    assert (tiling.overlap_hw, tiling.blend) == ((32, 32), "gaussian")
    assert "68 px would be exact" in said


def test_windows_that_are_too_small_for_the_model_are_blended():
    tiling, said = settle((64, 64), "auto", None, Halo(40, 1), binding())
    assert (tiling.overlap_hw, tiling.blend) == ((32, 32), "gaussian") and "80 px" in said


def test_global_context_is_warned_of_and_blended():
    tiling, said = settle((128, 256), "auto", None, Halo(None, 4), binding())
    assert (tiling.overlap_hw, tiling.blend) == ((64, 64), "gaussian")
    assert said.count("warning: the model looks at the whole picture") == 1


def test_a_model_of_one_size_gets_windows_of_any_overlap():
    tiling, said = settle((64, 64), None, None, None, binding())
    assert (tiling.overlap_hw, tiling.blend, tiling.period_px) == ((32, 32), "gaussian", 1)
    assert "pictures of one size" in said


def test_masks_are_those_of_whole_pictures_and_a_resumed_run_keeps_its_windows(
    segment: Segment, photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(photos, tmp_path / "whole") == 0
    capsys.readouterr()
    assert segment(photos, tmp_path / "tiled", "--tile_px=32") == 0
    assert "windows: 32x32 px that overlap by 2 (crop)" in capsys.readouterr().out
    for path in sorted((tmp_path / "whole" / "masks").rglob("*.png")):
        other = tmp_path / "tiled" / path.relative_to(tmp_path / "whole")
        with Image.open(path) as a, Image.open(other) as b:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    files = [tmp_path / name / "metrics.json" for name in ("whole", "tiled")]
    whole, tiled = (json.loads(file.read_text()) for file in files)
    assert whole["sums"]["class_pixels"] == tiled["sums"]["class_pixels"]
    before = content(tmp_path / "tiled")
    victim = next((tmp_path / "tiled" / "metrics").rglob("*.json"))
    victim.unlink()
    assert segment(photos, tmp_path / "tiled", "--tile_px=32") == 0
    assert "windows:" not in capsys.readouterr().out, "not measured again"
    assert content(tmp_path / "tiled") == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--blend=hann"], "--blend is of windows; give --tile_px"),
        (["--tile_px=32", "--max_side=20"], "--tile_px does not go with --max_side"),
        (["--tile_px=32", "--mask_size=model"], "does not go with --mask_size=model"),
        (["--tile_px=32", "--overlap_px=32"], "--overlap_px=32 is too large"),
        (["--tta=flips", "--mask_size=model"], "leave --mask_size=model out"),
        (["--tta=scales", "--image_size=32x32"], "--tta=scales has no effect"),
    ],
)
def test_contradictions_are_refused(
    segment: Segment,
    photos: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags,
    message,
) -> None:
    assert segment(photos, tmp_path / "out", *flags) == 2
    assert message in capsys.readouterr().err


def test_a_side_that_is_none_is_told_as_it_was_given() -> None:
    assert flag_values.tile("64") == (64, 64) and flag_values.tile("64x32") == (64, 32)
    with pytest.raises(argparse.ArgumentTypeError, match=r"a side like 512, .* got '0'"):
        flag_values.tile("0")


@pytest.fixture(scope="session")
def doubling_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twice as large, and blurred: uint8 [N, H, W, 3] -> float32 [N, 2 H, 2 W, 3]."""
    tf = import_tensorflow()

    class Doubling(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def double(self, image: Any) -> dict[str, Any]:
            x = tf.repeat(tf.repeat(tf.cast(image, tf.float32), 2, axis=1), 2, axis=2)
            return {"picture": tf.nn.avg_pool2d(x, 5, 1, "SAME")}

    model = Doubling()
    path = tmp_path_factory.mktemp("models") / "doubling"
    tf.saved_model.save(model, str(path), signatures=model.double)
    return str(path)


def test_pictures_that_are_made_larger_by_windows(
    doubling_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for index, size_hw in enumerate([(70, 51), (32, 33), (5, 90)]):
        pixels = np.random.default_rng(index).integers(0, 256, (*size_hw, 3), np.uint8)
        Image.fromarray(pixels).save(source / f"{index}.png")
    shared = ["generate", "--model", doubling_model, "--input", str(source)]
    shared += ["--output_range=0,255", "--value_range=0,255", "--output"]
    assert cli.main([*shared, str(tmp_path / "whole")]) == 0
    assert cli.main([*shared, str(tmp_path / "crop"), "--tile_px=32"]) == 0
    assert "(crop)" in capsys.readouterr().out
    hann = ["--tile_px=32", "--overlap_px=16", "--blend=hann"]
    assert cli.main([*shared, str(tmp_path / "hann"), *hann]) == 0
    for index in range(3):
        whole, crop, hann_ = (
            np.asarray(Image.open(tmp_path / name / "images" / f"{index}.png")).astype(int)
            for name in ("whole", "crop", "hann")
        )
        np.testing.assert_array_equal(crop, whole)
        assert hann_.shape == whole.shape and np.abs(hann_ - whole).mean() < 1
