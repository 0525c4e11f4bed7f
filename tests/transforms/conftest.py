"""Settings and places that the tests of transforms/ share."""

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "transforms", deadline=None, max_examples=40, database=None, derandomize=True
)
hypothesis.settings.load_profile("transforms")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that PIXELMILL_REAL_DATA names."""
    folder = os.environ.get("PIXELMILL_REAL_DATA")
    if not folder:
        pytest.skip("PIXELMILL_REAL_DATA does not name the folder of real images")
    return Path(folder)
