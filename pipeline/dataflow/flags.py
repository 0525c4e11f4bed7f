"""Flags of `pixelmill plan` and of launches. Known to Beam as well, so that a job shows them.

Defined once: the command line and pipeline/dataflow/options.py both add them to their parsers.
"""

import argparse
from typing import Any

from pipeline.flag_values import positive_number

PLAN = """\
What a launch would do, without launching: the command after the word plan.

  pixelmill plan segment --input gs://b/photos --model gs://b/deeplab --output gs://b/out \\
    --runner=DataflowRunner --project=... --region=... --temp_location=gs://b/tmp ...

Inputs are counted, the model is read and tried on the first images, the work is pickled, the
options are checked against one another, and time and cost are estimated. The same is done before
every launch on Dataflow. Exit codes: 0 it can be launched, 2 it cannot."""


def add_flags(parser: Any) -> None:
    """Adds the group "plan and launch"."""
    group = parser.add_argument_group("plan and launch", "For Dataflow; see `pixelmill plan`.")
    group.add_argument(
        "--accelerator",
        metavar="TYPE",
        help="for the one step that holds the model: nvidia-l4, nvidia-tesla-t4, ..., or in full "
        "'type:nvidia-l4;count:1;install-nvidia-driver'",
    )
    group.add_argument("--min_ram", metavar="16GB", help="of the workers of that step, at least")
    group.add_argument(
        "--wait",
        action="store_true",
        help="until the job is done, with progress; else the command ends when it is launched, and "
        "`pixelmill status OUT` tells how far it is",
    )
    group.add_argument(
        "--worker_images_per_s",
        type=positive_number,
        metavar="N",
        help="that one worker does, for the estimate; default: measured here, on a few images",
    )
    group.add_argument("--prices", metavar="YAML", help="a price table in place of pixelmill's own")
    group.add_argument("--json", action="store_true", help="with plan: print JSON for programs")


def forwarded(parsed: argparse.Namespace, is_plan: bool) -> list[str]:
    """The same flags for Beam's parser."""
    flags = [
        f"--{name}={value}"
        for name in ("accelerator", "min_ram", "worker_images_per_s", "prices")
        if (value := getattr(parsed, name)) is not None
    ]
    switches = {"wait": parsed.wait, "json": parsed.json, "plan_only": is_plan}
    return [*flags, *(f"--{name}" for name, given in switches.items() if given)]
