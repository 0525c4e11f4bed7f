"""Looking at the places that flags name before anything takes time."""

import argparse
import re

from transforms import paths, storage


def check_places(flags: argparse.Namespace) -> str:
    """Looks at all places that flags name, before anything takes time.

    Returns:
        OUT in its one form.

    Raises:
        UserError: one cannot be used; the message says why.
    """
    out = paths.absolute(flags.output)
    storage.check_place(out, writes=True)
    for place in [*(flags.input or "").split(","), getattr(flags, "model", None) or ""]:
        if storage.is_remote(place):
            storage.check_place(re.split(r"[*?\[]", paths.absolute(place.strip()))[0])
    return out
