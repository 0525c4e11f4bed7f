"""Other tools read what pack writes, and it reads what they write: with the real packages.

PIXELMILL_PEERS_PYTHON names an interpreter that has them, which

    python3 -m venv peers && peers/bin/pip install -r tests/requirements-peers.txt

makes in a few minutes, with 2 GB; the tests do not do it.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from peers import CLASSES, told
from PIL import Image

from pipeline import cli
from transforms.formats.registry import read_shard_file
from transforms.sink import read_written

pytestmark = pytest.mark.slow
PEERS = Path(__file__).parents[1] / "peers.py"
COUNT = 7


def pictures() -> dict[str, Any]:
    draw = np.random.default_rng(5)
    return {
        "images": draw.integers(0, 256, (COUNT, 20, 30, 3), np.uint8),
        "masks": draw.integers(0, 256, (COUNT, 20, 30), np.uint8),
        "labels": draw.integers(0, len(CLASSES), COUNT),
    }


def ask(what: str, kind: str, place: Path, **environment: str) -> list[dict[str, Any]]:
    """What a peer has read or written. Skips where there is none."""
    python = os.environ.get("PIXELMILL_PEERS_PYTHON")
    if not python:
        pytest.skip("PIXELMILL_PEERS_PYTHON names no interpreter with the peers")
    quiet = {
        "HF_HOME": f"{place.parent}/hf",
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "HOME": str(place.parent),
    }
    found = subprocess.run(
        [python, str(PEERS), what, kind, str(place)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **quiet, **environment},
    )
    assert found.returncode == 0, found.stderr[-3000:]
    lines = found.stdout.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("RECORD")]


def of_examples(run: Path) -> list[dict[str, Any]]:
    """The same of what a run of pack has written."""
    records = []
    for path in sorted(run.glob("records/**/*.parquet")):
        name = str(path.relative_to(run / "records").with_suffix(""))
        for data in read_written(str(run), "images", name):
            assert isinstance(data, bytes), data
            features = tf.train.Example.FromString(data).features.feature
            label = features["image/class/label"].int64_list.value
            mask = features["image/segmentation/class/encoded"].bytes_list.value
            record = told(
                features["image/filename"].bytes_list.value[0].decode(),
                features["image/encoded"].bytes_list.value[0],
                mask[0] if mask else None,
                label[0] if label else None,
            )
            records.append(record)
    return records


def by_key(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda record: str(record["key"]))


def pack(source: Path, out: Path, *more: str) -> None:
    assert cli.main(["pack", "--input", str(source), "--output", str(out), *more]) == 0


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of pictures with masks and labels, "train-00000-of-00003" and so on."""
    root = tmp_path_factory.mktemp("peers")
    source = root / "train"
    source.mkdir()
    data = pictures()
    with tf.io.TFRecordWriter(str(root / "all.tfrecord")) as writer:
        for n in range(COUNT):
            Image.fromarray(data["images"][n]).save(source / f"{n}.png")
            Image.fromarray(data["masks"][n]).save(source / f"{n}_mask.png")
    pack(source, root / "files", "--images_per_shard=100")
    with tf.io.TFRecordWriter(str(root / "all.tfrecord")) as writer:
        (path,) = (root / "files/images").iterdir()
        for n, example in enumerate(read_shard_file(str(path), "tfrecord")):
            assert isinstance(example, bytes)
            made = tf.train.Example.FromString(example)
            label = int(data["labels"][n])
            made.features.feature["image/class/label"].int64_list.value.append(label)
            writer.write(made.SerializeToString())
    (root / "in/train").mkdir(parents=True)
    (root / "all.tfrecord").rename(root / "in/train/all.tfrecord")
    pack(root / "in/train", root / "out", "--images_per_shard=3")
    return root / "out"


@pytest.mark.parametrize(
    ("kind", "written", "pattern"),
    [
        ("webdataset", "tar", "images/train-{00000..00002}-of-00003.tar"),
        ("webdataset", "tar.gz", "images/train-{00000..00002}-of-00003.tar.gz"),
        ("hf_webdataset", "tar", "images/*.tar"),
        ("hf_parquet", "parquet", "images/*.parquet"),
        ("hf_imagefolder", "folder", "images"),
        ("pandas", "parquet", "images"),
    ],
)
def test_they_read_what_we_wrote(
    packed: Path, tmp_path: Path, kind: str, written: str, pattern: str
) -> None:
    pack(packed / "images", tmp_path / "out", f"--output_format={written}")
    found = ask("read", kind, tmp_path / "out" / pattern)
    if kind == "hf_imagefolder":  # which lists folders in no order
        found = by_key(found)
    assert found == of_examples(packed)


def test_tfds_reads_our_tfrecords(packed: Path, tmp_path: Path) -> None:
    pack(packed / "images", tmp_path / "out")
    found = ask("read", "tfds", tmp_path / "out/images", SHARD_LENGTHS="2,2,3")
    assert by_key(found) == of_examples(packed)


@pytest.mark.parametrize(
    ("kind", "pattern", "flags"),
    [
        ("webdataset", "w-*.tar", []),
        ("hf_parquet", "h.parquet", ["--key_feature=name"]),
        ("pandas", "p.parquet", []),
        ("tfds", "tfds/few/1.0.0/*.tfrecord-*", ["--schema=tfds"]),
    ],
)
def test_we_read_what_they_wrote(tmp_path: Path, kind: str, pattern: str, flags: list[str]) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    np.savez(place / "pictures.npz", **pictures())
    wrote = ask("write", kind, place)
    pack(place / pattern, tmp_path / "out", *flags)
    found = of_examples(tmp_path / "out")
    if kind == "pandas":  # the table has no names
        wrote = [{**record, "key": f"p/{n:08d}"} for n, record in enumerate(wrote)]
    if kind == "tfds":  # which orders by a hash
        found = by_key(found)
    assert found == wrote
