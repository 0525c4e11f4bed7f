"""Flags of `pixelmill evaluate`."""

import argparse
from typing import Any

from models.errors import UserError
from pipeline.flag_values import positive, whole
from pipeline.gates import parse_gate
from transforms.feature_names import USUAL

# Those of transforms/evaluation, whose modules import SciPy: too slow for --help.
ENCODINGS = ("ids", "binary", "inverted", "rgb", "instances")
ABSENT = ("skip", "zero", "one")
BOUNDARY_WIDTH = 0.02  # of the diagonal, as Cheng et al. (CVPR 2021) have it
ROUNDS = 1000

DESCRIPTION = """\
How good predicted masks are: against labels, or without them against an earlier run.

  pixelmill evaluate --predictions run/ --labels masks/ --output scores/
  pixelmill evaluate --model unet/model --input shards/images --output scores/
  pixelmill evaluate --predictions run/ --reference last_week/ --output scores/

Predictions are a run of `pixelmill segment`, a folder of masks, or shards. A prediction
and a label belong together when their names are equal without extension; those of runs over shards
when their shards and keys are. With --model, images are segmented and scored in one pass, with
the masks beside them (as for `pixelmill pack`), in their shards, or in --labels.
OUT holds metrics.json, images.csv and .parquet, classes.csv and .parquet, unpaired.csv, rows/
(JSON lines for every shard), records/, metrics/ and report.html."""


def gate(text: str) -> str:
    """A condition for --fail_if, as it was written. Raises ArgumentTypeError."""
    try:
        return parse_gate(text).text
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def width(text: str) -> float:
    """A boundary's width: a fraction of the diagonal below 1, else whole pixels."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (0 < value < 1 or (value >= 1 and value == int(value))):
        raise argparse.ArgumentTypeError(
            f"expected a fraction of the diagonal like 0.02, or whole pixels, got {text!r}"
        )
    return value


def class_map(text: str) -> dict[int, str]:
    """OLD=NEW,... with ids on the left, and ids, names of classes or "ignore" on the right."""
    found: dict[int, str] = {}
    for part in text.split(","):
        old, _, new = (p.strip() for p in part.partition("="))
        if not old.isdecimal() or not new:
            raise argparse.ArgumentTypeError(
                f"expected like 7=0,8=road,9=ignore with ids on the left, got {part.strip()!r}"
            )
        if int(old) in found:
            raise argparse.ArgumentTypeError(f"{old} is mapped twice")
        found[int(old)] = new
    return found


def ids(text: str) -> tuple[int, ...]:
    """Class ids joined by commas, or "none"."""
    parts = [] if text == "none" else [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected class ids like 0,255 or none, got {text!r}")
    return tuple(int(part) for part in parts)


def add_flags(command: argparse.ArgumentParser) -> None:
    """All flags but those of runs, models and accelerators."""
    group = command.add_argument_group("what is compared")
    group.add_argument("--predictions", metavar="WHAT", help="a run, a folder of masks, or shards")
    group.add_argument("--labels", metavar="WHAT", help="a folder of masks, or shards")
    group.add_argument(
        "--reference", metavar="RUN", help="an earlier run of segment or evaluate, for drift"
    )
    group.add_argument(
        "--legend",
        metavar="FILE",
        help="classes, colours and ignore id: legend.json of a run, or labelmap.txt of CVAT",
    )
    for side, other in (("label", "prediction"), ("prediction", "label")):
        group.add_argument(
            f"--{side}_suffix",
            default="",
            metavar="TEXT",
            help=f"that names of {side}s end with, before the extension, and those of {other}s "
            "do not: _gtFine_labelIds",
        )
        group.add_argument(
            f"--{side}_encoding",
            choices=ENCODINGS,
            default="ids",
            help="how masks hold classes: ids (default; grey, palette or 1-bit), binary (0 and "
            "255), inverted, rgb (by the legend), instances (of 16 bit)",
        )
        group.add_argument(
            f"--{side}_feature",
            default=None if side == "label" else USUAL.mask,
            metavar="NAME",
            help=f"of tf.Examples, default {USUAL.mask}",
        )
    group.add_argument(
        "--pair_by",
        choices=("auto", "shard", "key"),
        default="auto",
        help="partners of shards are in shards of the same name, or in any; default: by the names",
    )
    group.add_argument(
        "--ignore_ids",
        type=ids,
        metavar="A,B",
        help="ids of labels that are not compared; default that of the legend, 255",
    )
    group.add_argument(
        "--class_map",
        type=class_map,
        default={},
        metavar="OLD=NEW,...",
        help="ids of labels in the classes of the predictions: 7=0,8=road,9=ignore; others stay",
    )
    group.add_argument(
        "--prediction_class_map", type=class_map, default={}, metavar="OLD=NEW,...", help="likewise"
    )
    group.add_argument(
        "--instance_divisor",
        type=whole,
        default=0,
        metavar="N",
        help="of instances: class id times N plus a number (1000 in Cityscapes); default 0: all "
        "instances are of class 1, and 0 is the background",
    )
    _add_metric_flags(command)


def _add_metric_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("metrics")
    group.add_argument(
        "--absent",
        choices=ABSENT,
        default="skip",
        help="what a metric of a class counts in means where it is 0/0; default skip",
    )
    group.add_argument(
        "--resize",
        choices=("none", "nearest"),
        default="none",
        help="bring predictions to the label's size; default none: they are failed rows",
    )
    group.add_argument(
        "--boundary",
        type=width,
        nargs="?",
        const=BOUNDARY_WIDTH,
        default=0.0,
        metavar="WIDTH",
        help="also boundary IoU and boundary F-score; width default 0.02 of the diagonal",
    )
    group.add_argument(
        "--bootstrap",
        type=whole,
        default=ROUNDS,
        metavar="N",
        help=f"rounds for 95 %% intervals over images, default {ROUNDS}; 0 for none",
    )
    group.add_argument(
        "--worst", type=positive, default=20, metavar="K", help="images by metric, default 20"
    )
    group.add_argument(
        "--fail_if",
        type=gate,
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit code 1 when it holds or cannot be known: 'miou < 0.6 or drift.confidence > 0.1'",
    )
    group.add_argument(
        "--write_masks", action="store_true", help="with --model: also write the masks"
    )


def check(flags: argparse.Namespace) -> None:
    """Refuses flags that contradict one another, or would have no effect. Raises UserError."""
    model, predictions = bool(flags.model), bool(flags.predictions)
    labels = bool(flags.labels) or model
    for problem, found in (
        (
            "say what is evaluated: --predictions=MASKS, or --model=DIR and --input=IMAGES",
            model == predictions,
        ),
        ("--model needs pictures; give --input", model and not flags.input),
        ("--input is for --model; masks are named by --predictions", not model and flags.input),
        (
            "--write_masks is for --model; predictions are masks already",
            flags.write_masks and not model,
        ),
        ("--resize has no effect without labels", flags.resize != "none" and not labels),
        ("--boundary has no effect without labels", flags.boundary and not labels),
        ("--class_map has no effect without labels", flags.class_map and not labels),
        (
            "--prediction_encoding, --prediction_suffix and --prediction_class_map have no effect "
            "with --model",
            model
            and (
                flags.prediction_encoding != "ids"
                or flags.prediction_suffix
                or flags.prediction_class_map
            ),
        ),
        (
            "--instance_divisor is for --label_encoding=instances",
            flags.instance_divisor
            and "instances" not in (flags.label_encoding, flags.prediction_encoding),
        ),
    ):
        if found:
            raise UserError(problem)


def named_ids(mapped: dict[int, str], classes: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """A class map with ids on the right, -1 for "ignore". Raises UserError."""
    pairs: list[tuple[int, int]] = []
    for old, new in mapped.items():
        if new == "ignore":
            pairs.append((old, -1))
        elif new in classes:
            pairs.append((old, classes.index(new)))
        elif new.isdecimal() and int(new) < len(classes):
            pairs.append((old, int(new)))
        else:
            known: Any = ", ".join(classes[:12])
            raise UserError(
                f"--class_map: {old}={new}, but the classes are 0 to {len(classes) - 1}: {known}"
            )
    return tuple(sorted(pairs))
