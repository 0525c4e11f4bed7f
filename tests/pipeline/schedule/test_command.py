"""`pixelmill augment` itself: real pictures, the real machine, a process that is killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from gcs_server import GcsServer
from PIL import Image

from pipeline import cli
from transforms import storage
from transforms.listing import read_list

FIELDS = {"per_image": 1, "seed": 7, "steps": [{"step": "flip"}, {"step": "noise"}]}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 pictures with masks, in 6 shards."""
    root = tmp_path_factory.mktemp("masked")
    for number in range(24):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
        Image.fromarray(pixels[..., 0] // 64).save(root / f"{number:02d}_mask.png")
    arguments = ["--input", str(root), "--output", f"{root}/out", "--images_per_shard", "4"]
    assert cli.main(["pack", *arguments]) == 0
    return f"{root}/out/images"


def make_recipe(folder: Path, place: str, **fields: Any) -> str:
    made = {"source": f"{folder}/source/*.tfrecord", "publish": place, **FIELDS, **fields}
    path = folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    path.write_text(yaml.safe_dump(made))
    return str(path)


def arrive(folder: Path, packed: str, *numbers: int) -> None:
    """Shards of real pictures come into the source."""
    (folder / "source").mkdir(exist_ok=True)
    for number in numbers:
        path = sorted(Path(packed).glob("*.tfrecord"))[number]
        shutil.copy(path, folder / f"source/s{number}.tfrecord")


def published(place: str) -> dict[str, bytes]:
    """Every example that readers see, by the name of its shard."""
    files = read_list(f"{place}/latest.list")
    return {os.path.basename(path): storage.read_bytes(path) for path in files}


@pytest.fixture
def augment(capfd: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs the command here; returns its last line, and checks the exit code in it."""

    def run(*arguments: str) -> dict[str, Any]:
        code = cli.main(["augment", *arguments])
        line: dict[str, Any] = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert line["exit_code"] == code
        return line

    return run


Augment = Callable[..., dict[str, Any]]


def test_two_nights(packed: str, tmp_path: Path, augment: Augment) -> None:
    place = f"{tmp_path}/place"
    recipe = make_recipe(tmp_path, place, gates=["records.failed < 3"])
    arrive(tmp_path, packed, 0)
    assert augment(recipe, "--dry_run")["shards"]["todo"] == 1
    assert not os.path.exists(place)
    line = augment(recipe, "--date=2026-11-24")
    assert (line["status"], line["exit_code"], line["snapshot"]) == ("published", 0, 1)
    assert line["partitions"][0].startswith("dt=2026-11-24/run=")
    first = published(place)
    arrive(tmp_path, packed, 1)
    dry = augment(recipe, "--dry_run")
    assert dry["shards"]["todo"] == 1 and dry["estimate"]["seconds"] > 0
    line = augment(recipe)
    assert line["records"] == {"read": 4, "written": 4}
    second = published(place)
    assert second.keys() == {"s0.tfrecord", "s1.tfrecord"}
    assert first == {"s0.tfrecord": second["s0.tfrecord"]}
    assert augment(recipe)["status"] == "nothing_new"
    assert cli.main(["pack", "--input", f"{place}/latest.list", "--output", place + "2"]) == 0


def test_gates_and_refusals(packed: str, tmp_path: Path, augment: Augment) -> None:
    arrive(tmp_path, packed, 0)
    recipe = make_recipe(tmp_path, f"{tmp_path}/place", gates=["records.written > 4"])
    line = augment(recipe)
    assert (line["status"], line["exit_code"]) == ("held", 3)
    assert line["reasons"] == ["gate records.written > 4: records.written = 4"]
    assert not os.path.exists(f"{tmp_path}/place/latest.list")
    assert augment(f"{tmp_path}/none.yaml")["exit_code"] == 2
    assert augment(make_recipe(tmp_path, f"{tmp_path}/p", gates=["a <"]))["exit_code"] == 2
    run = Path(packed).parent
    line = augment(make_recipe(tmp_path, str(run)))
    assert line["exit_code"] == 2 and "is the folder of a run" in line["reasons"][0]
    assert not (run / "lease.json").exists()


def test_check_says_it_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["augment", make_recipe(tmp_path, "place"), "--check"]) == 0
    assert "flip" in capsys.readouterr().out.lower()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "gs"])
def test_days_with_kills_end_as_one_clean_run(
    packed: str, tmp_path: Path, where: str, augment: Augment, gcs: GcsServer
) -> None:
    """A process is killed at random moments; then the next night does what is missing."""
    place = f"{tmp_path}/place" if where == "local" else "gs://bucket/place"
    recipe = make_recipe(tmp_path, place)
    rng = random.Random(3)

    def begun() -> list[str]:
        """Partitions that were ever begun."""
        if where == "gs":
            return [name for name in gcs.names("place/ledger/") if name.endswith(".intent.json")]
        return [path.name for path in Path(place).glob("ledger/*.intent.json")]

    for day, numbers in enumerate(((0, 1), (2,), (3, 4))):
        arrive(tmp_path, packed, *numbers)
        if day == 2:
            (tmp_path / "source/s0.tfrecord").unlink()
            shutil.copy(sorted(Path(packed).glob("*.tfrecord"))[5], tmp_path / "source/s1.tfrecord")
        before = len(begun())
        command = [sys.executable, "-m", "pipeline.cli", "augment", recipe, "--keep=1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(begun()) == before:  # it is at work
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert augment(recipe, "--keep=1")["exit_code"] == 0  # the dead one's lease is no hindrance
    clean = make_recipe(tmp_path, f"{tmp_path}/clean")
    assert augment(clean)["status"] == "published"
    assert published(place) == published(f"{tmp_path}/clean")
