"""Memory does not grow with the number of shards."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import run_measured

from pipeline import cli


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_times_the_shards_take_the_same_memory(tiny_model: str, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for index in range(64):
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((384, 384), Image.Resampling.BICUBIC)
        image.save(source / f"{index}.jpg", quality=90)
    packed = ["--input", str(source), "--output", str(tmp_path / "packed")]
    assert cli.main(["pack", *packed, "--images_per_shard=32"]) == 0
    shards = sorted((tmp_path / "packed" / "images").iterdir())
    assert len(shards) == 2
    peaks = []
    for copies in (1, 10):
        many = tmp_path / f"shards{copies}"
        many.mkdir()
        for copy in range(copies):
            for shard in shards:
                shutil.copy(shard, many / f"{copy}_{shard.name}")
        arguments = ["--input", str(many), "--output", str(tmp_path / f"out{copies}")]
        code, peak = run_measured(["segment", *arguments, "--model", tiny_model])
        assert code == 0
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0], [f"{peak / 1e6:.0f} MB" for peak in peaks]
