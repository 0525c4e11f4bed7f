"""Gates: which conditions fail a run, and how those that cannot be understood are refused."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gates import GateError, parse_gate

METRICS: dict[str, Any] = {
    "complete": True,
    "shards": {"planned": 3, "over_budget_names": ["a"]},
    "records": {"read": 100, "failed": 3},
    "metrics": {
        "miou": 0.61,
        "macc": math.nan,
        "boundary_iou": None,
        "image_bytes_quantiles": {"0.5": 12.0},
        "classes": [
            {"id": 0, "name": "road", "iou": 0.9},
            {"id": 1, "name": "traffic sign", "iou": 0.3},
        ],
    },
    "sums": {"pixels": 12},
}


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("miou<0.6", False),
        ("miou <= 0.61", True),
        ("metrics.miou > .5e0", True),
        ("0.6 > miou", False),
        ("records.failed >= 3 and miou < 0.7", True),
        ("records.failed > 3 or miou < 0.6", False),
        ("miou > 1 or records.failed > 1 and miou > 0.6", True),
        ("(miou < 1 or records.failed > 1) and miou > 0.7", False),
        ("miou < records.read", True),
        ("complete == 0", False),
        ("complete != 1", False),
        ("classes.road.iou < 0.8", False),
        ('classes."traffic sign".iou < 0.8', True),
        ("classes.1.iou < 0.8", True),
        ("image_bytes_quantiles.0.5 < 13", True),
        ("sums.pixels == 12", True),
        ("records.failed > -1", True),
    ],
)
def test_condition(text: str, failed: bool) -> None:
    assert parse_gate(text).failed(METRICS) is failed


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("macc < 0.1", True),
        ("macc > 0.1", True),
        ("macc == macc", True),
        ("boundary_iou < 0.1", True),
        ("boundary_iou < 0.1 and miou < 0.6", False),  # false, whatever was not measured
        ("boundary_iou < 0.1 and miou < 0.7", True),
    ],
)
def test_what_was_not_measured_fails_closed(text: str, failed: bool) -> None:
    assert parse_gate(text).failed(METRICS) is failed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mIou < 0.6", "did you mean miou"),
        ("miou < 0.6 and iou < 0.5", "classes.road.iou"),
        ("miou < 7 or fialed > 2", "records.failed"),  # looked up though the first one decides
        ("classes.raod.iou < 1", "classes.road.iou"),
        ("classes < 1", "classes is a list, expected a number; in it are classes.road"),
        ("records > 1", "records is a group, expected a number; in it are records.read"),
    ],
)
def test_unknown_names_are_errors_that_list_near_ones(text: str, message: str) -> None:
    with pytest.raises(GateError) as error:
        parse_gate(text).failed(METRICS)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "miou", "miou <", "< 0.5", "miou < 0.5 0.6", "miou < 0.5 and", "(miou < 0.5"),
        *("miou < 0.5)", "miou = 0.5", "miou < 0.5; import os", "__import__('os') < 1"),
        *("miou < 0.5 < 0.6", "not miou < 0.5", "miou < 0.5x", "1+1 < 3", "a.b. < 1", "()"),
        *("[].append < 1", "miou < 0.5 && miou > 1", "f(1) < 2", "(" * 5000),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(GateError, match="--fail_if"):
        parse_gate(text)


@settings(max_examples=50)
@given(st.text("miou.<>=()0 andr\"\n'-é", max_size=20) | st.text(max_size=20))
def test_any_text_is_a_gate_or_an_error(text: str) -> None:
    with contextlib.suppress(GateError):
        parse_gate(text).failed(METRICS)


def test_values_are_told() -> None:
    gate = parse_gate(" miou < 0.7 and records.failed > 1 ")
    assert gate.text == "miou < 0.7 and records.failed > 1"
    assert gate.values(METRICS) == {"miou": 0.61, "records.failed": 3.0}
