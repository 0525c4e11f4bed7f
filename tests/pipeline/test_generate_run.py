"""Whole runs of `pixelmill generate`: pictures equal a plain loop, in every way of running it."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from support import content, real_data, run_apart

from models.binding import OtherInput
from models.latents import latent
from pipeline import cli, run_files
from transforms.formats.tfrecord import read_records

CLASSES = ("ant", "bee", "cow")
NOISE = OtherInput("noise", "float32", (16,), True, "latent")
Generate = Callable[..., int]


@pytest.fixture(scope="session")
def cgan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A conditional generator: noise float32 [N, 16], label int32 [N, 1] -> tanh [N, 12, 10, 3]."""

    class Network(tf.Module):
        def __init__(self) -> None:
            self.dense = tf.Variable(tf.random.stateless_normal([16, 360], seed=[1, 2]) * 0.2)
            self.classes = tf.Variable(tf.random.stateless_normal([3, 360], seed=[3, 4]))

        @tf.function
        def make(self, noise: Any, label: Any) -> Any:
            x = noise @ self.dense + tf.gather(self.classes, label[:, 0])
            return {"image": tf.tanh(tf.reshape(x, [-1, 12, 10, 3]))}

    network = Network()
    path = str(tmp_path_factory.mktemp("generators") / "cgan")
    signature = network.make.get_concrete_function(
        noise=tf.TensorSpec([None, 16], tf.float32, name="noise"),
        label=tf.TensorSpec([None, 1], tf.int32, name="label"),
    )
    tf.saved_model.save(network, path, signatures=signature)
    return path


@pytest.fixture
def generate(cgan: str) -> Generate:
    def run(out: str | Path, *more: str) -> int:
        known = [f"--classes={','.join(CLASSES)}", "--output_range=-1,1"]
        return cli.main(["generate", "--model", cgan, "--output", str(out), *known, *more])

    return run


def pictures(out: str | Path) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Pixels and numbers of all pictures in the shards of a run, by key."""
    found = {}
    for shard in sorted(Path(out).glob("images/*.tfrecord")):
        with shard.open("rb") as file:
            for data in read_records(file):
                features = tf.train.Example.FromString(data).features.feature
                key = features["image/filename"].bytes_list.value[0].decode()
                encoded = features["image/encoded"].bytes_list.value[0]
                numbers = {
                    name: feature.int64_list.value[0]
                    for name, feature in features.items()
                    if feature.int64_list.value
                }
                found[key] = (np.asarray(Image.open(io.BytesIO(encoded))), numbers)
    return found


def test_pictures_equal_a_plain_loop(generate: Generate, cgan: str, tmp_path: Path) -> None:
    arguments = ["--per_class=9", "--images_per_shard=10", "--seed=5", "--batch_size=4"]
    assert generate(tmp_path, *arguments) == 0
    make = tf.saved_model.load(cgan).signatures["serving_default"]
    found = pictures(tmp_path)
    assert len(found) == 27
    for key, (pixels, numbers) in found.items():
        item, label = numbers["image/generated/item"], numbers["image/class/label"]
        assert key == f"{CLASSES[label]}/{item:08d}"
        made = make(
            noise=latent(NOISE, 5, item, number=1)[np.newaxis],  # after label, by name
            label=np.array([[label]], np.int32),
        )["image"][0]
        expected = np.clip(np.round((made.numpy() + 1) * 127.5), 0, 255)
        assert np.abs(pixels - expected).max() <= 1
        assert np.mean(pixels != expected) < 1e-3
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["records"] == {
        "read": 27,
        "written": 27,
        "failed": 0,
        "failed_by_reason": {},
        "over_budget": False,
    }
    assert [row["images"] for row in metrics["metrics"]["labels"]] == [9, 9, 9]
    report = (tmp_path / run_files.REPORT).read_text()
    assert "Generation report" in report
    assert "cannot be shown" not in report


def test_nothing_depends_on_threads_order_or_restarts(generate: Generate, tmp_path: Path) -> None:
    arguments = ["--per_class=12", "--images_per_shard=8"]
    assert generate(tmp_path / "a", *arguments, "--threads=1") == 0
    assert generate(tmp_path / "b", *arguments, "--threads=3") == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")
    for name in ("00001", "00003"):  # as a kill would leave it
        (tmp_path / "b" / "metrics" / f"images-{name}-of-00005.json").unlink()
        (tmp_path / "b" / "images" / f"images-{name}-of-00005.tfrecord").unlink()
    assert generate(tmp_path / "b", *arguments, "--threads=2") == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.slow
def test_worker_processes_make_the_same_pictures(cgan: str, tmp_path: Path) -> None:
    common = ["generate", "--model", cgan, "--per_class=12", "--images_per_shard=8"]
    common += [f"--classes={','.join(CLASSES)}", "--output_range=-1,1"]
    processes = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    for name, more in (("one", []), ("two", processes)):
        done = run_apart([*common, "--output", str(tmp_path / name), *more])
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_another_batch_size_moves_pixels_by_rounding_only(
    generate: Generate, tmp_path: Path
) -> None:
    for size in (7, 64):
        assert generate(tmp_path / str(size), "--per_class=30", f"--batch_size={size}") == 0
    a, b = (pictures(tmp_path / str(size)) for size in (7, 64))
    assert a.keys() == b.keys()
    differ = total = 0
    for key, (pixels, numbers) in a.items():
        assert numbers == b[key][1]
        difference = np.abs(pixels.astype(int) - b[key][0])
        assert difference.max() <= 1
        differ, total = differ + np.count_nonzero(difference), total + difference.size
    assert differ <= 1e-4 * total


def test_another_seed_makes_other_pictures(generate: Generate, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        assert generate(tmp_path / seed, "--count=5", f"--seed={seed}") == 0
    a, b = (pictures(tmp_path / seed) for seed in ("1", "2"))
    assert a.keys() == b.keys()
    assert all(np.any(a[key][0] != b[key][0]) for key in a)


def test_a_folder_by_class(generate: Generate, tmp_path: Path) -> None:
    counts = tmp_path / "counts.yaml"
    counts.write_text("ant: 2\ncow: 3\n")
    out = tmp_path / "out"
    arguments = [
        f"--per_class={counts}",
        "--output_format=folder",
        "--image_format=jpeg",
        "--quality=80",
    ]
    assert generate(out, *arguments) == 0
    files = [path.relative_to(out / "images") for path in sorted(out.glob("images/*/*"))]
    assert Counter(path.parts[0] for path in files) == {"ant": 2, "cow": 3}
    assert {path.suffix for path in files} == {".jpeg"}
    rows = pq.read_table(out / "records").to_pylist()
    assert sorted(row["output_name"] for row in rows) == [str(p.with_suffix("")) for p in files]
    assert "cannot be shown" not in (out / run_files.REPORT).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to make"),
        (["--count=3", "--per_class=3"], "say what to make"),
        (["--count=3", "--input=photos"], "say what to make"),
        (["--per_class=bird"], "neither a number nor a file"),
        (["--per_class=0"], "--count or --per_class above 0"),
        (["--count=3", "--output_range=0,1"], "It looks like --output_range=-1,1"),
        (["--count=3", "--set=inputs.noise.size=[17]"], "does not take items of the size [17]"),
        (["--count=3", "--set=inputs.nose.role=latent"], "no input 'nose'"),
    ],
)
def test_bad_usage_is_refused(
    generate: Generate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert generate(tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_of_pictures_wants_pictures(
    tiny_model: str, photos: str, cgan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [f"--classes={','.join(CLASSES)}", "--output_range=-1,1", "--output", str(tmp_path)]
    assert cli.main(["generate", "--model", cgan, "--input", photos, *known]) == 2
    assert "takes no pictures; give --count or --per_class" in capsys.readouterr().err


# Pictures of pictures


@pytest.fixture(scope="session")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Turns pictures upside down in colour and doubles them: float32 in 0..1 to -1..1."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="image")])
    def double(image: Any) -> dict[str, Any]:
        return {"out": 1.0 - 2.0 * tf.repeat(tf.repeat(image, 2, axis=1), 2, axis=2)}

    path = str(tmp_path_factory.mktemp("generators") / "doubler")
    tf.saved_model.save(tf.Module(), path, signatures=double)
    return path


@pytest.mark.parametrize("packed_input", [False, True])
def test_pictures_of_pictures_equal_a_plain_loop(
    doubler: str, photos: str, packed: str, tmp_path: Path, packed_input: bool
) -> None:
    source = packed if packed_input else photos
    ranges = ["--value_range=0,1", "--output_range=-1,1"]
    arguments = ["--input", source, "--output", str(tmp_path), "--model", doubler, *ranges]
    assert cli.main(["generate", *arguments]) == 0
    images = sorted(Path(photos).glob("*/*"))
    made = {key: pixels for key, (pixels, _) in pictures(tmp_path).items()}
    for path in images:
        name = str(path.relative_to(photos))
        with Image.open(path) as image:
            expected = 255 - np.asarray(image.convert("RGB")).repeat(2, axis=0).repeat(2, axis=1)
        if packed_input:
            pixels = made[name]
        else:
            pixels = np.asarray(Image.open((tmp_path / "images" / name).with_suffix(".png")))
        np.testing.assert_array_equal(pixels, expected, err_msg=name)
    report = (tmp_path / run_files.REPORT).read_text()
    assert "cannot be shown" not in report
    assert cli.main(["verify", str(tmp_path)]) == 0


@pytest.mark.real_data
@pytest.mark.parametrize(("scale", "psnr"), [(2, 32.33), (3, 27.74), (4, 25.46)])
def test_super_resolution_reaches_its_numbers(tmp_path: Path, scale: int, psnr: float) -> None:
    """PSNR of the brightness without a border of 8 px, as its authors measure it."""
    with Image.open(f"{real_data('super_resolution')}/original.png") as image:
        width, height = (side // scale * scale for side in image.size)
        original = image.convert("RGB").crop((0, 0, width, height))
    (tmp_path / "small").mkdir()
    small = original.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    small.save(tmp_path / "small" / "original.png")
    model = f"{real_data('saved_models')}/fsrcnn_x{scale}_tf1"
    arguments = ["--channels=Y", "--value_range=0,1", "--output_range=0,1"]
    arguments += [f"--input={tmp_path}/small", f"--output={tmp_path}/out", f"--model={model}"]
    assert cli.main(["generate", *arguments]) == 0
    with Image.open(tmp_path / "out/images/original.png") as image:
        assert image.mode == "RGB"
        assert image.size == (width, height)
        made = np.asarray(image.convert("YCbCr"))[8:-8, 8:-8, 0].astype(float)
    truth = np.asarray(original.convert("YCbCr"))[8:-8, 8:-8, 0].astype(float)
    assert 10 * np.log10(255**2 / np.mean((made - truth) ** 2)) == pytest.approx(psnr, abs=0.06)
