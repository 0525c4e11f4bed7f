"""Exports, opened by those whose forms they are; for CVAT by the rules that it documents, and by
datumaro, of which it has a fork."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from support import Segment

from models.errors import UserError
from pipeline import cli
from pipeline.exports.coco import panoptic_rgb, run_lengths
from pipeline.exports.cvat import cvat
from pipeline.exports.samples import Class, Source
from pipeline.exports.target import Target

FORMATS = ("hf_imagefolder", "coco_panoptic", "coco_rle", "cvat", "croissant")
IMAGES = 60
CONSUMERS = ("datasets==5.2.0", "mlcroissant==1.1.1")
DATUMARO = "datumaro==1.13.12"


@pytest.fixture(scope="module")
def runs(
    tiny_model: str, photos: str, packed: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run over files and one over shards."""
    root = tmp_path_factory.mktemp("runs")
    for name, source in (("files", photos), ("shards", packed)):
        arguments = ["--input", source, "--output", f"{root}/{name}", "--model", tiny_model]
        assert cli.main(["segment", *arguments]) == 0
    return root


def _export(run: Path, out: Path, form: str) -> Path:
    assert cli.main(["export", "--format", form, str(run), str(out)]) == 0
    return out


def _mask(run: Path, name: str) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(run / "masks" / f"{name}.png"))


@pytest.mark.parametrize(
    ("name", "form"), [*(("files", form) for form in FORMATS), ("shards", "hf_imagefolder")]
)
def test_every_image_and_nothing_else(runs: Path, tmp_path: Path, name: str, form: str) -> None:
    out = _export(runs / name, tmp_path / "out", form)
    images = [path for path in (out / "images").rglob("*") if path.is_file()]
    assert len(images) == IMAGES
    assert not list(out.glob("_tmp")) and not list(out.glob("**/.*"))
    again = _export(runs / name, tmp_path / "again", form)
    for path in out.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(out)).read_bytes()


def test_never_replaces(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(["export", "--format", "cvat", str(runs / "files"), str(tmp_path)]) == 2
    assert "is not empty (there is mine.txt)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_pycocotools_sees_the_same_masks(runs: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    out = _export(runs / "files", tmp_path / "out", "coco_rle")
    coco = COCO(str(out / "annotations.json"))
    assert len(coco.imgs) == IMAGES
    for number, image in coco.imgs.items():
        seen = np.full((image["height"], image["width"]), 255, np.uint8)
        for note in coco.imgToAnns[number]:
            inside = coco.annToMask(note) == 1
            assert inside.sum() == note["area"]
            seen[inside] = note["category_id"]
        np.testing.assert_array_equal(
            seen, _mask(runs / "files", Path(image["file_name"]).with_suffix("").as_posix())
        )
        with Image.open(out / "images" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])


def test_panoptic_pngs_follow_the_definition(runs: Path, tmp_path: Path) -> None:
    out = _export(runs / "files", tmp_path / "out", "coco_panoptic")
    found = json.loads((out / "panoptic.json").read_bytes())
    assert len(found["images"]) == len(found["annotations"]) == IMAGES
    categories = {row["id"] for row in found["categories"]}
    for note in found["annotations"]:
        rgb = np.asarray(Image.open(out / "panoptic" / note["file_name"])).astype(np.int64)
        ids = rgb @ [1, 256, 65536]  # panopticapi.utils.rgb2id
        assert set(np.unique(ids)) - {0} == {s["id"] for s in note["segments_info"]}
        for segment in note["segments_info"]:
            inside = ids == segment["id"]
            x, y, width, height = segment["bbox"]
            assert segment["category_id"] in categories
            assert inside.sum() == segment["area"] == inside[y : y + height, x : x + width].sum()
        mask = _mask(runs / "files", note["file_name"].removesuffix(".png"))
        np.testing.assert_array_equal(ids - 1, mask)


def test_cvat_finds_what_its_importer_looks_for(runs: Path, tmp_path: Path) -> None:
    out = _export(runs / "files", tmp_path / "out", "cvat")
    with zipfile.ZipFile(out / "segmentation_mask.zip") as archive:
        lines = archive.read("labelmap.txt").decode().splitlines()
        colors = {}
        for line in lines[1:]:
            name, rgb, parts, actions = line.split(":")
            assert parts == actions == ""
            colors[tuple(map(int, rgb.split(",")))] = name
        assert len(colors) == len(lines) - 1 and (0, 0, 0) in colors
        names = archive.read("ImageSets/Segmentation/default.txt").decode().split("\n")[:-1]
        assert len(names) == len(set(names)) == IMAGES
        for name in names:
            pixels = np.asarray(
                Image.open(io.BytesIO(archive.read(f"SegmentationClass/{name}.png")))
            )
            assert {tuple(rgb) for rgb in pixels.reshape(-1, 3).tolist()} <= set(colors)
            assert pixels.shape[:2] == _mask(runs / "files", name).shape


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "a:b"}, "cannot stand in CVAT's labelmap.txt"),
        ({"name": "#a"}, "cannot stand in CVAT's labelmap.txt"),
        ({"name": " #a"}, "cannot stand in CVAT's labelmap.txt"),
        ({"name": "class 2"}, "two classes are named 'class 2'"),
        ({"color": "#000000"}, "CVAT tells classes by colour"),
    ],
)
def test_what_cvat_cannot_express_is_refused(
    runs: Path,
    tmp_path: Path,
    change: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    legend = runs / "files" / "legend.json"
    before = legend.read_bytes()
    fields = json.loads(before)
    fields["classes"][1] |= change
    legend.write_text(json.dumps(fields))
    try:
        code = cli.main(["export", "--format", "cvat", str(runs / "files"), str(tmp_path / "out")])
    finally:
        legend.write_bytes(before)
    assert code == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_masks_of_another_size_are_refused(
    segment: Segment, photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--mask_size", "model", "--image_size", "16x16")
    assert segment(photos, tmp_path / "run", *more) == 0
    arguments = ["--format", "coco_rle", str(tmp_path / "run"), str(tmp_path / "out")]
    assert cli.main(["export", *arguments]) == 2
    assert "--mask_size=image" in capsys.readouterr().err
    assert not (tmp_path / "out" / "annotations.json").exists()


@pytest.mark.parametrize("pattern", ["records/*.parquet", "legend.json"])
def test_a_file_of_the_run_that_was_cut_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pattern: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "files", run)
    cut = next(run.glob(pattern))
    cut.write_bytes(cut.read_bytes()[:100])
    assert cli.main(["export", "--format", "coco_rle", str(run), str(tmp_path / "out")]) == 2
    assert f"{cut} cannot be read" in capsys.readouterr().err


def test_other_runs_are_refused(
    packed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(Path(packed).parent)
    assert cli.main(["export", "--format", "cvat", run, str(tmp_path / "a")]) == 2
    assert "of job 'pack' without masks" in capsys.readouterr().err
    assert cli.main(["export", "--format", "cvat", str(tmp_path), str(tmp_path / "a")]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_background_that_is_not_black_is_refused_for_cvat(tmp_path: Path) -> None:
    classes = (Class(0, "background", (255, 255, 255)), Class(1, "cat", (200, 0, 0)))
    with pytest.raises(UserError, match="give 'background' the colour #000000"):
        cvat(Source("nowhere", "segment", {}, classes, 255), Target(str(tmp_path / "out")))


def test_an_image_that_cvat_would_not_list_is_refused(
    segment: Segment, photos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Path(photos) / "left", tmp_path / "in" / "#1")
    assert segment(str(tmp_path / "in"), tmp_path / "run") == 0
    arguments = ["--format", "cvat", str(tmp_path / "run"), str(tmp_path / "out")]
    assert cli.main(["export", *arguments]) == 2
    assert "cannot stand in CVAT's list of images" in capsys.readouterr().err
    assert not (tmp_path / "out" / "segmentation_mask.zip").exists()


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_are_those_of_pycocotools(inside: npt.NDArray[np.bool_]) -> None:
    from pycocotools import mask as rle

    size = list(inside.shape)
    found = rle.frPyObjects({"size": size, "counts": run_lengths(inside)}, *size)
    np.testing.assert_array_equal(rle.decode(found), inside)
    assert found["counts"] == rle.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"]


@given(arrays(np.uint32, (3, 4), elements=st.integers(0, 2**24 - 1)))
def test_panoptic_colours_hold_the_id(ids: npt.NDArray[np.uint32]) -> None:
    rgb = panoptic_rgb(ids).astype(np.int64)
    np.testing.assert_array_equal(rgb @ [1, 256, 65536], ids)


_READ = """
import json, sys
import numpy as np
import datasets, mlcroissant
folder, crumbs = sys.argv[1:]
rows = datasets.load_dataset("imagefolder", data_dir=folder, split="train")
features = {name: type(feature).__name__ for name, feature in rows.features.items()}
masks = {row["key"]: np.asarray(row["mask"]).tolist() for row in rows}
sizes = all(row["image"].size == row["mask"].size for row in rows)
found = mlcroissant.Dataset(jsonld=crumbs)
records = [
    {name.split("/")[-1]: value for name, value in record.items()}
    for record in found.records("examples")
]
issues = [str(i) for i in found.metadata.ctx.issues.errors]
print(json.dumps([features, masks, sizes, [str(r) for r in records], issues]))
"""


def _environment_of(path: Path, *packages: str) -> Path:
    """Python of a new environment with these packages; skips the test where there are none."""
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    python = path / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-compile", *packages]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"{' and '.join(packages)} cannot be installed: {installed.stderr[-300:]}")
    return python


def _said_by(python: Path, code: str, *arguments: Path, **environment: str) -> Any:
    """What the last line of the code's output says, in JSON."""
    command = [str(python), "-c", code, *map(str, arguments)]
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return json.loads(said.stdout.splitlines()[-1])


@pytest.mark.slow
def test_datasets_and_mlcroissant_open_them(runs: Path, tmp_path: Path) -> None:
    python = _environment_of(tmp_path / "environment", *CONSUMERS, "pillow")
    folder = _export(runs / "shards", tmp_path / "hf", "hf_imagefolder")
    crumbs = _export(runs / "files", tmp_path / "crumbs", "croissant")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    said = _said_by(python, _READ, folder, crumbs / "croissant.json", **offline)
    features, masks, sizes, records, issues = said
    assert features["image"] == features["mask"] == "Image"
    assert len(masks) == len(records) == IMAGES and sizes and issues == []
    for key, mask in masks.items():
        expected = _mask(runs / "files", Path(key).with_suffix("").as_posix())
        np.testing.assert_array_equal(np.asarray(mask), expected)


_READ_CVAT = """
import json, sys
import numpy as np
import datumaro
found = datumaro.Dataset.import_from(sys.argv[1], "voc_segmentation")
names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
items = {}
for item in found:
    assert {a.type for a in item.annotations} <= {datumaro.AnnotationType.mask}
    items[item.id] = [(names[a.label], np.asarray(a.image, int).tolist()) for a in item.annotations]
print(json.dumps([names, items]))
"""


@pytest.mark.slow
def test_datumaro_sees_the_same_masks(runs: Path, tmp_path: Path) -> None:
    python = _environment_of(tmp_path / "environment", DATUMARO)
    out = _export(runs / "files", tmp_path / "out", "cvat")
    with zipfile.ZipFile(out / "segmentation_mask.zip") as archive:
        archive.extractall(tmp_path / "zip")
    names, items = _said_by(python, _READ_CVAT, tmp_path / "zip")
    legend = json.loads((runs / "files" / "legend.json").read_bytes())
    id_of = {row["name"]: row["id"] for row in legend["classes"]}
    assert set(id_of) <= set(names) and len(items) == IMAGES
    for key, masks in items.items():
        mask = _mask(runs / "files", key)
        assert sorted(id_of[name] for name, _ in masks) == np.unique(mask).tolist()
        for name, inside in masks:
            np.testing.assert_array_equal(np.asarray(inside, bool), mask == id_of[name])
