"""All flags of all commands, each defined once."""

import argparse
from typing import Any

from pipeline import __version__, check_flags, tile_flags, train_flags
from pipeline.flag_values import (
    field_value,
    fraction,
    number_pair,
    numbers,
    percent,
    positive,
    positive_or_auto,
    reasons,
    seconds,
    size,
    whole,
    words,
)

DESCRIPTION = """\
pixelmill runs TensorFlow SavedModels over shards of images.

  pixelmill segment   masks of images, by a SavedModel
  pixelmill generate  pictures by a SavedModel, from noise and labels or from pictures
  pixelmill pack      image files (and masks) into TFRecord shards
  pixelmill train     a segmenter, classifier or generator from shards, as a SavedModel
  pixelmill inspect   what a SavedModel takes and gives, and the flags that it needs
  pixelmill status    how far a run is
  pixelmill verify    whether a run is whole: every shard, size and checksum
  pixelmill demo      scenes with exact masks, packed, segmented, compared

`pixelmill COMMAND --help` explains a command. A run that was stopped goes on when the same
command is given again. Exit codes: 0 done; 1 done, but over the budget of failures or not
verified; 2 cannot start; 130 interrupted."""

_SEGMENT = """\
Masks of images, by a SavedModel.

  pixelmill segment --input photos/ --model deeplab/ --value_range=-1,1 --output out/

The input is a folder, a glob ('train-*.tfrecord'), name.tfrecord@10, or several joined by
commas. Images of a folder give a tree of mask files, TFRecord shards give TFRecord shards.
OUT holds masks/, records/ (a Parquet row for every image), metrics/ (a file for every shard,
written last: the shard is done), legend.json, metrics.json, report.html and _SUCCESS.
What pixelmill does not know goes to Beam: --runner, --direct_num_workers ..."""

_GENERATE = """\
Pictures by a SavedModel: from noise and labels, or from pictures.

  pixelmill generate --model cgan/ --per_class=100 --output_range=-1,1 --output out/
  pixelmill generate --model fsrcnn/ --input photos/ --channels=Y --value_range=0,1 \\
    --output_range=0,1 --output out/

An item's picture depends on --seed, its number and its label alone: not on batches, workers or
retries. OUT holds images/ (TFRecord shards with image/class/label, or with --as_files a folder of
files by class), records/, metrics/, report.html and _SUCCESS, as for `pixelmill segment`."""

_PACK = """\
Image files, with masks beside them if there are any, into TFRecord shards of equal size.

  pixelmill pack --input dataset/ --output shards/

A file is the mask of an image when it has its name with _mask before the extension
(a.jpg, a_mask.png), or its path with the folder images replaced by masks
(images/a.jpg, masks/a.png). Every image is decoded once; broken ones are listed, not packed."""


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

    segment = commands.add_parser("segment", description=_SEGMENT)
    _add_run_flags(segment)
    _add_model_flags(segment)
    _add_segment_flags(segment)
    tile_flags.add_flags(segment, with_views=True)
    _add_device_flags(segment)

    generate = commands.add_parser("generate", description=_GENERATE)
    _add_run_flags(generate, input_required=False)
    _add_model_flags(generate)
    _add_generate_flags(generate)
    tile_flags.add_flags(generate, with_views=False)
    check_flags.add_flags(generate)
    _add_device_flags(generate)

    pack = commands.add_parser("pack", description=_PACK)
    _add_run_flags(pack)
    pack.add_argument(
        "--images_per_shard", type=positive, default=1024, help="at most, default 1024"
    )

    train = commands.add_parser("train", description=train_flags.DESCRIPTION)
    train_flags.add_flags(train)
    _add_no_auth(train)
    _add_verbose(train)

    inspect = commands.add_parser("inspect", description=_INSPECT)
    inspect.add_argument("model", metavar="MODEL", help="folder of the SavedModel, or of versions")
    inspect.add_argument("--tags", type=words, metavar="A,B", help="of the graph, if several")
    inspect.add_argument("--json", action="store_true", help="print JSON for programs")
    inspect.add_argument("--write_card", metavar="FILE", help="write a card to edit, YAML")
    _add_no_auth(inspect)
    _add_verbose(inspect)

    for name, text in (
        ("status", "How far a run is, by its commit records."),
        ("verify", "Whether a run is whole. Exit code 1 when it is not."),
    ):
        command = commands.add_parser(name, description=text)
        command.add_argument("output", metavar="OUT", help="folder of the run")
        _add_no_auth(command)
        if name == "verify":
            command.add_argument(
                "--clean",
                action="store_true",
                help="first delete what attempts that died have left; never what is at work",
            )
    demo = commands.add_parser("demo", description="The whole job on data that the project brings.")
    demo.add_argument("--output", default="demo_out", help="folder, default demo_out")
    demo.add_argument("--scenes", type=positive, default=96, help="how many, default 96")
    demo.add_argument("--digits", type=positive, default=1000, help="to generate, default 1000")
    _add_verbose(demo)
    return top


def _add_run_flags(command: argparse.ArgumentParser, input_required: bool = True) -> None:
    group = command.add_argument_group("input and output")
    group.add_argument(
        "--input", required=input_required, metavar="WHAT", help="folder, glob, name@N or list"
    )
    group.add_argument("--output", required=True, metavar="OUT", help="folder for the results")
    group.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in OUT and start anew"
    )
    group.add_argument(
        "--new_run",
        action="store_true",
        help="put the results into a new folder below OUT, named by date and time (UTC); it is "
        "printed, and is the --output with which that run goes on",
    )
    _add_no_auth(group)
    group.add_argument(
        "--max_failed_fraction",
        type=fraction,
        default=0.01,
        metavar="F",
        help="of a shard's images that may fail (in a small shard: one), default 0.01; with more "
        "the run is finished all the same, and the exit code is 1",
    )
    group = command.add_argument_group("decoding")
    group.add_argument(
        "--max_pixels",
        type=positive,
        default=100_000_000,
        help="larger pictures fail before anything is allocated, default 100,000,000",
    )
    group = command.add_argument_group("work")
    group.add_argument(
        "--threads",
        type=positive,
        default=None,
        help="that decode and encode, default one a core; changes no result",
    )
    _add_verbose(group)


def _add_no_auth(group: Any) -> None:
    group.add_argument(
        "--no_auth", action="store_true", help="gs:// without credentials, for public buckets"
    )


def _add_verbose(group: Any) -> None:
    group.add_argument(
        "--verbose", action="store_true", help="show what Beam and TensorFlow say, and tracebacks"
    )


def _add_model_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "model", "What the SavedModel's signature does not say. `pixelmill inspect` tells which."
    )
    group.add_argument("--model", required=True, metavar="DIR", help="folder of the SavedModel")
    group.add_argument("--model_card", metavar="YAML", help="all of the below in a file")
    group.add_argument("--signature", help="default: serving_default, or the only one")
    group.add_argument("--tags", type=words, metavar="A,B", help="of the graph to load")
    group.add_argument("--input_name", help="input that takes the image")
    group.add_argument(
        "--input_role",
        choices=("image", "bytes", "example"),
        help="pixels, encoded images or tf.Examples; default: by dtype and name",
    )
    group.add_argument(
        "--value_range",
        type=number_pair,
        metavar="LOW,HIGH",
        help="what 0 and 255 become: 0,1 or -1,1 or 0,255",
    )
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="subtracted after that")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="divided by after that")
    group.add_argument(
        "--channels",
        choices=("RGB", "BGR", "L", "Y", "ids", "one_hot"),
        help="default RGB; ids and one_hot are of models that make pictures of masks",
    )
    group.add_argument("--input_layout", choices=("NHWC", "NCHW"), help="default: by the shape")
    group.add_argument(
        "--image_size",
        type=size,
        metavar="HxW",
        help="bring pictures to this size, for a model that takes any",
    )
    group.add_argument(
        "--fit",
        choices=("stretch", "letterbox", "pad", "crop"),
        help="how they get to a size: stretched (default); scaled to fit, with bars on both "
        "sides; put at the top left, only scaled if larger; or the middle is cut out, and the "
        "rest of the mask is the ignore id",
    )
    group.add_argument(
        "--max_side",
        type=positive,
        metavar="PX",
        help="scale larger pictures down to this longest side, for a model that takes any size",
    )
    group.add_argument(
        "--multiple_of",
        type=positive,
        metavar="PX",
        help="for a model whose sides must be multiples of this: mirror pictures at the edges",
    )
    group.add_argument("--output_name", help="output with the scores or class ids")
    group.add_argument(
        "--output_kind",
        choices=("logits", "softmax", "sigmoid", "class_ids"),
        help="default: found by running the model once",
    )
    group.add_argument("--output_layout", choices=("NHWC", "NCHW"), help="default: found likewise")
    group.add_argument(
        "--threshold",
        type=fraction,
        help="for one probability a pixel: above it the pixel is class 1, default 0.5",
    )
    group.add_argument(
        "--output_range",
        type=number_pair,
        metavar="LOW,HIGH",
        help="of pictures that the model makes: what black and white are, -1,1 or 0,1 or 0,255",
    )
    group.add_argument("--classes", type=words, metavar="A,B,...", help="names by class id")
    group.add_argument(
        "--set",
        type=field_value,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any field of the card: inputs.truncation.value=0.5, output.void_id=255",
    )


def _add_generate_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("generating")
    group.add_argument("--count", type=positive, metavar="N", help="pictures to make")
    group.add_argument(
        "--per_class",
        metavar="N|FILE",
        help="pictures of every class: a number, or a YAML or CSV file of class: count",
    )
    group.add_argument("--seed", type=whole, default=0, help="of all random numbers, default 0")
    group.add_argument(
        "--images_per_shard",
        type=positive,
        default=256,
        help="made and committed together, default 256",
    )
    group.add_argument(
        "--as_files",
        action="store_true",
        help="a folder of files by class, instead of TFRecord shards; with --input: as the input",
    )
    group.add_argument("--image_format", choices=("png", "jpeg"), default="png")
    group.add_argument("--quality", type=percent, default=95, help="of a JPEG, default 95")
    _add_batch_flags(group)


def _add_segment_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("segmenting")
    group.add_argument(
        "--retry_failed",
        nargs="?",
        type=reasons,
        const=reasons("all"),
        metavar="REASON,...",
        help="process again what has failed in committed shards, of all reasons or of some "
        "(model_error,timeout), and merge it in",
    )
    group.add_argument(
        "--files_per_shard",
        type=positive,
        default=256,
        help="image files that are processed and committed together, default 256",
    )
    group.add_argument(
        "--confidence_map",
        action="store_true",
        help="also write a grey picture of the probability of the chosen class",
    )
    group.add_argument(
        "--mask_size",
        choices=("image", "model"),
        default="image",
        help="masks as large as the picture, or as the model saw it (faster); default image",
    )
    _add_batch_flags(group)


def _add_batch_flags(group: Any) -> None:
    """Of all jobs that run a model."""
    group.add_argument(
        "--alpha",
        choices=("drop", "white", "black"),
        default="drop",
        help="transparency: drop it, or lay the picture on a colour; default drop",
    )
    group.add_argument(
        "--batch_size",
        type=positive_or_auto,
        default=8,
        metavar="N|auto",
        help="pictures that the model gets at once, default 8; auto measures it at the start, and "
        "a resumed run keeps it; a model of fixed batch decides",
    )
    group.add_argument(
        "--batch_timeout_s",
        type=seconds,
        default=600.0,
        metavar="S",
        help="a batch that the model does not answer in this time fails, default 600; 0: never",
    )
    group.add_argument("--image_feature", default="image/encoded", help="default image/encoded")
    group.add_argument("--key_feature", default="image/filename", help="default image/filename")


def _add_device_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("accelerators", "Where they have no effect, this is said.")
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="compute in less where that is safe: bfloat16 on CPUs, float16 on GPUs",
    )
    group.add_argument(
        "--device_memory_mb",
        type=positive,
        metavar="MB",
        help="of each GPU for one process; default: grows as needed",
    )
    group.add_argument(
        "--xla", action="store_true", help="compile the model, for pictures of one size"
    )
