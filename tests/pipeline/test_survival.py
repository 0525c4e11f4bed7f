"""Real SavedModels that raise, run out of memory or hang: what a run loses by them, and says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from support import run_apart

from pipeline import cli

RAISES, HANGS = 255, 254  # grey of a picture at which the model does so


def export(path: Path, memory: int) -> str:
    """uint8 [N, 8, 8, 3] -> class ids, grey // 64; in vain for more than `memory` pictures."""

    def call(image: Any) -> dict[str, Any]:
        grey = tf.cast(image[..., 0], tf.int32)
        corner = grey[:, 0, 0]
        fits = tf.shape(image)[0] <= memory
        # more bytes than a processor can address
        floats = tf.where(fits, tf.constant(1, tf.int64), tf.constant(1 << 50, tf.int64))
        room = tf.fill([floats], 0.0)
        hangs = tf.reduce_any(corner == HANGS) & fits
        never = tf.cond(
            hangs,
            # waits for what nobody puts there
            lambda: tf.raw_ops.Unstage(dtypes=[tf.float32], shared_name="never")[0],
            lambda: room[0],
        )
        good = tf.debugging.assert_less(corner, RAISES, "poisoned")
        with tf.control_dependencies([good, tf.identity(never)]):
            return {"ids": grey // 64}

    spec = tf.TensorSpec([None, 8, 8, 3], tf.uint8, name="image")
    function = tf.function(call).get_concrete_function(spec)
    tf.saved_model.save(tf.Module(), str(path), signatures=function)
    return str(path)


def arguments(folder: Path, greys: list[int], batch_size: int, memory: int = 32) -> list[str]:
    model = export(folder / "model", memory)
    pictures = folder / "in"
    pictures.mkdir()
    for index, grey in enumerate(greys):
        Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(pictures / f"{index:02}.png")
    source = [f"--input={pictures}", f"--output={folder}/out", f"--model={model}"]
    return ["segment", *source, f"--batch_size={batch_size}", "--max_failed_fraction=0.2"]


def check(folder: Path, greys: list[int], failed: dict[int, str]) -> None:
    """All but the failed ones have the right mask; those have their reasons."""
    rows = pq.read_table(folder / "out" / "records").to_pylist()
    assert {row["index"]: row["reason"] for row in rows if row["status"] == "failed"} == failed
    for index in set(range(len(greys))) - set(failed):
        mask = np.asarray(Image.open(folder / "out" / "masks" / f"{index:02}.png"))
        assert (mask == greys[index] // 64).all()


def test_a_poisoned_picture_of_32_costs_itself(tmp_path: Path) -> None:
    greys = [6 * index for index in range(32)]
    greys[13] = RAISES
    assert cli.main(arguments(tmp_path, greys, batch_size=32)) == 0
    check(tmp_path, greys, {13: "model_error"})


def test_a_model_without_memory_for_more_than_4_goes_on_with_4_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorFlow itself waits 10 s for memory before it gives up."""
    greys = [6 * index for index in range(32)]
    assert cli.main(arguments(tmp_path, greys, batch_size=8, memory=4)) == 0
    check(tmp_path, greys, {})
    assert "ran out of memory with batches of 8; going on with 4" in capsys.readouterr().err


def test_a_call_that_hangs_costs_its_batch_and_the_run_ends(tmp_path: Path) -> None:
    greys = [6 * index for index in range(32)]
    greys[13] = HANGS
    words = [*arguments(tmp_path, greys, batch_size=4), "--batch_timeout_s=5"]
    done = run_apart(words, timeout_s=120)
    assert done.returncode == 0, done.stderr
    check(tmp_path, greys, dict.fromkeys(range(12, 16), "timeout"))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["records"]["failed_by_reason"] == {"timeout": 4}
