"""What stands in deploy/ is understood by those who are to run it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import dataflow_v1beta3
from google.protobuf import json_format

from pipeline import command_line
from pipeline.dataflow import flex

DEPLOY = Path(__file__).parents[1] / "deploy"
COMMAND = ["augment", "/etc/pixelmill/nightly.yaml", "--keep", "7"]

# Run by an interpreter that has Airflow, in a process of its own.
_IMPORT_DAGS = """
import json, sys
from airflow.providers.apache.beam.hooks.beam import beam_options_to_args
import importlib.util
spec = importlib.util.spec_from_file_location("dags", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from airflow.sdk import DAG
dags = {}
import gc
for dag in [each for each in gc.get_objects() if isinstance(each, DAG)]:
    (task,) = dag.tasks
    dags[dag.dag_id] = {
        "kind": type(task).__name__,
        "templated": list(task.template_fields),
        "schedule": dag.schedule,
        "body": getattr(task, "body", None),
    }
    if hasattr(task, "py_file"):
        args = beam_options_to_args(task.pipeline_options)
        dags[dag.dag_id]["command"] = [
            task.py_interpreter, *task.py_options, task.py_file, f"--runner={task.runner}", *args]
print("DAGS" + json.dumps(dags))
"""


def parsed(arguments: list[str]) -> tuple[object, list[str]]:
    return command_line.parser().parse_known_args(arguments)


def launch(fields: dict[str, object]) -> dataflow_v1beta3.LaunchFlexTemplateRequest:
    """Google's own message of a launch body; unknown fields and wrong types raise."""
    request = dataflow_v1beta3.LaunchFlexTemplateRequest()
    json_format.ParseDict(fields, request._pb)
    return request


def check_parameters(request: dataflow_v1beta3.LaunchFlexTemplateRequest) -> None:
    parameters = dict(request.launch_parameter.parameters)
    assert request.launch_parameter.container_spec_gcs_path.endswith("/augment.json")
    known, rest = parsed(flex.line_of([f"--{k}={v}" for k, v in parameters.items()]))
    assert rest == [f"--sdk_container_image={parameters['sdk_container_image']}"]
    assert known.keep == 7 and known.recipe.endswith(".yaml")  # type: ignore[attr-defined]


def test_cron_runs_the_command_once_a_night() -> None:
    lines = (DEPLOY / "cron/pixelmill").read_text().splitlines()
    (job,) = [line for line in lines if line and not line.startswith("#") and "=" not in line[:8]]
    fields = job.split(maxsplit=6)
    minute, hour, *days = fields[:5]
    assert 0 <= int(minute) < 60 and 0 <= int(hour) < 24 and days == ["*", "*", "*"]
    user, command = fields[5:]
    assert user == "pixelmill" and "%" not in command  # cron's end of a line
    said, busy = command.split(" >>")
    assert shlex.split(said) == ["pixelmill", *COMMAND]
    check = f"(exit $CODE) {busy[busy.index('||') :]}"
    for code, expected in ((0, 0), (75, 0), (1, 1), (3, 1)):
        found = subprocess.run(["sh", "-c", check], env={"CODE": str(code)}, check=False)
        assert found.returncode == expected


def test_systemd_runs_the_command(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd/pixelmill-augment.service").read_text()
    command = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)[0].split()
    assert command[1:] == COMMAND
    assert parsed(command[1:])[1] == []
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd-analyze")
    for name in ("pixelmill-augment.service", "pixelmill-augment.timer"):
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace(command[0], "/bin/true"))
    verify = [analyze, "verify", *map(str, sorted(tmp_path.iterdir()))]
    found = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "pixelmill" not in found.stderr, found.stderr
    when = re.findall(r"^OnCalendar=(.*)$", (tmp_path / name).read_text(), re.MULTILINE)[0]
    subprocess.run([analyze, "calendar", when], check=True, capture_output=True)


def test_the_launch_body_is_googles() -> None:
    body = json.loads((DEPLOY / "cloud_scheduler/launch.json").read_text())
    check_parameters(launch(body))
    with pytest.raises(json_format.ParseError):
        launch({"launchParameter": {"jobname": "x"}})


@pytest.mark.slow
def test_airflow_imports_the_dags(tmp_path: Path) -> None:
    """With the real packages; PIXELMILL_AIRFLOW_PYTHON names an interpreter that has them.

    `pip install apache-airflow==3.3.2 apache-airflow-providers-apache-beam==6.3.1
    apache-airflow-providers-google==22.8.0` takes two minutes of CPU, six on a busy machine, so
    the test does not do it.
    """
    python = os.environ.get("PIXELMILL_AIRFLOW_PYTHON")
    if not python:
        pytest.skip("PIXELMILL_AIRFLOW_PYTHON names no interpreter with Airflow")
    dag_file = str(DEPLOY / "airflow/pixelmill_augment.py")
    found = subprocess.run(
        [python, "-c", _IMPORT_DAGS, dag_file],
        capture_output=True,
        text=True,
        check=False,
        env={"AIRFLOW_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )
    assert found.returncode == 0, found.stderr[-3000:]
    dags = json.loads(found.stdout.rpartition("DAGS")[2])
    local, remote = dags["pixelmill_augment"], dags["pixelmill_augment_dataflow"]
    assert local["kind"] == "BeamRunPythonPipelineOperator"
    assert remote["kind"] == "DataflowStartFlexTemplateOperator"
    assert local["schedule"] == remote["schedule"] == "10 2 * * *"
    command = [each.replace("{{ ds }}", "2026-11-25") for each in local["command"]]
    assert command[:3] == ["python3", "-m", "pipeline.cli"]
    known, rest = parsed(command[3:])
    assert known.date == "2026-11-25" and rest == ["--runner=DirectRunner"]  # type: ignore[attr-defined]
    assert "body" in remote["templated"] and "pipeline_options" in local["templated"]
    body = json.loads(json.dumps(remote["body"]).replace("{{ ds }}", "2026-11-25"))
    check_parameters(launch(body))


def test_this_file_can_be_read_without_airflow() -> None:
    compile((DEPLOY / "airflow/pixelmill_augment.py").read_text(), "dags", "exec")
    assert "airflow" not in sys.modules
