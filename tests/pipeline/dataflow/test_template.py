"""Flex Templates: Google's own messages take them, and every parameter reaches the job."""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3 import types
from google.protobuf import json_format

from pipeline import augment_job, cli, command_line, evaluate_job, generate_job, jobs, pack_job
from pipeline.dataflow import flex, template

IMAGE = "us-docker.pkg.dev/project/images/pixelmill:1"
JOBS = command_line.JOBS
# A value that is no default, for flags whose type asks for more than a number or a word.
VALUES = {
    "output": "gs://bucket/out",
    "max_failed_fraction": "0.25",
    "threshold": "0.25",
    "validation_fraction": "0.25",
    "min_confidence": "0.25",
    "batch_timeout_s": "12.5",
    "worker_images_per_s": "12.5",
    "value_range": "-1,1",
    "output_range": "-1,1",
    "mean": "1,2,3",
    "std": "1,2,3",
    "image_size": "64x96",
    "retry_failed": "timeout",
    "set": "input.fit=pad;output.void_id=255",
    "near_bits": "5",
    "quality": "50",
    "seed": "7",
    "ignore_ids": "7,9",
    "class_map": "7=0,8=1",
    "prediction_class_map": "7=0,8=1",
    "boundary": "0.03",
    "tile_px": "64x96",
    "overlap_px": "8",
    "tta": "flips+turns",
    "fail_if": "miou<0.5;miou<0.6",
    "since": "2026-11-25",
    "date": "2026-11-25",
    "lease_s": "70",
}


def parse(kind: Any, fields: Mapping[str, Any]) -> Any:
    """Fields as a message of Google's; raises ParseError for what it does not have."""
    return json_format.Parse(json.dumps(fields), kind.pb(kind()))


def value_of(parameter: Mapping[str, Any]) -> str:
    name = parameter["name"]
    match parameter["paramType"]:
        case "BOOLEAN":
            return "true"
        case "ENUM":
            return str(parameter["enumOptions"][-1]["value"])
        case "NUMBER":
            return "7"
    return VALUES.get(name, "7" if parameter.get("regexes") else "words")


def launched(body: Mapping[str, Any]) -> list[str]:
    """What the launcher calls its program with: every parameter as --name=value."""
    parameters = body["launchParameter"]["parameters"]
    return [f"--{name}={value}" for name, value in parameters.items()]


def body_of(job: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """A request to launch a template."""
    return {
        "launchParameter": {
            "jobName": f"pixelmill-{job}",
            "containerSpecGcsPath": f"gs://bucket/templates/{job}.json",
            "parameters": {"job": job, **parameters},
            "environment": {
                "tempLocation": "gs://bucket/tmp",
                "maxWorkers": 50,
                "machineType": "g2-standard-8",
                "serviceAccountEmail": "worker@project.iam.gserviceaccount.com",
                "subnetwork": "regions/us-central1/subnetworks/private",
                "ipConfiguration": "WORKER_IP_PRIVATE",
                "launcherMachineType": "n1-standard-2",
            },
        }
    }


@pytest.mark.parametrize("job", JOBS)
def test_googles_messages_take_the_template_and_its_launch(job: str) -> None:
    spec = template.container_spec(job, IMAGE)
    found = parse(types.ContainerSpec, spec)
    assert len(found.metadata.parameters) == len(spec["metadata"]["parameters"]) > 5
    runtime = {"sdkInfo": spec["sdkInfo"], "parameters": spec["metadata"]["parameters"]}
    assert parse(types.RuntimeMetadata, runtime).parameters == found.metadata.parameters
    values = {p["name"]: value_of(p) for p in spec["metadata"]["parameters"]}
    launch = parse(types.LaunchFlexTemplateRequest, body_of(job, values))
    where = "recipe" if job == "augment" else "output"
    assert launch.launch_parameter.parameters[where] == values[where]
    with pytest.raises(json_format.ParseError, match="helptext"):
        parse(types.ParameterMetadata, {"helptext": "a typing mistake is found"})


@pytest.mark.parametrize("job", JOBS)
def test_a_parameter_is_what_its_flag_is(job: str) -> None:
    """Names once each, all flags there, required ones required, and patterns that fit."""
    made = {p["name"]: p for p in template.metadata(job)["parameters"]}
    assert len(made) == len(template.metadata(job)["parameters"])
    actions = flex.parameters(job)
    assert made.keys() == {"job", *actions, *template._BEAM}
    for name, action in actions.items():
        parameter = made[name]
        assert parameter["isOptional"] is not action.required
        assert parameter["helpText"] and "%(" not in parameter["helpText"]
        for pattern in parameter.get("regexes", ()):
            assert re.fullmatch(pattern, value_of(parameter)), name
            default = parameter.get("defaultValue")
            assert default is None or re.fullmatch(pattern, default), name


@pytest.mark.parametrize("kind", template._CHECKED, ids=lambda kind: kind.__name__)
def test_patterns_take_what_flags_take(kind: Any) -> None:
    """What a form refuses, the flag refuses; the flag may refuse more."""
    pattern = template._CHECKED[kind][1]
    for text in ("1", "0", "007", "12", "auto", "64x96", "64X96", "0x1", "-1", "1.5", "x", ""):
        try:
            kind(text)
        except argparse.ArgumentTypeError:
            continue
        assert re.fullmatch(pattern, text), text
    assert not re.fullmatch(pattern, "many")


@pytest.mark.parametrize("job", JOBS)
def test_every_parameter_reaches_the_job(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the launcher's arguments through the command line to what the job is called with."""
    called: list[tuple[argparse.Namespace, list[str]]] = []

    def run(parsed: argparse.Namespace, beam_flags: list[str]) -> int:
        called.append((parsed, beam_flags))
        return 0

    for module, name in (
        *((jobs, "segment"), (generate_job, "generate"), (pack_job, "pack")),
        *((evaluate_job, "evaluate"), (augment_job, "augment")),
    ):
        monkeypatch.setattr(module, f"run_{name}", run)
    monkeypatch.setattr("transforms.storage.use_no_auth", lambda: None)
    values = {p["name"]: value_of(p) for p in template.metadata(job)["parameters"]}
    del values["job"]
    options = ["--runner=DataflowRunner", "--template_location=gs://bucket/staging/job_object"]
    assert flex.main([*options, *launched(body_of(job, values))]) == 0
    ((parsed, beam_flags),) = called
    for name, action in flex.parameters(job).items():
        found = getattr(parsed, action.dest)
        assert found != action.default, name
        if flex.is_switch(action):
            assert found is True, name
        elif flex.is_repeated(action):
            assert len(found) == 2, name
        else:
            expected = action.type(values[name]) if callable(action.type) else values[name]
            assert found == expected, name
    beam = [f"--{name}={values[name]}" for name in template._BEAM]
    assert {*options, *beam} <= set(beam_flags)


def test_what_is_left_blank_or_false_is_no_flag() -> None:
    line = flex.line_of(
        ["--job=segment", "--input=a", "--overwrite=false", "--xla=TRUE", "--model_card="]
    )
    assert line == ["segment", "--input=a", "--xla"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--input=a"], "parameter job: got None, expected one of segment, generate"),
        (["--job=train"], "parameter job: got 'train'"),
        (["--job=segment", "--xla=yes"], "parameter xla: got 'yes', expected true or false"),
        (["--job=generate", "--reference=gs://b/real"], "a template cannot take it"),
    ],
)
def test_wrong_parameters(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flex.main(arguments) == cli.CANNOT_START
    assert message in capsys.readouterr().err


def test_templates_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert template.main(["--image", IMAGE, "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.glob("*.json")} == {f"{job}.json" for job in JOBS}
    for job in JOBS:
        spec = json.loads((tmp_path / f"{job}.json").read_bytes())
        assert spec == template.container_spec(job, IMAGE)
    assert template.main(["--image", IMAGE.partition(":")[0], "--output", str(tmp_path)]) == 2
    assert "expected HOST/NAME:TAG" in capsys.readouterr().err


def test_every_command_that_runs_a_pipeline_has_a_template() -> None:
    """Beam's flags, such as --accelerator, are of no other."""
    (commands,) = (a for a in command_line.parser()._actions if isinstance(a.choices, dict))
    assert isinstance(commands.choices, dict)
    takers = {
        name for name, parser in commands.choices.items() if "--accelerator" in parser.format_help()
    }
    assert takers == set(JOBS)


def test_a_reference_is_left_out_where_it_takes_a_job_before() -> None:
    """Of `evaluate` it is a run that has ended."""
    assert "reference" in flex.parameters("evaluate")
    assert "reference" not in flex.parameters("generate")
    line = ["--job=evaluate", "--reference=gs://b/old"]
    assert flex.line_of(line) == ["evaluate", "--reference=gs://b/old"]


def test_the_launch_in_the_docs_is_one_that_works() -> None:
    page = (Path(__file__).parents[3] / "docs" / "dataflow.md").read_text()
    (body,) = re.findall(r"^```json\n(.+?)^```", page, re.MULTILINE | re.DOTALL)
    parse(types.LaunchFlexTemplateRequest, json.loads(body))
    line = flex.line_of(launched(json.loads(body)))
    _, rest = command_line.parser().parse_known_args(line)
    assert {option.partition("=")[0].removeprefix("--") for option in rest} <= set(template._BEAM)
    commands = re.findall(r"--parameters[= ]['\"]?(\S+?)['\"]?(?: |$)", page, re.MULTILINE)
    assert commands
    for given in commands:
        names = {part.partition("=")[0] for part in re.sub(r"^\^~\^", "", given).split("~")}
        job = re.search(r"job=(\w+)", given)
        assert job is not None
        made = {p["name"] for p in template.metadata(job[1])["parameters"]}
        assert names <= made, names - made
