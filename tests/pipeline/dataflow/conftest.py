"""Fixtures for launches on Dataflow: buckets full of input, and commands that would run on it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dataflow_jobs import IMAGE, JOBS
from dataflow_server import DataflowServer
from gcs_server import GcsServer

from pipeline import cli

ROOT = Path(__file__).parents[3]
Command = Callable[..., list[str]]


@pytest.fixture(scope="session")
def masks(packed: str, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Masks of the packed pictures, in shards of the same names."""
    out = tmp_path_factory.mktemp("labels") / "out"
    arguments = [f"--input={packed}", f"--output={out}", f"--model={tiny_model}"]
    assert cli.main(["segment", *arguments]) == 0
    return f"{out}/masks"


@pytest.fixture
def there(
    dataflow: DataflowServer, gcs: GcsServer, packed: str, masks: str, tiny_model: str
) -> GcsServer:
    """The bucket with models and input."""
    gcs.upload(packed, "packed")
    gcs.upload(masks, "labels")
    gcs.upload(tiny_model, "models/tiny")
    gcs.upload(ROOT / "models" / "shipped" / "digits_generator", "models/digits")
    return gcs


@pytest.fixture
def command(there: GcsServer, dataflow: DataflowServer) -> Command:
    """The command line of a job on Dataflow, with what is appended to it."""

    def make(job: str, *more: str, image: str = IMAGE) -> list[str]:
        usual = [f"--sdk_container_image={image}"] if image else []
        return [job, *JOBS[job], "--output=gs://bucket/out", *dataflow.flags, *usual, *more]

    return make


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, for --setup_file writes beside it."""
    copy = tmp_path_factory.mktemp("checkout") / "project"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "tests", "demo_out", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy
