"""A launch on Dataflow sends the right job, and a plan says the same without sending it."""

import json
from collections.abc import Callable

import pytest
from dataflow_jobs import IMAGE, JOBS
from dataflow_server import DataflowServer, hints_by_step, staged_graph
from gcs_server import GcsServer

from pipeline import cli

Command = Callable[..., list[str]]
SHARDS = {"segment": 6, "generate": 3}
DEVICE = "type:nvidia-l4;count:1;install-nvidia-driver"
ASKED = [
    *("--accelerator=nvidia-l4", "--min_ram=14GB", "--num_workers=1", "--network=n"),
    *("--subnetwork=regions/us-central1/subnetworks/s", "--no_use_public_ips"),
    *("--service_account_email=robot@p.iam.gserviceaccount.com", "--labels=team=maps"),
    *("--dataflow_service_options=enable_image_streaming", "--dataflow_kms_key=k"),
]


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
    assert (request.project, request.region) == ("test-project", "us-central1")
    assert request.job["type"] == 1  # batch
    assert request.job["labels"] == {
        "team": "maps",
        "pixelmill-job": job,
        "pixelmill-version": "0-1-0",
    }
    environment, pool, options = request.job["environment"], request.pool, request.options
    assert environment["serviceOptions"] == ["enable_image_streaming"]
    assert environment["serviceAccountEmail"] == "robot@p.iam.gserviceaccount.com"
    assert environment["serviceKmsKeyName"] == "k"
    assert {"no_use_multiple_sdk_containers", "use_runner_v2"} <= set(environment["experiments"])
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    assert pool["machineType"] == "g2-standard-4" and pool["diskSizeGb"] == 50
    assert pool["numWorkers"] == 1 and pool["numThreadsPerWorker"] == 2
    shards = SHARDS[job]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == -(-shards // 2)
    assert pool["network"] == "n" and pool["subnetwork"].endswith("/s")
    assert pool["ipConfiguration"] == 2  # WORKER_IP_PRIVATE
    assert {i["containerImage"] for i in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert {p["name"] for p in pool["packages"]} == {"submission_environment_dependencies.txt"}
    assert options["save_main_session"] is False
    assert options["element_processing_timeout_minutes"] >= 60
    assert options["accelerator"] == "nvidia-l4" and options["streaming"] is False
    # only the step with the model asks for the accelerator
    graph = staged_graph(there, request)
    assert hints_by_step(graph) == {
        "ProcessShards/Process": {
            "accelerator": DEVICE.encode(),
            "min_ram_bytes": str(14 * 10**9).encode(),
        }
    }
    assert len(pool["sdkHarnessContainerImages"]) == 2  # with and without
    (step,) = (
        t for t in graph.components.transforms.values() if t.unique_name == "ProcessShards/Process"
    )
    shown = b"".join(data.payload for data in step.display_data)
    assert b"gs://bucket/models/" in shown and b"gs://bucket/out" in shown
    # nothing is waited for, and the run can be followed from anywhere
    assert "launched: https://console.cloud.google.com/dataflow/jobs/us-central1/" in said
    assert there.names("out/") == [
        *(["out/legend.json"] if there.names("out/legend.json") else []),
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
    images = {"segment": 60, "generate": 20}[job]
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
