"""The jobs that tests launch on Dataflow, and what must be in their requests.

A new command is a new line.
"""

from dataflow_server import Request, hints_by_step, staged_graph
from gcs_server import GcsServer

IMAGE = "gcr.io/project/pixelmill:1"
JOBS = {
    "segment": ["--input=gs://bucket/packed", "--model=gs://bucket/models/tiny"],
    "generate": ["--per_class=2", "--model=gs://bucket/models/digits", "--images_per_shard=8"],
    "evaluate": [
        *("--input=gs://bucket/packed", "--labels=gs://bucket/labels"),
        *("--model=gs://bucket/models/tiny", "--classes=a,b,c,d,e"),
    ],
}
RECIPE = {
    "source": "gs://bucket/packed/*.tfrecord",
    "publish": "gs://bucket/out",
    "seed": 7,
    "pseudo_label": {"model": "gs://bucket/models/tiny", "min_confidence": 0.0},
    "steps": [{"step": "flip"}, {"step": "noise"}],
}
DEVICE = "type:nvidia-l4;count:1;install-nvidia-driver"
ASKED = [
    *("--accelerator=nvidia-l4", "--min_ram=14GB", "--num_workers=1", "--network=n"),
    *("--subnetwork=regions/us-central1/subnetworks/s", "--no_use_public_ips"),
    *("--service_account_email=robot@p.iam.gserviceaccount.com", "--label=team=maps"),
    *("--dataflow_service_options=enable_image_streaming", "--dataflow_kms_key=k"),
]


def check_request(request: Request, there: GcsServer, job: str, shards: int) -> None:
    """Asserts that a request has all that was ASKED, and what is right otherwise."""
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
    assert b"gs://bucket/out" in shown
    if job in ("segment", "generate"):  # whose operator itself has a model
        assert b"gs://bucket/models/" in shown
