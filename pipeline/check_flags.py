"""Flags of `pixelmill generate` that say what is looked at, and what costs a picture."""

import argparse

from pipeline.flag_values import fraction, near_bits, positive, words


def add_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "checking", "What is made is looked at; the report's scorecard says what was seen."
    )
    group.add_argument(
        "--verifier", metavar="DIR", help="SavedModel of a classifier: predicts every label"
    )
    group.add_argument("--verifier_card", metavar="YAML", help="its card, if it needs one")
    group.add_argument(
        "--accept",
        choices=("all", "agree"),
        default="all",
        help="agree: only pictures whose predicted label is the asked one; others are drawn again",
    )
    group.add_argument(
        "--min_confidence",
        type=fraction,
        default=0.0,
        metavar="P",
        help="only pictures of whose label the verifier is so sure, 0 to 1, default 0",
    )
    group.add_argument(
        "--max_attempts",
        type=positive,
        metavar="N",
        help="for one picture, then it has failed; default 10 where pictures may be rejected",
    )
    group.add_argument(
        "--reference",
        metavar="WHAT",
        help="training images, shards or a folder: to compare with, and to find copies of",
    )
    group.add_argument(
        "--drop",
        type=words,
        default=[],
        metavar="copies,duplicates",
        help="also draw again what copies the reference, or repeats a picture of its shard",
    )
    group.add_argument(
        "--near_bits",
        type=near_bits,
        default=3,
        metavar="N",
        help="near duplicates differ in at most so many of 64 bits of a hash, 0 to 7, default 3",
    )
    group.add_argument(
        "--feature_model",
        metavar="DIR",
        help="SavedModel with a pooled output, for distances; default: the verifier's features",
    )
    group.add_argument("--feature_model_card", metavar="YAML", help="its card, if it needs one")
