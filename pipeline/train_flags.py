"""The flags of `pixelmill train`."""

import argparse

from pipeline.flag_values import (
    augmentations,
    fraction,
    positive,
    positive_number,
    seed_31,
    size,
    words,
)
from pipeline.flags import add_feature_flags, add_input_format

DESCRIPTION = """\
Trains a network on shards of examples and exports it as a SavedModel that pixelmill runs.

  pixelmill train segmenter --input shards/ --output unet/ --classes background,nucleus
  pixelmill train classifier --input digits/ --output cnn/
  pixelmill train generator --input digits/ --output gan/

A segmenter learns from shards with masks (image/segmentation/class/encoded), or from
image files with masks beside them, as `pixelmill pack` pairs them. A classifier and a generator
learn from shards with labels (image/class/label), or from a folder of images for each class.

A hash of each name puts it into the training or the validation part. OUT holds model/ (the
SavedModel, with its card inside), MODEL_CARD.md, metrics.json (precision, recall, F1 and IoU by
class), curves.csv, curves.png, and checkpoints: a training that was stopped goes on when the same
command is given again, to the same place. Two trainings on one machine give the same weights."""


def add_flags(command: argparse.ArgumentParser) -> None:
    """Adds all flags of the command but --verbose."""
    command.add_argument(
        "kind",
        metavar="KIND",
        choices=("segmenter", "classifier", "generator"),
        help="segmenter, classifier or generator",
    )
    _add_data_flags(command.add_argument_group("data"))
    add_example_flags(command.add_argument_group("examples"))
    add_network_flags(command.add_argument_group("network"))
    training = command.add_argument_group("training")
    add_training_flags(training)
    training.add_argument(
        "--patience",
        type=positive,
        metavar="EPOCHS",
        help="stop when so many bring nothing better on the validation part, default 20",
    )


def _add_data_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input", required=True, metavar="WHAT", help="folder, glob, name@N or list"
    )
    group.add_argument("--output", required=True, metavar="OUT", help="folder for the results")
    group.add_argument(
        "--overwrite", action="store_true", help="delete the training that is in OUT, start anew"
    )
    group.add_argument(
        "--validation_fraction",
        type=fraction,
        default=0.2,
        metavar="F",
        help="of the examples, to validate with, default 0.2",
    )
    group.add_argument(
        "--split_by",
        metavar="REGEX",
        help="keep examples together whose names have this part in common, such as the frames of "
        "a video: '^[^_]+' for all before the first _",
    )
    group.add_argument("--licence", default="", metavar="TEXT", help="of the model, for its card")


def add_example_flags(group: argparse._ArgumentGroup) -> None:
    """Adds flags that say what examples are, and how they are read."""
    group.add_argument(
        "--classes", type=words, metavar="A,B,...", help="names by class id; default: from the data"
    )
    group.add_argument(
        "--ignore_id",
        type=int,
        help="class id in masks that means unlabelled: left out of loss and metrics, default 255; "
        "-1 for none",
    )
    group.add_argument(
        "--max_failed_fraction",
        type=fraction,
        default=0.01,
        metavar="F",
        help="of the pictures that may be unreadable, default 0.01; wrong masks or labels are "
        "always refused",
    )
    group.add_argument("--max_pixels", type=positive, default=100_000_000, help="as for segment")
    add_input_format(group)
    add_feature_flags(group)
    group.add_argument(
        "--mask_feature", help="of a segmenter, default image/segmentation/class/encoded"
    )
    group.add_argument("--label_feature", help="of the others, default image/class/label")


def add_network_flags(group: argparse._ArgumentGroup) -> None:
    """Adds flags that decide a network."""
    group.add_argument(
        "--network",
        choices=("unet", "linknet"),
        help="of a segmenter, default unet; linknet has a sixth of its weights and takes about a "
        "third of its time",
    )
    group.add_argument(
        "--depth",
        type=positive,
        help="how often the resolution is halved: of a segmenter, default 4, of a classifier, 2",
    )
    group.add_argument(
        "--width",
        type=positive,
        help="channels of the first level; doubled by each level below, 1.6 times of a linknet; "
        "default 16, of a generator 12",
    )
    group.add_argument(
        "--norm",
        choices=("batch", "instance", "group"),
        help="of a segmenter, default batch; the others also learn from batches of one",
    )
    group.add_argument(
        "--image_size",
        type=size,
        metavar="HxW",
        help="at which a classifier or generator sees pictures; default: the usual one of the "
        "data, at most 128",
    )


def add_training_flags(group: argparse._ArgumentGroup) -> None:
    """Adds flags that decide how a network is trained."""
    group.add_argument(
        "--epochs",
        type=positive,
        help="at most; default 20, of a classifier 40, of a generator 110",
    )
    group.add_argument(
        "--batch_size", type=positive, help="default 8, of a classifier 32, of a generator 64"
    )
    group.add_argument(
        "--learning_rate",
        type=positive_number,
        help="the highest, default 0.001; of a classifier 0.002",
    )
    group.add_argument(
        "--crop_px",
        type=positive,
        metavar="PX",
        help="side of the random squares that a segmenter learns from, default 256; an epoch has "
        "as many as the pictures have room for",
    )
    group.add_argument(
        "--augment",
        type=augmentations,
        metavar="A,B,...",
        help="of flip, turn, scale, shift, colour, or none. Default flip,scale,colour; of a "
        "classifier shift,scale,colour, of a generator none. turn is for pictures without an up: "
        "microscopes, views from above",
    )
    group.add_argument(
        "--class_weights",
        choices=("balanced", "none"),
        help="balanced: rare classes count more, by 1 / sqrt(share); default balanced",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="auto: float16 with float32 weights on a GPU, float32 on a CPU",
    )
    group.add_argument("--seed", type=seed_31, default=0, help="default 0")
