"""What the pages in docs/ tell is what their scripts find, clock and training aside."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "kernel_and_stride.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    name, path = "docs_kernel_and_stride", DOCS / "kernel_and_stride.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def table(name: str) -> list[list[str]]:
    """The rows between the marks, without the head."""
    (found,) = re.findall(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", PAGE, re.DOTALL)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()[2:]]


def test_weights_work_and_fields_of_the_page(script: ModuleType) -> None:
    rows = table("networks")
    assert [row[0] for row in rows] == [variant.name for variant in script.VARIANTS]
    for row, variant in zip(rows, script.VARIANTS, strict=True):
        bare = script.network(variant, (None, None))
        field = script.receptive_field(bare)
        assert row[1:5] == [
            f"{bare.count_params():,}",
            f"{script.multiply_adds_per_pixel(variant):,.0f}",
            str(field.window_hw[0]),
            str(field.stride_hw[0]),
        ]


def test_what_a_step_costs(script: ModuleType) -> None:
    assert table("steps") == [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in list(script.table_of_steps())[2:]
    ]


def test_multiply_adds_are_counted_by_hand(script: ModuleType) -> None:
    """Kernel 3: 9 taps from 1 to 12 channels, thrice from 12 to 12, then 12 to 10."""
    assert script.multiply_adds_per_pixel(script.VARIANTS[0]) == 9 * 12 + 3 * 9 * 144 + 120
