"""What was staged for Dataflow is run here, as a worker would: from the staged package alone."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dataflow_jobs import JOBS, RECIPE
from dataflow_server import DataflowServer, Request, clean_environment, run_staged, staged_graph
from gcs_server import GcsServer
from support import content

from pipeline import cli

pytestmark = pytest.mark.slow
Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environment is made, by the first package that is staged."""
    return tmp_path_factory.mktemp("worker")


def run_on_workers(request: Request, there: GcsServer, made: Path, tmp_path: Path) -> None:
    """Runs what was staged, by two processes of an environment of the staged package."""
    packages = {p["name"]: p["location"] for p in request.pool["packages"]}
    staged = packages["workflow.tar.gz"].removeprefix("storage.googleapis.com/bucket/")
    python = made / "env" / "bin" / "python"
    if not python.exists():
        clean_environment(made, there.get(staged))
    worker = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    graph = staged_graph(there, request).SerializeToString()
    state, package = run_staged(python, graph, tmp_path, worker)
    assert state == "DONE" and Path(package).is_relative_to(made / "env")


@pytest.mark.parametrize("job", JOBS)
def test_the_staged_job_gives_what_a_local_run_gives(
    job: str,
    command: Command,
    checkout: Path,
    made: Path,
    dataflow: DataflowServer,
    there: GcsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(checkout)  # as a user would be; Beam leaves files beside setup.py
    launch = command(job, "--setup_file=./setup.py", "--min_ram=8GB", image="")
    assert cli.main(launch) == 0
    (request,) = dataflow.requests
    run_on_workers(request, there, made, tmp_path)
    processes = {
        line.split('"process": ')[1].split(",")[0]
        for name in there.names("out/metrics/")
        for line in there.get(name).decode().splitlines()
        if '"process": ' in line
    }
    assert len(processes) == 2, "one worker did all shards"
    assert cli.main(["verify", "gs://bucket/out"]) == 0
    copy = there.download("out", tmp_path / "copy")
    local = [job, *JOBS[job], f"--output={tmp_path / 'usual'}"]
    assert cli.main(local) == 0
    assert content(copy, places=False) == content(tmp_path / "usual", places=False)


def test_what_staged_workers_augment_is_published_by_the_next_run(
    checkout: Path,
    made: Path,
    dataflow: DataflowServer,
    there: GcsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkout)
    (recipe := tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    launch = ["augment", str(recipe), *dataflow.flags, "--setup_file=./setup.py"]
    assert cli.main(launch) == 0
    (request,) = dataflow.requests
    run_on_workers(request, there, made, tmp_path)
    dataflow.active.clear()
    capsys.readouterr()
    assert cli.main(launch) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["status"], said["live"]) == ("published", 6)
    assert len(dataflow.requests) == 1, "it was launched again"
    local = tmp_path / "local"
    recipe.write_text(yaml.safe_dump(RECIPE | {"publish": str(local)}))
    assert cli.main(["augment", str(recipe)]) == 0
    expected = examples(local)
    assert len(expected) == 6
    assert examples(there.download("out", tmp_path / "copy")) == expected


def examples(place: Path) -> dict[str, bytes]:
    """The shards of all partitions, by name."""
    return {path.name: path.read_bytes() for path in place.glob("dt=*/run=*/images/*.tfrecord")}
