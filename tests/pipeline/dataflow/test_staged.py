"""What was staged for Dataflow is run here, as a worker would: from the staged package alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dataflow_jobs import JOBS
from dataflow_server import DataflowServer, clean_environment, run_staged, staged_graph
from gcs_server import GcsServer
from support import content

from pipeline import cli

pytestmark = pytest.mark.slow
Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environment is made, by the first package that is staged."""
    return tmp_path_factory.mktemp("worker")


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
    packages = {p["name"]: p["location"] for p in request.pool["packages"]}
    staged = packages["workflow.tar.gz"].removeprefix("storage.googleapis.com/bucket/")
    python = made / "env" / "bin" / "python"
    if not python.exists():
        clean_environment(made, there.get(staged))
    worker = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    graph = staged_graph(there, request).SerializeToString()
    state, package = run_staged(python, graph, tmp_path, worker)
    assert state == "DONE" and Path(package).is_relative_to(made / "env")
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
