"""The flags of `pixelmill study`."""

import argparse

from pipeline.flag_values import positive
from pipeline.train_flags import add_example_flags, add_network_flags, add_training_flags

DESCRIPTION = """\
Does augmented data help? Trains the same network on real pictures, on real and augmented ones, and
on augmented ones alone, with several seeds each, and tests every one on held-out real pictures.

  pixelmill study classifier --real digits/ --augmented made/ --test held_out/ --output study/
  pixelmill study segmenter --real shards/a* --augmented made/ --test shards/b* --output study/

The three are read as --input of `pixelmill train`; --test must hold nothing that the others were
made of. Every training has the same number of steps: as many as --epochs passes over real and
augmented pictures together take. So more data does not mean more training. The last epoch counts:
nothing is chosen by looking at --test.

OUT holds study.json, report.html, and trainings/ with a file for each training that has ended: a
study that was stopped goes on when the same command is given again, and --seeds may be raised."""


def add_flags(command: argparse.ArgumentParser) -> None:
    """Adds all flags of the command but --no_auth and --verbose."""
    command.add_argument(
        "kind",
        metavar="KIND",
        choices=("segmenter", "classifier"),
        help="segmenter or classifier",
    )
    group = command.add_argument_group("data")
    for name, text in (
        ("real", "real pictures to train with"),
        ("augmented", "made pictures to train with"),
        ("test", "real pictures to test with, which neither was made of"),
    ):
        group.add_argument(
            f"--{name}", required=True, metavar="WHAT", help=f"{text}: folder, glob, name@N or list"
        )
    group.add_argument("--output", required=True, metavar="OUT", help="folder for the results")
    group.add_argument(
        "--overwrite", action="store_true", help="delete the study that is in OUT, start anew"
    )
    group.add_argument(
        "--seeds",
        type=positive,
        default=5,
        metavar="N",
        help="trainings of each kind, at least 2, default 5; their seeds are --seed and the "
        "numbers after it",
    )
    add_example_flags(command.add_argument_group("examples"))
    add_network_flags(command.add_argument_group("network"))
    add_training_flags(command.add_argument_group("training"))
