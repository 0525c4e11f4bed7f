"""The entry point of the Flex Templates: turns their parameters into a command line of pixelmill.

The launcher gives every parameter, and every option of the launch, as --name=value. Which job it is
says the parameter `job`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from models.errors import UserError
from pipeline import command_line

JOB = "job"
# The launcher must end when the job is made, and can make one job.
_LEFT_OUT = ("help", "wait", "json")
_JOB_BEFORE = {"generate": "reference"}  # flags that take a job of their own before
SEPARATOR = ";"  # of the values of a flag that may be given several times


def job_parsers() -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of all jobs that are launched by a template, by name."""
    (commands,) = (
        action for action in command_line.parser()._actions if isinstance(action.choices, dict)
    )
    assert isinstance(commands.choices, dict)
    return {name: commands.choices[name] for name in command_line.JOBS}


def parameters(job: str) -> dict[str, argparse.Action]:
    """The flags of a job that are parameters of its template, by name."""
    actions = job_parsers()[job]._actions
    named = (((a.option_strings or [a.dest])[-1].removeprefix("--"), a) for a in actions)
    return {name: action for name, action in named if not _is_left_out(job, name)}


def _is_left_out(job: str, name: str) -> bool:
    return name in _LEFT_OUT or name == _JOB_BEFORE.get(job)


def is_switch(action: argparse.Action) -> bool:
    """Whether a flag takes no value: true or false as a parameter."""
    return action.nargs == 0


def is_repeated(action: argparse.Action) -> bool:
    """Whether a flag may be given several times: its values are joined as a parameter."""
    return isinstance(action, argparse._AppendAction)


def line_of(arguments: Sequence[str]) -> list[str]:
    """What `pixelmill` is called with, for what the launcher gives.

    Empty values, which forms send for fields that are left blank, are left out. What is no
    parameter of the job is passed on, for Beam to know.

    Raises:
        UserError: no such job, a value that is neither true nor false, or a flag that a template
            cannot take.
    """
    given = [argument.removeprefix("--").partition("=") for argument in arguments]
    job = next((value for name, _, value in given if name == JOB), "")
    if job not in command_line.JOBS:
        expected = ", ".join(command_line.JOBS)
        raise UserError(f"parameter {JOB}: got {job or None!r}, expected one of {expected}")
    known = parameters(job)
    line = [job]
    for argument, (name, equals, value) in zip(arguments, given, strict=True):
        if name == JOB or (equals and not value):
            continue
        if _is_left_out(job, name):
            raise UserError(
                f"parameter {name}: a template cannot take it, for it launches one job and ends; "
                "launch from a machine, by `pixelmill ... --runner=DataflowRunner`"
            )
        action = known.get(name)
        if action is None:
            line.append(argument)
        elif not action.option_strings:  # the recipe of `augment`
            line.append(value)
        elif is_switch(action):
            line += [f"--{name}"] if _is_true(name, value) else []
        else:
            parts = value.split(SEPARATOR) if is_repeated(action) else [value]
            line += [f"--{name}={part}" for part in parts]
    return line


def _is_true(name: str, value: str) -> bool:
    found = {"true": True, "false": False}.get(value.lower())
    if found is None:
        raise UserError(f"parameter {name}: got {value!r}, expected true or false")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Launches the job of a template; returns its exit code (see command_line.DESCRIPTION)."""
    from pipeline import cli

    try:
        line = line_of(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"pixelmill: {error}", file=sys.stderr)
        return cli.CANNOT_START
    return cli.main(line)


if __name__ == "__main__":
    sys.exit(main())
