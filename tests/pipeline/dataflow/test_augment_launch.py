"""`pixelmill augment` on Dataflow: the right job, launched once, and published when it is done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dataflow_jobs import ASKED, IMAGE, RECIPE, check_request
from dataflow_server import DataflowServer, staged_graph
from gcs_server import GcsServer

from pipeline import cli, run_files

Night = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def night(
    dataflow: DataflowServer,
    there: GcsServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Night:
    """A scheduled run of a recipe: exit code, and the line of JSON that it ends with."""

    def run(*more: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        (recipe := tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | fields))
        image = f"--sdk_container_image={IMAGE}"
        code = cli.main(["augment", str(recipe), *dataflow.flags, image, *more])
        said = capsys.readouterr()
        print(said.out, said.err)  # for who reads of a failure
        return code, json.loads(said.out.splitlines()[-1])

    return run


def intents(there: GcsServer) -> list[str]:
    """The partitions that were begun."""
    return [name for name in there.names("out/") if name.endswith(f"/{run_files.RUN}")]


def test_the_job_request_is_right_and_nothing_is_published(
    night: Night, dataflow: DataflowServer, there: GcsServer
) -> None:
    code, said = night(*ASKED)
    assert (code, said["status"]) == (0, "launched")
    (request,) = dataflow.requests
    check_request(request, there, "augment", 6)
    assert len(intents(there)) == 1
    assert "out/latest.list" not in there.names("out/")


def test_while_the_job_is_at_work_the_next_run_waits_for_it(
    night: Night, dataflow: DataflowServer, there: GcsServer
) -> None:
    """It must not take the launch for a failure, and delete what the job is writing."""
    night()
    before = there.names("out/")
    code, said = night()
    assert (code, said["status"]) == (0, "launched")
    assert len(dataflow.requests) == 1 and len(intents(there)) == 1
    assert set(before) <= set(there.names("out/"))


def test_what_cannot_be_launched_is_an_error_and_leaves_the_next_run_free(
    night: Night, dataflow: DataflowServer
) -> None:
    prices = "--prices=/no/such/prices.yaml"
    code, said = night(prices)
    assert (code, said["status"]) == (2, "error")
    assert "cannot be launched" in said["reasons"][0] and dataflow.requests == []
    code, said = night()
    assert (code, said["status"]) == (0, "launched") and len(dataflow.requests) == 1


def test_validation_shards_are_described_by_a_job_before(
    night: Night, dataflow: DataflowServer, there: GcsServer
) -> None:
    """That job is waited for; here it ends without having done anything, so no other follows."""
    code, said = night(filter={"validation": ["gs://bucket/labels/*.tfrecord"]})
    (request,) = dataflow.requests
    assert request.job["labels"]["pixelmill-job"] == "describe"
    steps = staged_graph(there, request).components.transforms.values()
    shown = b"".join(data.payload for step in steps for data in step.display_data)
    assert b"/reference" in shown
    assert code != 0 and said["status"] in ("failed", "error")


def test_a_template_is_not_made_of_the_job_before(
    night: Night, dataflow: DataflowServer, there: GcsServer
) -> None:
    """A launcher would start that one, and the recipe's never."""
    template = "--template_location=gs://bucket/staged/job"
    code, said = night(template, filter={"validation": ["gs://bucket/labels/*.tfrecord"]})
    assert (code, said["status"]) == (2, "error")
    assert "a template launches one job" in said["reasons"][0]
    assert dataflow.requests == [] and not there.names("staged/")
    code, said = night(template)
    assert (code, said["status"]) == (0, "launched")
    assert dataflow.requests == [] and there.names("staged/")
