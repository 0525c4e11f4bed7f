"""`pixelmill study`: its numbers are those of a plain Keras loop, it resumes, and it refuses."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from digits import split_digits, warped, write_labelled
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from models.networks.classifier import ClassifierConfig, build_classifier
from pipeline import cli
from transforms.inputs import cut
from transforms.listing import list_input

SMALL = ["--augment", "none", "--epochs", "2", "--batch_size", "8", "--depth", "1", "--width", "4"]
TWO = ["--seeds", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zeros and ones: 6 real ones of each, 18 made of them, and 60 to test with."""
    root = tmp_path_factory.mktemp("sets")
    real, labels, test, test_labels = split_digits(6)
    two, two_test = labels < 2, np.flatnonzero(test_labels < 2)[:60]
    rng = np.random.default_rng(0)
    made = np.stack([warped(picture, rng) for picture in real[two] for _ in range(3)])
    write_labelled(root / "real", real[two], labels[two])
    write_labelled(root / "made", made, np.repeat(labels[two], 3))
    write_labelled(root / "test", test[two_test], test_labels[two_test])
    return root


def command(sets: Path, out: Path, *more: str) -> list[str]:
    places = ["--real", str(sets / "real"), "--augmented", str(sets / "made")]
    places += ["--test", str(sets / "test"), "--output", str(out)]
    return ["study", "classifier", *places, *SMALL, *(more or TWO)]


@pytest.fixture(scope="module")
def done(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    assert cli.main(command(sets, out)) == 0
    return out


def study_of(out: Path) -> dict:
    return json.loads((out / "study.json").read_bytes())


def test_all_is_there(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(done)
    assert study["examples"] == {"real": 12, "augmented": 36, "test": 60}
    assert study["seeds"] == [3, 4] and study["steps"] == 2 * 6  # 48 pictures by 8, for every arm
    assert study["answer"] in ("helps", "harms", "no difference shown")
    assert "Does augmented data help?" in (done / "report.html").read_text()
    assert len(list((done / "trainings").iterdir())) == 6 and (done / "_SUCCESS").exists()
    assert cli.main(["status", str(done)]) == 0
    assert "complete\n  trainings  6 done" in capsys.readouterr().out
    assert cli.main(["verify", str(done)]) == 2
    assert "is of a study" in capsys.readouterr().err


def test_the_numbers_are_those_of_a_plain_loop(sets: Path, done: Path) -> None:
    """Of Keras, NumPy and scikit-learn; not one function of pixelmill but the network's."""

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        (shard,) = cut(list_input(str(sets / name)), 256).shards  # in what order files come
        pictures, labels = [], []
        for file in shard.files:
            with Image.open(Path(shard.root) / file.path) as image:
                pictures.append(np.asarray(image.convert("RGB"), np.float32))
            labels.append(["one", "zero"].index(Path(file.path).parent.name))
        return np.stack(pictures), np.asarray(labels)

    x, y = read("real")
    keras.utils.set_random_seed(4)
    network = build_classifier(ClassifierConfig(2, (8, 8), depth=1, width=4))
    network = keras.Model(network.input, network.output["logits"])
    steps, warmup = 12, 6
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, steps - warmup, warmup_target=2e-3, warmup_steps=warmup
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=1.0), loss)
    for epoch in range(2):
        order = np.arange(len(x))
        np.random.default_rng([4, epoch]).shuffle(order)
        order = np.tile(order, 4)  # 48 examples, as the arm with most has
        for step in range(6):
            some = order[8 * step : 8 * step + 8]
            network.train_on_batch(x[some], y[some])
    x, y = read("test")
    logits = network.predict(x, verbose=0)
    found = logits.argmax(-1)
    row = json.loads((done / "trainings" / "real-4.json").read_bytes())
    margins = np.sort(logits, axis=-1)
    assert (margins[:, -1] - margins[:, -2]).min() > 1e-4  # else rounding might decide
    assert row["test"] == confusion_matrix(y, found).tolist()
    numbers = study_of(done)["arms"]["real"]
    assert numbers["accuracy"]["by_seed"][1] == pytest.approx(accuracy_score(y, found), abs=1e-12)
    f1 = f1_score(y, found, average="macro")
    assert numbers["mean_f1"]["by_seed"][1] == pytest.approx(f1, abs=1e-12)


def test_it_goes_on_with_what_is_missing(
    sets: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the network that had been compiled for an arm is another, as after a kill."""
    out = tmp_path / "out"
    shutil.copytree(done, out)
    for name in ("_SUCCESS", "study.json", "report.html", "trainings/augmented-4.json"):
        (out / name).unlink()
    kept = {path: path.read_bytes() for path in (out / "trainings").iterdir()}
    assert cli.main(command(sets, out)) == 0
    assert "5 of 6 trainings are done already\n6/6  augmented alone" in capsys.readouterr().out
    assert (out / "study.json").read_bytes() == (done / "study.json").read_bytes()
    assert {path: path.read_bytes() for path in kept} == kept
    assert cli.main(command(sets, out, "--seed", "3", "--seeds", "2", "--epochs", "3")) == 2
    assert "settings.epochs: 2 in" in capsys.readouterr().err


def test_a_damaged_training_is_told(
    sets: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / "trainings" / "real-3.json").write_text("{")
    assert cli.main(command(sets, out)) == 2
    assert "delete it to train that anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (None, ["--seeds", "1"], "an interval needs at least 2"),
        (None, ["--crop_px", "8"], "--crop_px has no effect on a classifier"),
        ("no_ones", [], "--real alone cannot be trained with: no training example shows one"),
        ("a_seven", [], "the folder 'seven' is none of"),
        ("empty_test", [], "holds 0 files, but no images"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    sets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str | None,
    more: list[str],
    words: str,
) -> None:
    root = tmp_path / "sets"
    shutil.copytree(sets, root)
    if change == "no_ones":
        shutil.rmtree(root / "real" / "one")
        more = ["--classes", "one,zero"]
    elif change == "a_seven":
        (root / "test" / "zero").rename(root / "test" / "seven")
    elif change == "empty_test":
        shutil.rmtree(root / "test")
        (root / "test").mkdir()
    assert cli.main(command(root, tmp_path / "out", *TWO, *more)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rare_classes_alone_and_pictures_seen_before(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More of one class cannot be trained with alone; a test picture trained with is told."""
    root = tmp_path / "sets"
    shutil.copytree(sets, root)
    shutil.rmtree(root / "made" / "one")
    known = next((root / "real" / "zero").iterdir())
    shutil.copy(known, root / "test" / "zero" / "again.png")
    assert cli.main(command(root, tmp_path / "out", *TWO, "--epochs", "1")) == 0
    said = capsys.readouterr().out
    assert "no training with augmented alone: no training example shows one" in said
    assert "1 test pictures are also trained with, pixel by pixel" in said
    study = study_of(tmp_path / "out")
    assert list(study["arms"]) == ["real", "real_and_augmented"] and study["gan_train"] is None
    twice = [["zero/again.png", "real", f"zero/{known.name}"]]
    assert study["test_pictures_trained_with"] == twice


@pytest.mark.slow
@pytest.mark.parametrize("network", ["unet", "linknet"])
def test_a_segmenter(tmp_path: Path, network: str) -> None:
    """Bright squares on a dark ground; the made pictures have masks of another place."""
    rng = np.random.default_rng(0)
    for name, count in (("real", 6), ("made", 6), ("test", 4)):
        for number in range(count):
            mask = np.zeros((32, 32), np.uint8)
            top, left = rng.integers(0, 18, 2)
            mask[top : top + 14, left : left + 14] = 1
            pixels = np.clip(40 + 160 * mask + rng.normal(0, 10, mask.shape), 0, 255)
            shown = 1 - mask if name == "made" else mask
            for folder, content in (("images", pixels.astype(np.uint8)), ("masks", shown)):
                path = tmp_path / name / folder / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)
    more = [
        "--network",
        network,
        "--crop_px",
        "16",
        "--epochs",
        "2",
        "--batch_size",
        "4",
        "--depth",
        "1",
    ]
    more += ["--width", "4", "--learning_rate", "0.02", "--augment", "none", "--seeds", "2"]
    places = ["--real", str(tmp_path / "real"), "--augmented", str(tmp_path / "made")]
    places += ["--test", str(tmp_path / "test"), "--output", str(tmp_path / "out")]
    assert cli.main(["study", "segmenter", *places, *more]) == 0
    study = study_of(tmp_path / "out")
    assert study["metric"] == "mean_iou" and study["steps"] == 24  # four squares of each picture
    means = {arm: found["mean_iou"]["mean"] for arm, found in study["arms"].items()}
    assert means["real"] > 0.9 and means["augmented"] < 0.1
    assert study["gan_test"]["mean_iou"]["mean"] < 0.1


@pytest.mark.slow
def test_killed_and_started_again_it_ends_alike(sets: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "pipeline.cli", *command(sets, out)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen(arguments, **quiet)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("3/6"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "study.json").exists()
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "trainings are done already" in ended.stdout
    assert (out / "study.json").read_bytes() == (done / "study.json").read_bytes()
