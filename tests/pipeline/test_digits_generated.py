"""The shipped generator at scale: 10,000 digits in 20 shards are the same however they are made."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import content, run_apart

from models import shipped
from models.shipped.digit_files import write_digits
from pipeline import cli
from transforms import generate
from transforms.formats.tfrecord import read_records
from transforms.shard_work import process_shard

FOLDER = Path(shipped.__file__).parent
GENERATOR, CLASSIFIER = (FOLDER / f"digits_{kind}" for kind in ("generator", "classifier"))
COMMAND = ["generate", f"--model={GENERATOR}", f"--verifier={CLASSIFIER}", "--accept=agree"]
AT_SCALE = [*COMMAND, "--per_class=1000", "--images_per_shard=500", "--batch_size=64"]
PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def pictures(out: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """What is said of each picture, and its pixels, in the order of the run."""
    for shard in sorted(out.glob("images/*.tfrecord")):
        with shard.open("rb") as file:
            for data in read_records(file):
                features = tf.train.Example.FromString(data).features.feature
                numbers = {
                    name: feature.int64_list.value[0]
                    for name, feature in features.items()
                    if feature.int64_list.value
                }
                encoded = features["image/encoded"].bytes_list.value[0]
                yield numbers, np.asarray(Image.open(io.BytesIO(encoded)))


def test_a_hundred_digits(tmp_path: Path) -> None:
    digits = tmp_path / "digits"
    write_digits(str(digits))
    arguments = [*COMMAND, "--per_class=10", f"--reference={digits}", f"--output={tmp_path / 'o'}"]
    assert cli.main(arguments) == 0
    card = json.loads((tmp_path / "o" / "metrics.json").read_text())["scorecard"]
    assert card["pictures"] == 100
    assert card["first_confusion"]["accuracy"] > 0.85
    assert card["reference"]["verifier"]["accuracy"] > 0.97
    assert card["copies"] == {"exact": 0, "near": card["copies"]["near"]}
    assert {f["level"] for f in card["findings"] if f["name"] != "Frechet distance"} <= {
        "good",
        "warn",
    }


def _kill_halfway(arguments: list[str], out: Path, where: str = "metrics", shards: int = 7) -> int:
    """Starts a run and kills it when so many shards are committed; returns how many are."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *arguments, f"--output={out}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(list(out.glob(f"{where}/*.json"))) < shards:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return len(list(out.glob(f"{where}/*.json")))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_while_it_looks_and_while_it_makes(tmp_path: Path) -> None:
    write_digits(str(tmp_path / "digits"))
    arguments = [*COMMAND, "--per_class=40", "--images_per_shard=20", "--drop=copies,duplicates"]
    arguments += [f"--reference={tmp_path / 'digits'}"]
    assert cli.main([*arguments, f"--output={tmp_path / 'whole'}"]) == 0
    killed = tmp_path / "killed"
    assert 0 < _kill_halfway(arguments, killed, "reference/metrics", 3) < 8
    assert 0 < _kill_halfway(arguments, killed, "metrics", 5) < 20
    assert cli.main([*arguments, f"--output={killed}"]) == 0
    assert content(killed) == content(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_digits_are_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c, d = (tmp_path / name for name in ("one", "two_processes", "killed", "shuffled"))
    assert cli.main([*AT_SCALE, "--threads=1", f"--output={a}"]) == 0
    expected = content(a)
    assert len(list(a.glob("images/*.tfrecord"))) == 20
    assert sum(1 for _ in pictures(a)) == 10_000

    done = run_apart([*AT_SCALE, f"--output={b}", *PROCESSES], timeout_s=1800)
    assert done.returncode == 0, done.stderr
    assert content(b) == expected

    assert 0 < _kill_halfway([*AT_SCALE, "--threads=3"], c) < 20
    assert cli.main([*AT_SCALE, "--threads=3", f"--output={c}"]) == 0
    assert content(c) == expected

    operators: list[generate.GenerateOperator] = []
    opened = generate.GenerateOperator.open

    def keep(operator: generate.GenerateOperator) -> Any:
        operators.append(operator)
        raise OSError("stopped before any shard")

    monkeypatch.setattr(generate.GenerateOperator, "open", keep)
    assert cli.main([*AT_SCALE, f"--output={d}"]) != 0
    monkeypatch.setattr(generate.GenerateOperator, "open", opened)
    from pipeline.run_files import read_plan

    work = operators[0].open()
    shards = list(read_plan(str(d)).shards)
    random.Random(5).shuffle(shards)
    for shard in shards[:13]:  # in another order; the rest by the run
        process_shard(shard, lambda: work, operators[0].sink)
    assert cli.main([*AT_SCALE, f"--output={d}"]) == 0
    assert content(d) == expected


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_batches_of_another_size_move_pixels_by_rounding_only(tmp_path: Path) -> None:
    sizes = ("7", "64")
    for size in sizes:
        arguments = [*COMMAND, "--per_class=300", "--images_per_shard=500"]
        arguments += [f"--batch_size={size}", f"--output={tmp_path / size}"]
        assert cli.main(arguments) == 0
    total = differ = 0
    for (said, pixels), (other, others) in zip(
        *(pictures(tmp_path / size) for size in sizes), strict=True
    ):
        assert said == other  # items, labels and attempts
        difference = np.abs(pixels.astype(int) - others)
        assert difference.max() <= 1
        total, differ = total + difference.size, differ + np.count_nonzero(difference)
    assert total >= 3_000 * 28 * 28
    assert differ < 1e-4 * total
