"""Augmenting shards into a folder: the usual machine, with a recipe in place of a model."""

import argparse
from collections.abc import Sequence
from typing import Any

from transforms.augmentation.recipe import Recipe
from transforms.inputs import Shard


def augment(
    recipe: Recipe,
    shards: Sequence[Shard],
    out: str,
    flags: argparse.Namespace,
    options: Any = None,
) -> int:
    """Makes what a recipe asks for of some shards; goes on with what is in `out`.

    Args:
        shards: TFRecord shards, as plan_input gives them.
        out: folder, absolute (see transforms.paths).
        flags: overwrite, max_failed_fraction, max_pixels, threads, verbose; see flags.py.
        options: Beam's, of engine.pipeline_options; None for the usual local runner.

    Returns:
        The exit code: 0 done, 1 over the budget of failures or not complete.

    Raises:
        UserError: it cannot start.
        engine.PipelineFailed, engine.InterruptedRun: as for all jobs.
    """
    raise NotImplementedError
