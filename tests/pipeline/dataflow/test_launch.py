"""A launch on Dataflow sends the right job, and a plan says the same without sending it."""

import json
from collections.abc import Callable

import pytest
from dataflow_jobs import ASKED, JOBS, check_request
from dataflow_server import DataflowServer
from gcs_server import GcsServer

from pipeline import cli

Command = Callable[..., list[str]]
SHARDS = {"segment": 6, "generate": 3, "evaluate": 6}


@pytest.mark.parametrize("job", JOBS)
def test_the_job_request_has_all_that_was_asked_and_what_is_right(
    job: str,
    command: Command,
    dataflow: DataflowServer,
    there: GcsServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(command(job, *ASKED)) == 0
    said = capsys.readouterr().out
    (request,) = dataflow.requests
    shards = SHARDS[job]
    check_request(request, there, job, shards)
    # nothing is waited for, and the run can be followed from anywhere
    assert "launched: https://console.cloud.google.com/dataflow/jobs/us-central1/" in said
    assert there.names("out/") == [
        "out/legend.json",
        *(["out/partners.jsonl"] if job == "evaluate" else []),
        "out/plan.jsonl",
        "out/run.json",
    ]
    assert cli.main(["status", "gs://bucket/out"]) == 0
    assert f"0 of {shards} committed" in capsys.readouterr().out


@pytest.mark.parametrize("job", JOBS)
def test_a_plan_says_what_a_launch_would_do_and_launches_nothing(
    job: str,
    command: Command,
    dataflow: DataflowServer,
    there: GcsServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = there.names()
    rate = "--worker_images_per_s=0.01"
    assert cli.main(["plan", *command(job, "--json", rate, "--max_num_workers=2")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["ok"] and plan["job"] == job and plan["runner"] == "DataflowRunner"
    assert plan["model"]["failed"] == 0 and plan["model"]["images"] > 0
    assert plan["model"]["model_s"] > 0
    assert 10_000 < plan["graph_bytes"] < 200_000
    images = {"segment": 60, "generate": 20, "evaluate": 60}[job]
    assert plan["inputs"]["shards"] == SHARDS[job] and plan["inputs"]["committed"] == 0
    assert abs(plan["inputs"]["images"] - images) < 0.2 * images
    assert plan["options"]["max_num_workers"] == 2
    made = plan["estimate"]
    hours = plan["inputs"]["images"] / 0.01 / 3600
    assert made["worker_hours"] == pytest.approx(hours + 2 * 5 / 60)
    # 4 vCPUs, 16 GB of memory and 50 GB of disk for an hour
    an_hour = 4 * 0.056 + 16 * 0.003557 + 50 * 0.000054
    assert made["workers_usd"] == pytest.approx(made["worker_hours"] * an_hour)
    assert dataflow.requests == [] and there.names() == before


def test_a_launch_that_waits_ends_as_its_job_does(
    command: Command,
    dataflow: DataflowServer,
    there: GcsServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataflow.states = ["JOB_STATE_CANCELLED"]
    assert cli.main(command("segment", "--wait")) == 1
    assert "it ended in state CANCELLED" in capsys.readouterr().err
    assert there.names("out/run.json") and not there.names("out/_tmp/")


def test_the_name_of_the_job_is_that_of_its_run(
    command: Command, dataflow: DataflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """So Dataflow refuses a second job on a run while one is active."""
    assert cli.main(command("segment")) == 0
    assert cli.main(command("segment")) == 1
    assert "already active job named pixelmill-segment-" in capsys.readouterr().err
    assert len(dataflow.requests) == 1


def test_a_retry_and_a_run_anew_have_all_shards_to_do(
    command: Command,
    dataflow: DataflowServer,
    there: GcsServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Their commit records are there, but of a retry any may list what has failed."""
    damaged = there.names("packed/")[0]
    there.put(damaged, there.get(damaged)[:-2500])
    assert cli.main(["segment", *JOBS["segment"], "--output=gs://bucket/out"]) == 1
    for flag, committed in (("--overwrite", 0), ("--retry_failed", 6)):
        capsys.readouterr()
        assert cli.main(["plan", *command("segment", flag, "--json")]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["inputs"]["committed"], plan["todo"]) == (committed, 6)
        assert plan["options"]["max_num_workers"] == 3
        assert ("of a retry" in " ".join(plan["warnings"])) is (flag == "--retry_failed")
    assert cli.main(command("segment", "--retry_failed")) == 0
    (request,) = dataflow.requests
    assert request.pool["autoscalingSettings"]["maxNumWorkers"] == 3
