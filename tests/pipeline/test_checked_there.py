"""Checked generation with models, training images and OUT on gs:// equals the local one."""

from pathlib import Path

import blobs
import pytest
from gcs_server import GcsServer
from support import content

from pipeline import cli


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Models, and training images as files by class."""
    found = {
        "generator": blobs.export_generator(tmp_path / "generator", "ignores_label"),
        "classifier": blobs.export_classifier(tmp_path / "classifier"),
        "training": str(tmp_path / "made" / "images"),
    }
    good = blobs.export_generator(tmp_path / "good", "good")
    more = ["--per_class=12", "--seed=4", "--output_format=folder", f"--output={tmp_path / 'made'}"]
    assert cli.main(["generate", f"--model={good}", *_known(), *more]) == 0
    return found


def _known() -> list[str]:
    return ["--output_range=0,255", f"--classes={','.join(blobs.CLASSES)}"]


def _arguments(folders: dict[str, str], out: str) -> list[str]:
    return [
        *["generate", f"--model={folders['generator']}", *_known(), f"--output={out}"],
        *[f"--verifier={folders['classifier']}", f"--reference={folders['training']}"],
        *["--accept=agree", "--drop=copies,duplicates", "--max_attempts=40"],
        *["--per_class=10", "--images_per_shard=20"],
    ]


def test_all_of_it_there(gcs: GcsServer, folders: dict[str, str], tmp_path: Path) -> None:
    assert cli.main(_arguments(folders, str(tmp_path / "usual"))) == 0
    for name, folder in folders.items():
        # a shard of files is named after their folder
        gcs.upload(folder, f"{name}/images" if name == "training" else name)
    there = {name: f"gs://bucket/{name}" for name in folders} | {
        "training": "gs://bucket/training/images"
    }
    assert cli.main(_arguments(there, "gs://bucket/out")) == 0
    copy = gcs.download("out", tmp_path / "copy")
    assert content(copy, places=False) == content(tmp_path / "usual", places=False)
    assert cli.main(["verify", "gs://bucket/out"]) == 0
    assert cli.main(_arguments(there, "gs://bucket/out")) == 0  # nothing is left to do
