"""Wrong set-ups are refused before anything is launched or written, and the fix is named."""

import base64
import dataclasses
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from dataflow_server import DataflowServer
from gcs_server import GcsServer

from pipeline import cli, engine
from pipeline.dataflow.preflight import check
from transforms import segment
from transforms.inputs import plan_input
from transforms.sink import Sink

Command = Callable[..., list[str]]

GPU = "--dataflow_service_options=worker_accelerator=type:nvidia-tesla-t4;count:1"
DRIVER = "install-nvidia-driver"
MPS = "use_nvidia_mps"

# What is appended to a command that can be launched, and what the message must say.
CASES: dict[str, tuple[list[str], str]] = {
    "a missing bucket": (["--output=gs://bukcet/out"], "bucket does not exist"),
    "a missing bucket of input": (["--input=gs://bukcet/x"], "cannot read gs://bukcet/x"),
    "a wrong signature": (["--signature=predict"], "serving_default(image: uint8[N,N,N,3])"),
    "a wrong feature": (["--image_feature=image"], "got 0; the example has image/encoded"),
    "no project": (["--project="], "--project is missing"),
    "a project's name": (["--project=My project"], "give the id"),
    "no region": (["--region="], "such as --region=us-central1"),
    "nowhere to stage": (["--temp_location="], "--temp_location=gs://"),
    "local staging": (["--temp_location=/tmp/x"], "is not on gs://"),
    "a streaming job": (["--streaming"], "leave it out"),
    "FlexRS with hints": (
        ["--flexrs_goal=COST_OPTIMIZED", "--min_ram=16GB"],
        "leave out --flexrs_goal, or the hints",
    ),
    "two ways to an accelerator": ([f"{GPU};{DRIVER}", "--accelerator=nvidia-l4"], "keep --acc"),
    "a hint on every step": (
        ["--resource_hints=accelerator=type:nvidia-l4;count:1"],
        "give --accelerator, which is for the one step",
    ),
    "sharing a GPU by one process": (
        [f"{GPU};{DRIVER};{MPS}", "--experiments=no_use_multiple_sdk_containers"],
        "leave out either",
    ),
    "sharing two GPUs": ([f"{GPU.replace('count:1', 'count:2')};{DRIVER};{MPS}"], "give count:1"),
    "an L4 in a wrong machine": (
        ["--accelerator=nvidia-l4", "--machine_type=n1-standard-8"],
        "give --machine_type=g2-standard-4",
    ),
    "a GPU without its driver": ([GPU], "append ;install-nvidia-driver"),
    "an unknown GPU": (["--accelerator=nvidia-l5"], "expected one of nvidia-l4"),
    "an image without CUDA": (
        ["--accelerator=nvidia-l4", "--sdk_container_image=", "--setup_file=./setup.py"],
        "need an image with CUDA",
    ),
    "workers without pixelmill": (["--sdk_container_image="], "workers would not have pixelmill"),
    "a wrong name of setup.py": (["--setup_file=x.py"], "of the name setup.py"),
    "more threads than memory": (
        ["--number_of_worker_harness_threads=32", "--machine_type=n1-standard-4"],
        "one model serves all threads",
    ),
    "more workers than the most": (["--num_workers=9", "--max_num_workers=3"], "raise the latter"),
    "the main session": (["--save_main_session"], "leave it out"),
    "template and job file": (
        ["--template_location=gs://bucket/t", "--dataflow_job_file=job.json"],
        "exclude each other",
    ),
    "a local flag": (["--direct_num_workers=4"], "give --max_num_workers"),
    "local input": (["--input={photos}"], "copy it to gs://"),
    "a local output": (["--output={tmp}/out"], "give a gs:// folder"),
    "a local model": (["--model={model}", "--sdk_container_image=", "--setup_file=setup.py"],
                      "copy it to gs://, or bake it into"),
    "another run": (["--output=gs://bucket/other"], "Choose another --output"),
    "too large a graph": (["--classes={long},b,c,d,e"], "binding of SegmentOp"),
    "data that the flags do not fit": (["--max_pixels=100"], "images failed here"),
    "no prices": (["--prices=gs://bucket/none.yaml"], "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused(
    case: str,
    command: Command,
    dataflow: DataflowServer,
    there: GcsServer,
    photos: str,
    tiny_model: str,
    tmp_path: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there.put("other/run.json", b'{"format": 1, "job": "pack", "identity": {}, "notes": {}}')
    before = there.names()
    long = base64.b64encode(random.Random(0).randbytes(4_500_000)).decode()
    names = {"{long}": long} if case == "too large a graph" else {}
    names |= {"{photos}": photos, "{tmp}": str(tmp_path), "{model}": tiny_model}
    more, message = CASES[case]
    for name, value in names.items():
        more = [flag.replace(name, value) for flag in more]
    assert cli.main(["plan", *command("segment", *more)]) == 2
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert message in said, said[-2000:]
    assert "Traceback" not in said
    assert dataflow.requests == [] and there.names() == before


def test_a_launch_is_refused_as_its_plan_is(
    command: Command,
    dataflow: DataflowServer,
    there: GcsServer,
    photos: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = there.names()
    assert cli.main(command("segment", f"--input={photos}")) == 2
    assert "PROBLEM  input: workers cannot read" in capsys.readouterr().out
    assert dataflow.requests == [] and there.names() == before


def test_all_contradictions_are_told_at_once_and_to_programs(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", *command("segment", "--streaming", "--region=", "--json")]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert "--streaming" in told["problems"][0] and "--region" in told["problems"][0]


def test_accelerators_are_refused_where_nobody_takes_them(
    photos: str, tiny_model: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", photos, "--model", tiny_model, "--output", str(tmp_path / "out")]
    assert cli.main(["segment", *arguments, "--accelerator=nvidia-l4"]) == 2
    assert "only Dataflow takes it" in capsys.readouterr().err
    assert cli.main(["segment", *arguments, "--json"]) == 2
    assert cli.main(["plan", "status", "x"]) == 2
    assert "one of segment, generate" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class Odd:
    """An operator with a field that no other process can have."""

    sink: Sink
    frames: Any

    def open(self) -> Any:
        raise AssertionError("it is not to be tried")


def test_work_that_cannot_be_pickled_is_named(photos: str, tmp_path: Any) -> None:
    sink = Sink(str(tmp_path / "out"), "masks", "folder", segment.COLUMNS)
    options = engine.pipeline_options([])
    found = check("segment", plan_input(photos), Odd(sink, (n for n in range(3))), 0.1, options)
    (problem,) = found.problems
    assert "frames of Odd cannot be pickled" in problem and "in open()" in problem
    assert not found.ok and not (tmp_path / "out").exists()
