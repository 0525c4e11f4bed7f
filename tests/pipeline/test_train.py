"""`pixelmill train`: learns, exports what `segment` runs alike, resumes, and refuses."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support import real_data

from models.loading import import_tensorflow
from models.signatures import fingerprint
from pipeline import cli
from transforms.confusion import confusion_matrix, scores
from transforms.splits import is_validation

tf = import_tensorflow()

COLOURS = ((90, 90, 90), (220, 60, 40), (40, 80, 220))
SMALL = ["--depth", "1", "--width", "8", "--crop_px", "16", "--learning_rate", "0.02"]


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey ground with a red and a blue square: what a network of any size can learn."""
    rng = np.random.default_rng(number)
    mask = np.zeros((20, 28), np.uint8)
    for class_id in (1, 2):
        top, left = rng.integers(0, 12), rng.integers(0, 20)
        mask[top : top + 8, left : left + 8] = class_id
    mask[0] = 255  # unlabelled
    noise = rng.normal(0, 12, (*mask.shape, 3))
    pixels = np.asarray(COLOURS)[np.where(mask == 255, 0, mask)] + noise
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """TFRecord shards of 40 scenes with masks, made by `pixelmill pack`."""
    root = tmp_path_factory.mktemp("scenes")
    for number in range(40):
        for folder, pixels in zip(("images", "masks"), scene(number), strict=True):
            (root / "files" / folder).mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels).save(root / "files" / folder / f"s{number:02d}.png")
    pack = ["pack", "--input", str(root / "files"), "--output", str(root / "shards")]
    assert cli.main([*pack, "--images_per_shard", "14"]) == 0
    return str(root / "shards" / "images")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of pictures for each of two classes."""
    root = tmp_path_factory.mktemp("colours")
    for number in range(40):
        folder = root / ("red" if number % 2 else "blue")
        folder.mkdir(exist_ok=True)
        colour = COLOURS[1 if number % 2 else 2]
        noise = np.random.default_rng(number).normal(0, 20, (12, 10, 3))
        pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(root)


def train(kind: str, source: str, out: Path, *more: str) -> int:
    return cli.main(["train", kind, "--input", source, "--output", str(out), *more])


@pytest.fixture(scope="module")
def unet(scenes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unet") / "out"
    more = ["--classes", "ground,red,blue", "--epochs", "6", "--licence", "CC0-1.0"]
    assert train("segmenter", scenes, out, *SMALL, *more) == 0
    return out


def test_a_segmenter_learns(unet: Path) -> None:
    metrics = json.loads((unet / "metrics.json").read_bytes())
    assert metrics["mean_iou"] > 0.8
    assert [row["name"] for row in metrics["classes"]] == ["ground", "red", "blue"]
    assert metrics["examples"] == {"train": 33, "validation": 7}
    assert np.sum(metrics["confusion"]) == 7 * 19 * 28  # the first row is unlabelled
    assert (unet / "_SUCCESS").exists()
    rows = list(csv.DictReader((unet / "curves.csv").open()))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 7)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 2
    with Image.open(unet / "curves.png") as curves:
        assert curves.size[0] > 500 and len(curves.getcolors(1 << 24)) > 10


def test_a_linknet_learns(scenes: str, tmp_path: Path) -> None:
    more = ["--network", "linknet", "--epochs", "6", *SMALL]
    assert train("segmenter", scenes, tmp_path / "out", *more) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert metrics["mean_iou"] > 0.7
    assert len(list((tmp_path / "out" / "model").rglob("saved_model.pb"))) == 1


def test_the_card_says_what_the_model_is(unet: Path) -> None:
    card = (unet / "MODEL_CARD.md").read_text()
    for words in ("CC0-1.0", "ground, red, blue", "28x20 (33)", "| mean iou |", "33 examples"):
        assert words in card, words
    assert card == (unet / "model" / "assets.extra" / "MODEL_CARD.md").read_text()


def test_the_pipeline_gets_the_same_iou(unet: Path, scenes: str, tmp_path: Path) -> None:
    """Without a flag: the model brings its card."""
    files = Path(scenes).parents[1] / "files" / "images"
    arguments = ["--input", str(files), "--output", str(tmp_path / "out")]
    assert cli.main(["segment", *arguments, "--model", str(unet / "model")]) == 0
    total = np.zeros((3, 3), np.int64)
    for number in range(40):
        key = f"images/s{number:02d}.png"
        if is_validation(key, 0.2):
            truth = scene(number)[1]
            with Image.open(tmp_path / "out" / "masks" / f"s{number:02d}.png") as image:
                found = np.asarray(image)
            total += confusion_matrix(truth[truth != 255], found[truth != 255], 3)
    metrics = json.loads((unet / "metrics.json").read_bytes())
    assert total.tolist() == metrics["confusion"]
    assert scores(total).means["mean_iou"] == pytest.approx(metrics["mean_iou"], abs=1e-9)


def test_the_signature_of_encoded_pictures_gives_the_same_masks(
    unet: Path, scenes: str, tmp_path: Path
) -> None:
    masks = []
    for out, more in (
        ("pixels", []),
        ("encoded", ["--signature=encoded"]),
    ):
        arguments = ["--input", scenes, "--output", str(tmp_path / out), *more]
        assert cli.main(["segment", *arguments, "--model", str(unet / "model")]) == 0
        masks.append([p.read_bytes() for p in sorted((tmp_path / out / "masks").iterdir())])
    assert masks[0] == masks[1]


def test_inspect_needs_nothing_said(unet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(unet / "model")]) == 0
    said = capsys.readouterr().out
    assert "To run it:" in said and "--value_range" not in said
    assert "pixelmill generate" not in said  # three scores are not taken for colours
    assert "brings its own; an output sees 18 x 18 pixels" in said


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_weights(
    unet: Path, scenes: str, tmp_path: Path
) -> None:
    more = ["--classes", "ground,red,blue", "--epochs", "6", "--licence", "CC0-1.0"]
    assert train("segmenter", scenes, tmp_path / "again", *SMALL, *more) == 0
    for name in ("checkpoint.npz", "best.npz", "curves.csv", "metrics.json", "MODEL_CARD.md"):
        assert (tmp_path / "again" / name).read_bytes() == (unet / name).read_bytes(), name


def test_a_finished_training_is_left_as_it_is(
    unet: Path, scenes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a run that has begun with its model would be told that it is another."""
    before = fingerprint(str(unet))
    more = ["--classes", "ground,red,blue", "--epochs", "6", "--licence", "CC0-1.0"]
    assert train("segmenter", scenes, unet, *SMALL, *more) == 0
    assert f"this training is done: {unet / 'model'}" in capsys.readouterr().out
    assert fingerprint(str(unet)) == before


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_place(
    unet: Path, scenes: str, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pipeline.cli", "train", "segmenter", "--input", scenes]
    command += ["--output", str(out), *SMALL, "--classes", "ground,red,blue", "--epochs", "6"]
    command += ["--licence", "CC0-1.0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "checkpoint.npz").exists() and not (out / "_SUCCESS").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch" in done.stdout
    for name in ("checkpoint.npz", "best.npz", "curves.csv", "metrics.json"):
        assert (out / name).read_bytes() == (unet / name).read_bytes(), name


def test_another_configuration_is_refused(
    unet: Path, scenes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint(str(unet))
    assert train("segmenter", scenes, unet, *SMALL, "--classes", "ground,red,blue") == 2
    assert "settings.epochs: 6" in capsys.readouterr().err
    assert fingerprint(str(unet)) == before


def test_status_of_a_training(unet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(unet)]) == 0
    assert "train segmenter" in capsys.readouterr().out


def test_a_classifier_of_folders(
    colours: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--epochs", "4", "--depth", "1", "--width", "4", "--learning_rate", "0.01"]
    assert train("classifier", colours, tmp_path / "out", *more) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert metrics["accuracy"] == 1.0
    assert [row["name"] for row in metrics["classes"]] == ["blue", "red"]
    model = tf.saved_model.load(str(tmp_path / "out" / "model"))
    red = np.full((1, 30, 40, 3), COLOURS[1], np.uint8)
    answer = model.signatures["serving_default"](image=tf.constant(red))
    assert answer["logits"].numpy().argmax() == 1
    assert cli.main(["inspect", str(tmp_path / "out" / "model")]) == 0
    assert f"--verifier {tmp_path / 'out' / 'model'}" in capsys.readouterr().out
    assert not (tmp_path / "out" / "_tmp").exists()


def test_an_image_in_no_folder_has_no_class(
    colours: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(colours, tmp_path / "in")
    shutil.copy(tmp_path / "in" / "red" / "1.png", tmp_path / "in" / "stray.png")
    assert train("classifier", str(tmp_path / "in"), tmp_path / "out") == 2
    assert "stray.png lies in no folder" in capsys.readouterr().err


def test_the_ignore_id_may_be_0(tmp_path: Path) -> None:
    more = ["--epochs", "1", "--ignore_id", "0", "--classes", "void,red,blue"]
    files = tmp_path / "files"
    for number in range(12):
        pixels, mask = scene(number)
        mask[0] = 0
        for folder, content in (("images", pixels), ("masks", mask)):
            (files / folder).mkdir(exist_ok=True, parents=True)
            Image.fromarray(content).save(files / folder / f"s{number:02d}.png")
    assert train("segmenter", str(files), tmp_path / "out", *SMALL, *more) == 0
    confusion = json.loads((tmp_path / "out" / "metrics.json").read_bytes())["confusion"]
    assert sum(confusion[0]) == 0 and sum(confusion[1]) > 0


def test_half_precision_trains_and_exports_float32(scenes: str, tmp_path: Path) -> None:
    try:
        more = ["--epochs", "2", "--precision", "float16"]
        assert train("segmenter", scenes, tmp_path / "out", *SMALL, *more) == 0
    finally:
        keras.config.set_dtype_policy("float32")
    signature = tf.saved_model.load(str(tmp_path / "out" / "model")).signatures["serving_default"]
    assert signature.structured_outputs["logits"].dtype == tf.float32


def test_a_generator_of_labelled_shards(
    colours: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pictures are as large as the data's, in colour, and `generate` needs nothing said."""
    more = ["--epochs", "2", "--width", "4", "--batch_size", "16"]
    assert train("generator", colours, tmp_path / "out", *more) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert {row["name"] for row in metrics["classes"]} == {"blue", "red"}
    assert all(row["spread"] > 0 for row in metrics["classes"])
    assert cli.main(["inspect", str(tmp_path / "out" / "model")]) == 0
    said = capsys.readouterr().out
    assert "To run it:" in said and "pixelmill generate --per_class=100" in said
    made = ["generate", "--model", str(tmp_path / "out" / "model"), "--per_class", "3"]
    assert cli.main([*made, "--output_format=folder", "--output", str(tmp_path / "made")]) == 0
    for path in (tmp_path / "made" / "images").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (8, 12))


def test_examples_of_a_group_stay_together(scenes: str, tmp_path: Path) -> None:
    more = ["--epochs", "1", "--split_by", r"s(\d)", "--validation_fraction", "0.4"]
    assert train("segmenter", scenes, tmp_path / "out", *SMALL, *more) == 0
    examples = json.loads((tmp_path / "out" / "metrics.json").read_bytes())["examples"]
    assert examples["validation"] % 10 == 0
    assert "finds in their names" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("data", "kind", "more", "words"),
    [
        ("scenes", "segmenter", ["--classes", "ground,red"], "ids go from 0 to 1; there is 2 in"),
        ("scenes", "segmenter", ["--classes", "a,b,c,d"], "no training example shows d"),
        ("scenes", "segmenter", ["--ignore_id=-1", "--classes", "a,b,c"], "there is 255 in"),
        ("scenes", "segmenter", ["--crop_px", "100", "--depth", "3"], "no multiple of 8"),
        ("scenes", "segmenter", ["--mask_feature", "mask"], "the right one by --mask_feature"),
        ("scenes", "segmenter", ["--split_by", "("], "no regular expression"),
        ("scenes", "segmenter", ["--split_by", "x9"], "is not in the name"),
        ("scenes", "segmenter", ["--validation_fraction", "0"], "nothing is left to validate with"),
        ("scenes", "segmenter", ["--norm", "group", "--width", "12"], "no multiple of 8, which"),
        ("scenes", "segmenter", ["--norm", "group", "--network", "linknet"], "has batch norm"),
        ("scenes", "segmenter", ["--image_size", "8x8"], "no effect on a segmenter, only on a cl"),
        ("scenes", "classifier", [], "name the right one by --label_feature"),
        ("scenes", "classifier", ["--crop_px", "64"], "--crop_px has no effect on a classifier"),
        ("scenes", "generator", ["--patience", "3"], "--patience has no effect on a generator"),
        ("scenes", "generator", ["--precision", "float16"], "trained in float32"),
        ("colours", "classifier", ["--augment", "turn"], "12x10, --augment=turn needs a square"),
        ("colours", "generator", ["--augment", "turn"], "12x8, --augment=turn needs a square"),
        ("colours", "classifier", ["--depth", "4"], "12x10, --depth=4 needs sides of 16 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    data: str,
    kind: str,
    more: list[str],
    words: str,
) -> None:
    assert train(kind, request.getfixturevalue(data), tmp_path / "out", *more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(900)
def test_nuclei_are_learned_a_little(tmp_path: Path) -> None:
    """The beginning of the README's recipe, with a smaller network."""
    files = tmp_path / "files"
    files.mkdir()
    for folder in ("images", "masks"):
        (files / folder).mkdir()
        for path in sorted(Path(real_data(f"nuclei_dsb2018/{folder}")).iterdir())[:48]:
            (files / folder / path.name).write_bytes(path.read_bytes())
    more = ["--classes", "background,nucleus", "--epochs", "6", "--crop_px", "96", "--depth", "2"]
    assert train("segmenter", str(files), tmp_path / "out", *more, "--width", "8") == 0
    classes = json.loads((tmp_path / "out" / "metrics.json").read_bytes())["classes"]
    assert classes[1]["iou"] > 0.5
