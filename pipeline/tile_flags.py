"""Flags of windows and of several views of a picture."""

import argparse

from pipeline.flag_values import VIEWS, overlap, tile, views

BLENDS = ("gaussian", "hann", "uniform", "crop")  # transforms.tiling.windows has them too


def add_flags(command: argparse.ArgumentParser, with_views: bool) -> None:
    """Args: with_views: the job averages answers, so that --tta makes sense."""
    group = command.add_argument_group(
        "windows", "For pictures larger than the model was made for."
    )
    group.add_argument(
        "--tile_px",
        type=tile,
        metavar="N|HxW",
        help="show the model windows of this size, one beside the other, and join the answers",
    )
    group.add_argument(
        "--overlap_px",
        type=overlap,
        metavar="N|auto",
        help="pixels that neighbouring windows share at least; auto (default): as far as the model "
        "looks around a pixel, by its card or measured at the start",
    )
    group.add_argument(
        "--blend",
        choices=BLENDS,
        help="how windows count where they overlap; crop: each pixel is of the window in whose "
        "middle it is nearest. Default crop where the overlap is as large as the model looks, "
        "else gaussian",
    )
    if with_views:
        group.add_argument(
            "--tta",
            type=views,
            metavar="+".join(VIEWS),
            help="average the probabilities of several views: flips (2), turns by quarters (4), "
            "scales (3), or products of them as in flips+turns (8)",
        )
