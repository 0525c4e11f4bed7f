"""The axis of intervals: round numbers that hold all that is shown."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from pipeline.interval_plot import Row, interval_plot, ticks

SHARES = st.floats(-100, 100).map(lambda x: round(x, 4))


@given(SHARES, SHARES)
def test_ticks_hold_the_values(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 10
    assert marks[0] <= low + 1e-6 and marks[-1] >= high - 1e-6
    steps = {round(y - x, 9) for x, y in itertools.pairwise(marks)}
    assert len(steps) == 1 and f"{steps.pop():e}"[0] in "125"


def test_ticks_of_percentages() -> None:
    assert ticks(-2.1, 5.2) == [-4, -2, 0, 2, 4, 6]
    assert ticks(92.97, 94.5) == [92.5, 93, 93.5, 94, 94.5]


def test_everything_lies_within_the_plot() -> None:
    rows = [Row("a<b", 1.5, -2.1, 5.1, [0.4, 2.6]), Row("c", 96.0, 95.0, 97.0, [96.0])]
    svg = str(interval_plot(rows, "what it shows", zero=True))
    assert "a&lt;b" in svg and svg.count('class="mean"') == 1
    places = [float(x) for x in re.findall(r'\b(?:x1|cx|x)="([\d.-]+)"', svg)]
    assert places and min(places) >= 0 and max(places) <= 480
