"""The files of the Flex Templates, one for each job, made of the flags of the command line.

    python -m pipeline.dataflow.template --image REGION-docker.pkg.dev/P/R/pixelmill:1 --output gs://B/T

writes T/segment.json and so on: which container is started, and the metadata of its parameters,
as messages ContainerSpec and TemplateMetadata of Google's API have them.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from models.errors import UserError
from pipeline import command_line
from pipeline.dataflow.flex import (
    JOB,
    SEPARATOR,
    is_repeated,
    is_switch,
    job_parsers,
    parameters,
)
from pipeline.flag_values import positive, positive_or_auto, size, whole
from transforms import paths, storage

# Types of flags that a form can look at before a launcher is started: (kind, regular expression).
_CHECKED: dict[Callable[[str], Any], tuple[str, str]] = {
    positive: ("NUMBER", "0*[1-9][0-9]*"),
    whole: ("NUMBER", "[0-9]+"),
    positive_or_auto: ("TEXT", "auto|0*[1-9][0-9]*"),
    size: ("TEXT", "[0-9]+[xX][0-9]+"),
}
_FOLDER = "^gs://.+$"
# Of Beam's options those that a launch needs and that its environment has no field for.
_BEAM = ("sdk_container_image", "dataflow_service_options", "number_of_worker_harness_threads")


def container_spec(job: str, image: str) -> dict[str, Any]:
    """The file that a launch names by containerSpecGcsPath."""
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata(job),
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def metadata(job: str) -> dict[str, Any]:
    """TemplateMetadata of one job: every flag is a parameter."""
    parser = job_parsers()[job]
    groups = {
        action.dest: group.title
        for group in parser._action_groups
        for action in group._group_actions
    }
    first = {
        "name": JOB,
        "label": "Job",
        "helpText": f"{job}: which job this template launches",
        "paramType": "ENUM",
        "enumOptions": [{"value": job}],
        "regexes": [f"^{job}$"],
    }
    return {
        "name": f"pixelmill {job}",
        "description": (parser.description or "").partition("\n")[0],
        "parameters": [
            first,
            *(_parameter(n, a, groups.get(a.dest)) for n, a in parameters(job).items()),
            *(_parameter(n, a, "Beam") for n, a in _beam_actions().items()),
        ],
    }


def _parameter(name: str, action: argparse.Action, group: str | None) -> dict[str, Any]:
    """ParameterMetadata of a flag."""
    label = name.replace("_", " ").capitalize()
    text = (action.help or label).replace("%%", "%")
    made: dict[str, Any] = {"name": name, "label": label, "groupName": group or "Other"}
    if action.default not in (None, False, []):
        made["defaultValue"] = str(action.default)
    if is_switch(action):
        made |= {"paramType": "BOOLEAN", "defaultValue": "false"}
    elif action.choices is not None:
        made |= {"paramType": "ENUM", "enumOptions": [{"value": c} for c in action.choices]}
    elif name == "output":
        made |= {"paramType": "GCS_WRITE_FOLDER", "regexes": [_FOLDER]}
    else:
        checked = _CHECKED.get(action.type) if callable(action.type) else None
        kind, pattern = checked or ("TEXT", None)
        made["paramType"] = kind
        if pattern:
            made["regexes"] = [f"^({pattern})$"]
    if is_repeated(action):
        text += f"; several are joined by {SEPARATOR}"
    return {**made, "helpText": text, "isOptional": not action.required}


def _beam_actions() -> dict[str, argparse.Action]:
    from apache_beam.options.pipeline_options import (
        DebugOptions,
        GoogleCloudOptions,
        WorkerOptions,
    )

    parser = argparse.ArgumentParser(add_help=False)
    for options in (WorkerOptions, GoogleCloudOptions, DebugOptions):
        options._add_argparse_args(parser)
    found = {action.dest: action for action in parser._actions}
    return {name: found[name] for name in _BEAM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the templates of all jobs; returns 0, or 2 when that cannot be done."""
    parser = command_line.Parser(prog="python -m pipeline.dataflow.template", description=__doc__)
    parser.add_argument("--image", required=True, help="the container, as it was pushed")
    parser.add_argument("--output", required=True, help="folder for JOB.json, gs:// or local")
    given = parser.parse_args(arguments)
    try:
        if not re.fullmatch(r"[^\s:@]+(:\d+)?/[^\s]+[:@][^\s/]+", given.image):
            raise UserError(
                f"--image={given.image}: expected HOST/NAME:TAG or HOST/NAME@sha256:DIGEST; "
                "without a tag nobody knows which code a launch runs"
            )
        out = paths.absolute(given.output)
        storage.check_place(out, writes=True)
        for job in command_line.JOBS:
            made = json.dumps(container_spec(job, given.image), indent=1).encode() + b"\n"
            storage.write(out, f"{job}.json", made)
            print(f"{out}/{job}.json")
        storage.delete_dead(out)
    except UserError as error:
        print(f"pixelmill: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
