"""Copies of pictures that a model makes of pictures, or of masks: equal to a plain loop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
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
from support import content

from models.errors import UserError
from pipeline import cli
from pipeline.run_files import read_metrics
from transforms.augmentation.apply import make_copy
from transforms.augmentation.draws import Draws
from transforms.augmentation.scene import Scene

MASK, LABEL = "image/segmentation/class/encoded", "image/class/label"
COLOURS = np.array([[10, 20, 30], [200, 90, 0], [0, 255, 128], [90, 90, 250]], np.uint8)
STEPS = [{"step": "rotate"}, {"step": "noise"}]


def export(folder: Path, made: Any, depth: int, card: str) -> dict[str, str]:
    """A model at twice the size, which fails where all channels of the first pixel are 255."""
    spec = tf.TensorSpec([None, None, None, depth], tf.float32, name="image")

    def make(image: Any) -> dict[str, Any]:
        first = tf.reduce_min(image[:, 0, 0], axis=-1)
        with tf.control_dependencies([tf.debugging.assert_less(first, 255.0)]):
            large = tf.repeat(tf.repeat(image, 2, axis=1), 2, axis=2)
        return {"image": made(large)}

    model = folder / "model"
    tf.saved_model.save(tf.Module(), str(model), signatures=tf.function(make, [spec]))
    (folder / "card.yaml").write_text(card)
    return {"model": str(model), "card": str(folder / "card.yaml")}


def negatives(folder: Path) -> dict[str, str]:
    card = 'input: {range: "0,255"}\noutput: {kind: image, range: "0,255"}\n'
    return export(folder, lambda image: 255.0 - image, 3, card)


def painter(folder: Path) -> dict[str, str]:
    colours = tf.constant(COLOURS.astype(np.float32))
    card = 'input: {channels: ids}\noutput: {kind: image, range: "0,255"}\n'
    return export(
        folder, lambda mask: tf.gather(colours, tf.cast(mask[..., 0] % 4, tf.int32)), 1, card
    )


def twice(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, axis=0).repeat(2, axis=1)


def check_copy(features: Any, scene: Scene, made: Any, copy: int, told: list[Any]) -> None:
    expected, done = make_copy(
        scene, made.steps, seed=made.seed, copy=copy, ignore_id=255, partners=None
    )
    np.testing.assert_array_equal(pixels_of(features), expected.pixels)
    np.testing.assert_array_equal(pixels_of(features, MASK), expected.mask)
    assert json.loads(text(features, "image/augmented/operations")) == [*told, *done]


def test_pictures_of_pictures_equal_a_plain_loop(tmp_path: Path) -> None:
    rows = [row(number, **{LABEL: number % 3}) for number in range(9)]
    spoilt = picture(4).copy()
    spoilt[0, 0] = 255
    rows[4]["image/encoded"] = png(spoilt)
    source = write_shards(tmp_path / "in", [rows[:5], rows[5:]])
    translate = {**negatives(tmp_path), "p": 0.5}
    made = recipe(source, per_image=3, steps=STEPS, translate=translate)
    out = tmp_path / "out"
    assert run(made, out) == 0
    found = examples(out)
    kinds, failed = set(), 0
    for number in range(9):
        for copy in range(3):
            key = f"{number}.png#{copy}"
            chosen = Draws(5, f"{number}.png", copy, "translate").chance(0.5)
            if chosen and number == 4:
                failed += 1
                assert key not in found
                continue
            pixels, mask = spoilt if number == 4 else picture(number), ids(number)
            if chosen:
                pixels, mask = twice(255 - pixels), twice(mask)
            scene = Scene(pixels, mask, key=f"{number}.png")
            told = [{"step": "translate", "from": "image"}] if chosen else []
            check_copy(found[key], scene, made, copy, told)
            assert found[key][LABEL].int64_list.value == [number % 3]
            models = json.loads(text(found[key], "image/augmented/models"))
            generators = found[key]["image/augmented/generators"].bytes_list.value
            assert [v.decode() for v in generators] == list(models.values())
            assert set(models) == ({"translate"} if chosen else set())
            kinds.add(chosen)
    assert kinds == {True, False} and 0 < failed < 3
    assert read_metrics(str(out))["records"]["failed_by_reason"] == {"model_error": failed}
    for key in ("0.png#0", "1.png#1", "2.png#2", "3.png#0", "6.png#1", "8.png#2"):
        assert cli.main(["replay", str(out), key]) == 0
    assert cli.main(["verify", str(out)]) == 0
    before = content(out)
    name = "in-00001-of-00002"  # as a kill would leave it
    (out / "metrics" / f"{name}.json").unlink()
    (out / "images" / f"{name}.tfrecord").unlink()
    assert run(made, out, threads=1) == 0
    assert content(out) == before


def test_pictures_of_masks_equal_a_plain_loop(tmp_path: Path) -> None:
    rows = [row(0), row(1), row(2, masked=False, **{LABEL: 1}), row(3), row(4)]
    spoilt = ids(4)
    spoilt[0, 0] = 255  # the ignore id, which goes in as it is
    rows[4][MASK] = png(spoilt)
    source = write_shards(tmp_path / "in", [rows])
    seen = {"image/filename": "seen.png", "image/encoded": png(COLOURS[twice(ids(3))]), LABEL: 0}
    validation = write_shards(tmp_path / "val", [[seen]])
    made = recipe(
        source,
        steps=STEPS,
        translate=painter(tmp_path),
        filter={"validation": [validation], "leakage": ["exact"]},
    )
    out = tmp_path / "out"
    assert run(made, out) == 0
    found = examples(out)
    assert set(found) == {"0.png#0", "1.png#0"}
    for number in (0, 1):
        mask = twice(ids(number))
        scene = Scene(COLOURS[mask], mask, key=f"{number}.png")
        told = [{"step": "translate", "from": "mask"}]
        check_copy(found[f"{number}.png#0"], scene, made, 0, told)
        assert cli.main(["replay", str(out), f"{number}.png#0"]) == 0
    assert left_out(out).keys() == {"3.png#0"}
    failed = read_metrics(str(out))["records"]["failed_by_reason"]
    assert failed == {"mask_missing": 1, "model_error": 1}


def test_what_cannot_be_translated_is_refused(tmp_path: Path) -> None:
    bare = write_shards(tmp_path / "bare", [[row(0, False, **{LABEL: 1})]])
    with pytest.raises(UserError, match="have no masks, and the model makes pictures of masks"):
        run(recipe(bare, translate=painter(tmp_path)), tmp_path / "out")
    generator = Path(__file__).parents[2] / "models" / "shipped" / "digits_generator"
    with pytest.raises(UserError, match="takes no picture, expected a model that makes pictures"):
        run(recipe(bare, translate={"model": str(generator)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
