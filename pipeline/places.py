"""Looking at the places that flags name before anything takes time."""

import argparse
import os
import re
import time

from models.errors import UserError
from transforms import paths, storage


def check_places(flags: argparse.Namespace) -> str:
    """Looks at all places that flags name, before anything takes time.

    Returns:
        OUT in its one form.

    Raises:
        UserError: one cannot be used; the message says why.
    """
    out = paths.absolute(flags.output)
    if getattr(flags, "new_run", False):
        out = _new_folder(out, flags)
    storage.check_place(out, writes=True)
    named = (
        *("input", "model", "reference", "verifier", "feature_model", "predictions", "labels"),
        *("real", "augmented", "test", "annotations", "records"),
    )
    listed = [getattr(flags, name, None) or "" for name in named]
    for place in [part for names in listed for part in names.split(",")]:
        if storage.is_remote(place):
            storage.check_place(re.split(r"[*?\[]", paths.absolute(place.strip()))[0])
    return out


def _new_folder(out: str, flags: argparse.Namespace) -> str:
    """A folder below OUT for --new_run, "20261125T121500Z". Raises UserError."""
    if flags.overwrite or getattr(flags, "retry_failed", None):
        raise UserError(
            "--new_run starts anew beside other runs; leave out --overwrite and --retry_failed, "
            "which are about the run in --output"
        )
    made = os.path.join(out, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    print(f"new run: to go on with it give --output={made} without --new_run")
    return made
