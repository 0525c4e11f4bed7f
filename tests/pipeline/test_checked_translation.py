"""Pictures of pictures are looked at too: labels come from the input, nothing is drawn again."""

import json
from pathlib import Path
from typing import Any

import blobs
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from pipeline import cli, run_files

COUNT = 24


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """Labelled blobs in shards; every third has the label of its neighbour."""
    from transforms.formats.tfrecord import write_record

    model = blobs.export_generator(tmp_path / "good", "good")
    make = tf.saved_model.load(model).signatures["serving_default"]
    labels = np.arange(COUNT) % 4
    noise = np.random.default_rng(0).normal(size=(COUNT, blobs.NOISE)).astype(np.float32)
    images = make(noise=tf.constant(noise), label=tf.constant(labels, tf.int32))["image"].numpy()
    path = tmp_path / "shards" / "blobs-00000-of-00001.tfrecord"
    path.parent.mkdir()
    with path.open("wb") as file:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            example = tf.train.Example()
            features = example.features.feature
            png = tf.io.encode_png(np.round(image).astype(np.uint8)).numpy()
            features["image/encoded"].bytes_list.value.append(png)
            features["image/filename"].bytes_list.value.append(f"{index}".encode())
            said = (label + 1) % 4 if index % 3 == 0 else label
            features["image/class/label"].int64_list.value.append(int(said))
            write_record(file, example.SerializeToString())
    return str(path.parent)


@pytest.fixture
def doubler(tmp_path: Path) -> str:
    def double(image: Any) -> dict[str, Any]:
        return {"image": tf.repeat(tf.repeat(image, 2, axis=1), 2, axis=2)}

    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")
    path = str(tmp_path / "doubler")
    tf.saved_model.save(tf.Module(), path, signatures=tf.function(double, [spec]))
    return path


def test_the_verifier_compares_with_the_label_of_the_input(
    shards: str, doubler: str, tmp_path: Path
) -> None:
    verifier = blobs.export_classifier(tmp_path / "classifier", None)
    arguments = ["generate", f"--model={doubler}", f"--input={shards}", f"--verifier={verifier}"]
    arguments += [f"--reference={shards}"]
    assert cli.main([*arguments, f"--output={tmp_path / 'all'}"]) == 0
    rows = pq.read_table(tmp_path / "all" / "records").to_pylist()
    assert [row["agrees"] for row in rows] == [index % 3 != 0 for index in range(COUNT)]
    card = json.loads((tmp_path / "all" / "metrics.json").read_text())["scorecard"]
    assert card["confusion"]["accuracy"] == 2 / 3
    assert card["reference"]["distances"]["all"]["frechet"] < 1  # the same, but larger
    assert {row["features"]["image/height"][0] for row in rows} == {32}
    assert cli.main([*arguments, "--accept=agree", f"--output={tmp_path / 'agree'}"]) == 1
    rows = pq.read_table(tmp_path / "agree" / "records").to_pylist()
    assert [row["reason"] for row in rows] == [
        "rejected" if index % 3 == 0 else None for index in range(COUNT)
    ]
    report = (tmp_path / "agree" / run_files.REPORT).read_text()
    assert "cannot be shown" not in report
    assert "Scorecard" in report


def test_nothing_is_drawn_again(
    shards: str, doubler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["generate", f"--model={doubler}", f"--input={shards}", f"--output={out}"]
    assert cli.main([*arguments, "--max_attempts=3"]) == 2
    assert "--max_attempts has no effect" in capsys.readouterr().err
    assert not out.exists()


def test_files_are_labelled_by_their_folders(shards: str, tmp_path: Path) -> None:
    """Of a reference."""
    folder = tmp_path / "files"
    generator = blobs.export_generator(tmp_path / "g", "good")
    classes = f"--classes={','.join(blobs.CLASSES)}"
    common = ["generate", f"--model={generator}", "--output_range=0,255", classes]
    common += [f"--verifier={blobs.export_classifier(tmp_path / 'classifier')}"]
    assert (
        cli.main([*common, "--per_class=12", "--output_format=folder", f"--output={folder}"]) == 0
    )
    assert len(list((folder / "images" / "north_west").iterdir())) == 12
    with Image.open(folder / "images" / "north_west" / "00000000.png") as image:
        assert "trainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
    more = ["--per_class=12", "--seed=3", f"--reference={folder / 'images'}"]
    assert cli.main([*common, *more, f"--output={tmp_path / 'out'}"]) == 0
    card = json.loads((tmp_path / "out" / "metrics.json").read_text())["scorecard"]
    assert card["reference"]["verifier"]["n"] == 48
    assert card["reference"]["verifier"]["accuracy"] == 1
    assert set(card["reference"]["distances"]["classes"]) == {"0", "1", "2", "3"}
