"""Fixtures for whole runs: a small model and small pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import CLASSES, Segment

from models.loading import import_tensorflow
from pipeline import cli


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SavedModel of one 3x3 convolution: uint8 [N, H, W, 3] -> logits float32 [N, H, W, 5]."""
    tf = import_tensorflow()

    class Tiny(tf.Module):
        def __init__(self) -> None:
            self.kernel = tf.Variable(
                tf.random.stateless_normal([3, 3, 3, CLASSES], seed=[1, 2]) * 0.02
            )

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def segment(self, image: Any) -> dict[str, Any]:
            return {"logits": tf.nn.conv2d(tf.cast(image, tf.float32), self.kernel, 1, "SAME")}

    model = Tiny()
    path = tmp_path_factory.mktemp("models") / "tiny"
    tf.saved_model.save(model, str(path), signatures=model.segment)
    return str(path)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 pictures of four sizes in two folders, PNG and JPEG; none is broken."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(60):
        folder = root / ("left" if index % 2 else "right")
        folder.mkdir(exist_ok=True)
        height, width = [(48, 64), (64, 48), (56, 56), (33, 71)][index % 4]
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"photo_{index:03d}.{'png' if index % 3 else 'jpg'}")
    return str(root)


@pytest.fixture(scope="session")
def packed(photos: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same pictures in 6 TFRecord shards."""
    out = str(tmp_path_factory.mktemp("packed") / "out")
    arguments = ["--input", photos, "--output", out, "--images_per_shard", "10"]
    assert cli.main(["pack", *arguments]) == 0
    return f"{out}/images"


@pytest.fixture(scope="session")
def segment(tiny_model: str) -> Segment:
    """Runs `pixelmill segment` with the tiny model in this process; returns the exit code."""

    def run(source: str, out: str | Path, *more: str) -> int:
        arguments = ["--input", source, "--output", str(out), "--model", tiny_model]
        return cli.main(["segment", *arguments, *more])

    return run
