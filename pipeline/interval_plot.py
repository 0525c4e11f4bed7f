"""Means with their confidence intervals as inline SVG, coloured by the page's style sheet."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

_WIDTH, _ROW = 480, 30
_LEFT, _RIGHT, _TOP, _BOTTOM = 130, 20, 6, 24  # margins around the plotted area
_FEWEST_STEPS = 3


class Row(NamedTuple):
    """A line of the plot; `values` are what the mean is of."""

    title: str
    mean: float
    low: float
    high: float
    values: Sequence[float]


def interval_plot(rows: Sequence[Row], label: str, zero: bool = False) -> Markup:
    """Rows under each other on one axis.

    Args:
        rows: in one unit, at least one.
        label: what it shows, for those who cannot see it.
        zero: whether 0 is on the axis, and marked by a line.
    """
    found = [x for row in rows for x in (row.low, row.high, *row.values)]
    marks = ticks(min([*found, *([0.0] * zero)]), max([*found, *([0.0] * zero)]))
    baseline = _TOP + _ROW * len(rows)

    def at(value: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        return _LEFT + width * (value - marks[0]) / (marks[-1] - marks[0])

    parts = [
        Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            _WIDTH, baseline + _BOTTOM, label
        )
    ]
    for mark in marks:
        parts.append(
            Markup(
                '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>'
                '<text x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>'
            ).format(
                "mean" if zero and mark == 0 else "grid",
                *(at(mark), at(mark), _TOP, baseline),
                *(at(mark), baseline + 17, mark),
            )
        )
    for number, row in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(
            Markup(
                '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
                '<rect class="bin" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="3">'
                "<title>{}: {:.2f}, {:.2f} to {:.2f}</title></rect>"
                '<circle class="bin" cx="{:.2f}" cy="{:.1f}" r="5"/>'
            ).format(
                *(_LEFT - 12, y + 4, row.title),
                *(at(row.low), y - 1.5, max(0.5, at(row.high) - at(row.low))),
                *(row.title, row.mean, row.low, row.high),
                *(at(row.mean), y),
            )
        )
        for value in row.values:
            line = Markup('<line class="axis" x1="{:.2f}" x2="{:.2f}" y1="{:.1f}" y2="{:.1f}"/>')
            parts.append(line.format(at(value), at(value), y + 5, y + 11))
    return Markup("").join([*parts, Markup("</svg>")])


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, equally apart, from at most `low` to at least `high`: 4 to 10 of them."""
    span = (high - low) or max(1.0, abs(high) / 10)
    ten = 10.0 ** math.floor(math.log10(span / _FEWEST_STEPS))
    step = max(n for n in (1, 2, 5) if n * ten <= span / _FEWEST_STEPS * (1 + 1e-9)) * ten
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, max(last, first + 1) + 1)]
