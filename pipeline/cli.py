"""The command `pixelmill`. Imports what a command needs only when it is given."""

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from models.errors import UserError
from models.loading import import_tensorflow
from pipeline import command_line
from pipeline.dataflow import flags as launch_flags
from pipeline.flag_values import join_negative_values
from transforms import paths, storage

DONE, NOT_GOOD, CANNOT_START, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see command_line.DESCRIPTION)."""
    given = join_negative_values(list(sys.argv[1:] if arguments is None else arguments))
    is_plan = given[:1] == ["plan"]
    if is_plan and not (given[1:] and given[1] in command_line.PLANNED):
        return _explain_plan(given[1:])
    parsed, rest = command_line.parser().parse_known_args(given[1:] if is_plan else given)
    parsed.is_plan = is_plan
    try:
        return _run(parsed, rest)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_GOOD
    except OSError as error:
        return _say(f"{error.filename or 'output'}: {error.strerror}", NOT_GOOD)
    except UserError as error:
        if getattr(parsed, "verbose", False):
            traceback.print_exc()
        return _say(str(error), CANNOT_START)


def _run(parsed: argparse.Namespace, rest: list[str]) -> int:
    if getattr(parsed, "no_auth", False):
        storage.use_no_auth()
    if parsed.command in command_line.JOBS:
        return _job(parsed, rest)
    if rest:
        return _say(f"unknown: {' '.join(rest)}; `pixelmill {parsed.command} --help`", CANNOT_START)
    commands = {
        "train": _train,
        "report": _report,
        "export": _export,
        "study": _study,
        "inspect": _inspect,
        "status": _status,
        "verify": _verify,
        "replay": _replay,
        "demo": _demo,
    }
    return commands[parsed.command](parsed)


def _job(parsed: argparse.Namespace, rest: list[str]) -> int:
    import_tensorflow()
    from pipeline import augment_job, evaluate_job, generate_job, jobs, pack_job
    from pipeline.engine import InterruptedRun, PipelineFailed

    job = {
        "segment": jobs.run_segment,
        "generate": generate_job.run_generate,
        "pack": pack_job.run_pack,
        "evaluate": evaluate_job.run_evaluate,
        "augment": augment_job.run_augment,
    }[parsed.command]
    if parsed.json and not parsed.is_plan:
        return _say("--json is of `pixelmill plan`; leave it out", CANNOT_START)
    beam_flags = [*rest, *launch_flags.forwarded(parsed, parsed.is_plan)]
    if parsed.no_auth:
        beam_flags.append("--no_auth")
    try:
        if parsed.is_plan:
            return _plan(parsed, lambda: job(parsed, beam_flags))
        return job(parsed, beam_flags)
    except InterruptedRun:
        return _say("interrupted; give the same command again to go on", INTERRUPTED)
    except PipelineFailed as error:
        if parsed.verbose:
            traceback.print_exc()
        again = "what is committed stays; --verbose tells more, the same command goes on"
        return _say(f"the pipeline failed: {error}\n{again}", NOT_GOOD)


def _plan(parsed: argparse.Namespace, look: Callable[[], int]) -> int:
    """Prints a plan; as JSON alone on the standard output, also when there is an early end."""
    from pipeline.dataflow.plan_text import plan_text

    if not parsed.json:
        code = look()
        print(plan_text(parsed.plan))
        return code
    try:
        with contextlib.redirect_stdout(sys.stderr):
            code = look()
        print(json.dumps(parsed.plan.to_dict(), indent=1))
        return code
    except UserError as error:
        print(json.dumps({"ok": False, "problems": [str(error)]}, indent=1))
        raise


def _explain_plan(words: Sequence[str]) -> int:
    if words[:1] in (["--help"], ["-h"]):
        print(launch_flags.PLAN)
        return DONE
    return _say(
        f"plan is followed by one of {', '.join(command_line.PLANNED)}; `pixelmill plan --help`",
        CANNOT_START,
    )


def _train(parsed: argparse.Namespace) -> int:
    import_tensorflow()
    from pipeline.train_job import run_train

    return _training(run_train, parsed, "from the last epoch")


def _study(parsed: argparse.Namespace) -> int:
    import_tensorflow()
    from pipeline.study_job import run_study

    return _training(run_study, parsed, "with the trainings that have not ended")


def _training(
    job: Callable[[argparse.Namespace], int], parsed: argparse.Namespace, goes_on: str
) -> int:
    from pipeline.training import TrainingFailed

    try:
        return job(parsed)
    except TrainingFailed as error:
        return _say(f"the training failed: {error}", NOT_GOOD)
    except KeyboardInterrupt:
        return _say(f"interrupted; the same command goes on {goes_on}", INTERRUPTED)


def _inspect(parsed: argparse.Namespace) -> int:
    from pipeline.inspect_model import inspect

    print(inspect(parsed.model, parsed.tags, parsed.write_card, parsed.json))
    return DONE


def _report(parsed: argparse.Namespace) -> int:
    import_tensorflow()
    from pipeline.report import run_report

    runs = [_place(run) for run in (parsed.run, parsed.other) if run is not None]
    output = None if parsed.output is None else paths.absolute(parsed.output)
    print(f"report: {run_report(runs[0], runs[1] if parsed.other else None, output)}")
    return DONE


def _export(parsed: argparse.Namespace) -> int:
    import_tensorflow()
    from pipeline.exports.job import run_export

    out = paths.absolute(parsed.output)
    count = run_export(_place(parsed.run), out, parsed.format)
    print(f"export: {count:,} images with masks -> {out}")
    return DONE


def _demo(parsed: argparse.Namespace) -> int:
    import_tensorflow()
    from pipeline.demo import demo

    return demo(parsed.output, parsed.scenes, parsed.digits, parsed.verbose)


def _status(parsed: argparse.Namespace) -> int:
    from pipeline import checks

    print(checks.status(_place(parsed.output)))
    return DONE


def _verify(parsed: argparse.Namespace) -> int:
    from pipeline import checks

    out = _place(parsed.output)
    if parsed.clean:
        for path in checks.clean(out):
            print(f"deleted: {path}")
    problems = checks.verify(out)
    print(checks.verdict(out, problems))
    return NOT_GOOD if problems else DONE


def _replay(parsed: argparse.Namespace) -> int:
    import_tensorflow()
    from pipeline.replay import replay

    found = replay(_place(parsed.output), parsed.key, parsed.shard or "")
    print(found)
    return NOT_GOOD if found.differs else DONE


def _place(output: str) -> str:
    out = paths.absolute(output)
    storage.check_place(out)
    return out


def _say(message: str, code: int) -> int:
    print(f"pixelmill: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
