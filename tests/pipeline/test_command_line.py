"""What the command line costs before it does anything."""

import subprocess
import sys

import pytest

from models.views import KINDS
from pipeline import tile_flags
from pipeline.flag_values import VIEWS
from transforms.tiling import windows

HEAVY = {"numpy", "tensorflow", "apache_beam", "pyarrow", "PIL", "scipy", "pydantic"}


@pytest.mark.parametrize(
    "words, light",
    [
        (["--help"], HEAVY),
        (["segment", "--help"], HEAVY),
        (["augment", "--help"], HEAVY),
        (["status", "nowhere"], {"tensorflow", "apache_beam"}),
        (["verify", "nowhere"], {"tensorflow", "apache_beam"}),
    ],
    ids=["help", "segment", "augment", "status", "verify"],
)
def test_what_only_tells_loads_nothing_heavy(words: list[str], light: set[str]) -> None:
    """Seconds to wait for help would be many; status and verify look at files alone."""
    program = (
        "import contextlib, io, sys\n"
        "from pipeline import cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    cli.main({words!r})\n"
        f"print(sorted({light!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == "[]\n"


def test_flags_offer_what_there_is() -> None:
    """Lists that flags have of their own, so that help need not load what is behind them."""
    assert tile_flags.BLENDS == windows.BLENDS
    assert VIEWS == KINDS
