"""The command line of pixelmill: what its commands are called, say and take."""

import argparse
from typing import Any

from pipeline import (
    __version__,
    augment_flags,
    check_flags,
    evaluate_flags,
    flags,
    pack_flags,
    report_flags,
    study_flags,
    tile_flags,
    train_flags,
)
from pipeline.dataflow import flags as launch_flags
from pipeline.flag_values import positive, words

JOBS = ("segment", "generate", "pack", "evaluate", "augment")  # that run a pipeline
PLANNED = JOBS[:-1]  # that `plan` looks at; `augment` has --dry_run

DESCRIPTION = """\
pixelmill runs TensorFlow SavedModels over shards of images.

  pixelmill segment   masks of images, by a SavedModel
  pixelmill generate  pictures by a SavedModel, from noise and labels or from pictures
  pixelmill pack      images, masks and labels into shards; shards into other shards
  pixelmill evaluate  predicted masks against labels, or against an earlier run
  pixelmill augment   more training examples of what is new, by a recipe, on a schedule
  pixelmill plan      what a launch of one of these would do, before workers are paid for
  pixelmill train     a segmenter, classifier or generator from shards, as a SavedModel
  pixelmill report    the page of a run, or of one run compared with another
  pixelmill export    images and masks in the form of another tool
  pixelmill study     whether augmented data help a training, with confidence intervals
  pixelmill inspect   what a SavedModel takes and gives, and the flags that it needs
  pixelmill status    how far a run is
  pixelmill verify    whether a run is whole: every shard, size and checksum
  pixelmill replay    one example of an augmentation, made again and compared
  pixelmill demo      scenes with exact masks, packed, segmented, compared

`pixelmill COMMAND --help` explains a command. A run that was stopped goes on when the same
command is given again. Exit codes: 0 done; 1 done, but over the budget of failures or not
verified; 2 cannot start; 130 interrupted."""

_SEGMENT = """\
Masks of images, by a SavedModel.

  pixelmill segment --input photos/ --model deeplab/ --value_range=-1,1 --output out/

The input is a folder, a glob ('train-*.tfrecord'), name.tfrecord@10, or several joined by
commas. Images of a folder give a tree of mask files, shards give shards of their format.
OUT holds masks/, records/ (a Parquet row for every image), metrics/ (a file for every shard,
written last: the shard is done), legend.json, metrics.json, report.html and _SUCCESS.
What pixelmill does not know goes to Beam: --runner, --direct_num_workers ..."""

_GENERATE = """\
Pictures by a SavedModel: from noise and labels, or from pictures.

  pixelmill generate --model cgan/ --per_class=100 --output_range=-1,1 --output out/
  pixelmill generate --model fsrcnn/ --input photos/ --channels=Y --value_range=0,1 \\
    --output_range=0,1 --output out/

An item's picture depends on --seed, its number and its label alone: not on batches, workers or
retries. OUT holds images/ (shards with image/class/label, or files by class), records/, metrics/,
report.html and _SUCCESS, as for `pixelmill segment`."""

_REPLAY = """\
Makes one example of an augmentation again, from its source and what is stored of how it was made,
and compares the bytes. Exit code 1 when they differ.

  pixelmill replay nightly/ 'a.jpg#0'"""

_INSPECT = """\
What a SavedModel takes and gives, and how to run it. It is read, not run.

  pixelmill inspect deeplab/ --write_card deeplab.card.yaml

Ends with a command line that runs it, or with the question that it cannot answer. The card holds
what was found, and lines to fill in for what was not; `segment --model_card FILE` reads it."""


class Parser(argparse.ArgumentParser):
    """Help that keeps its line breaks; errors without the wall of usage."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Fills in what depends on several flags, once all of them are known."""
        found, rest = super().parse_known_args(*args, **kwargs)
        if hasattr(found, "schema") and hasattr(found, "command"):
            flags.fill_features(found)
        return found, rest

    def error(self, message: str) -> Any:
        self.exit(2, f"{self.prog}: {message}\n`{self.prog} --help` explains the flags\n")


def parser() -> Parser:
    """The parser of the whole command line."""
    top = Parser(prog="pixelmill", description=DESCRIPTION, usage="pixelmill COMMAND [flags]")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(
        prog="pixelmill", dest="command", metavar="COMMAND", required=True
    )
    commands._choices_actions.clear()  # the description lists them
    _add_jobs(commands)
    others = [
        ("train", train_flags.DESCRIPTION, train_flags.add_flags),
        ("study", study_flags.DESCRIPTION, study_flags.add_flags),
        ("report", report_flags.REPORT, report_flags.add_report),
        ("export", report_flags.EXPORT, report_flags.add_export),
        ("inspect", _INSPECT, _add_inspect),
        ("status", "How far a run is, by its commit records.", _add_status),
        ("verify", "Whether a run is whole. Exit code 1 when it is not.", _add_verify),
        ("replay", _REPLAY, _add_replay),
        ("demo", "The whole job on data that the project brings.", _add_demo),
    ]
    for name, text, add in others:
        command = commands.add_parser(name, description=text)
        add(command)
        if name != "demo":
            flags.add_no_auth(command)
        if name not in ("status", "verify"):
            flags.add_verbose(command)
    return top


def _add_jobs(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Commands that run a pipeline."""
    segment = commands.add_parser("segment", description=_SEGMENT)
    flags.add_run_flags(segment)
    flags.add_model_flags(segment)
    flags.add_segment_flags(segment)
    tile_flags.add_flags(segment, with_views=True)
    flags.add_device_flags(segment)

    generate = commands.add_parser("generate", description=_GENERATE)
    flags.add_run_flags(generate, input_required=False)
    flags.add_model_flags(generate)
    flags.add_generate_flags(generate)
    tile_flags.add_flags(generate, with_views=False)
    check_flags.add_flags(generate)
    flags.add_device_flags(generate)

    pack = commands.add_parser("pack", description=pack_flags.DESCRIPTION)
    flags.add_run_flags(pack)
    pack_flags.add_flags(pack)

    evaluate = commands.add_parser("evaluate", description=evaluate_flags.DESCRIPTION)
    flags.add_run_flags(evaluate, input_required=False)
    evaluate_flags.add_flags(evaluate)
    flags.add_model_flags(evaluate, required=False)
    flags.add_files_per_shard(evaluate)
    flags.add_batch_flags(evaluate)
    flags.add_device_flags(evaluate)

    augment = commands.add_parser("augment", description=augment_flags.DESCRIPTION)
    augment_flags.add_flags(augment)
    launch_flags.add_flags(augment)
    flags.add_no_auth(augment)
    flags.add_verbose(augment)


def _add_inspect(command: Parser) -> None:
    command.add_argument("model", metavar="MODEL", help="folder of the SavedModel, or of versions")
    command.add_argument("--tags", type=words, metavar="A,B", help="of the graph, if several")
    command.add_argument("--json", action="store_true", help="print JSON for programs")
    command.add_argument("--write_card", metavar="FILE", help="write a card to edit, YAML")


def _add_status(command: Parser) -> None:
    command.add_argument("output", metavar="OUT", help="folder of the run")


def _add_verify(command: Parser) -> None:
    _add_status(command)
    command.add_argument(
        "--clean",
        action="store_true",
        help="first delete what attempts that died have left; never what is at work",
    )


def _add_replay(command: Parser) -> None:
    _add_status(command)
    command.add_argument("key", metavar="KEY", help="name of the example, such as a.jpg#0")
    command.add_argument("--shard", help="that holds it, where several have the key")


def _add_demo(command: Parser) -> None:
    command.add_argument("--output", default="demo_out", help="folder, default demo_out")
    command.add_argument("--scenes", type=positive, default=96, help="how many, default 96")
    command.add_argument("--digits", type=positive, default=1000, help="to generate, default 1000")
