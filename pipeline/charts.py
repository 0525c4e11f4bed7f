"""Charts as inline SVG, coloured by the page's style sheet: curves, heat maps, calibration."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

_WIDTH, _HEIGHT = 400, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 26
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_CELL = 12  # of a heat map, px


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], label: str) -> Markup:
    """Lines over one axis, of at most six; (x, y) each, in the order of x."""
    points = [point for line in lines.values() for point in line]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    ticks = nice_ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        across = (x - x_low) / (x_high - x_low or 1)
        up = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return f"{_LEFT + width * across:.1f},{_TOP + height * (1 - up):.1f}"

    parts = [_begin(label)]
    for tick in ticks:
        y = _TOP + height * (1 - (tick - ticks[0]) / (ticks[-1] - ticks[0]))
        parts.append(_horizontal(y, f"{tick:g}"))
    for number, (name, line) in enumerate(list(lines.items())[:6]):
        if line:
            parts.append(
                Markup(
                    '<polyline class="line l{}" points="{}"><title>{}</title></polyline>'
                ).format(number, " ".join(place(*point) for point in line), name)
            )
    parts.append(_text(_LEFT, _HEIGHT - 8, f"{x_low:g}", "start"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 8, f"{x_high:g}", "end"))
    for number, name in enumerate(list(lines)[:6]):
        parts.append(
            Markup('<text class="key{}" x="{}" y="{}" text-anchor="end">{}</text>').format(
                number, _WIDTH - _RIGHT - 2, _TOP + 12 + 15 * number, name.replace("_", " ")[:40]
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])


def calibration(bins: Sequence[tuple[float, float, int]], label: str) -> Markup:
    """A reliability diagram: how often what was said with a confidence was right.

    Args:
        bins: (mean confidence, accuracy, count), each 0 to 1; empty ones are left out.
        label: what it shows, for those who cannot see it.
    """
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [_begin(label)]
    for quarter in range(5):
        share = quarter / 4
        parts.append(_horizontal(_TOP + height * (1 - share), f"{100 * share:g}%"))
        anchor = {0: "start", 4: "end"}.get(quarter, "middle")
        parts.append(_text(_LEFT + width * share, _HEIGHT - 8, f"{100 * share:g}%", anchor))
    parts.append(
        Markup('<line class="mean" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            _LEFT, _TOP + height, _LEFT + width, _TOP
        )
    )
    largest = max([count for _, _, count in bins] or [1])
    shown = [row for row in bins if row[2]]
    enough = sum(count for _, _, count in shown) / 10_000  # a line through fewer would be noise
    for (x1, y1, _), (x2, y2, _) in pairwise([row for row in shown if row[2] >= enough]):
        parts.append(
            Markup(
                '<line class="line l0" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
            ).format(
                *(_LEFT + width * x1, _TOP + height * (1 - y1)),
                *(_LEFT + width * x2, _TOP + height * (1 - y2)),
            )
        )
    for confidence, accuracy, count in shown:
        parts.append(
            Markup(
                '<circle class="bin" cx="{:.1f}" cy="{:.1f}" r="{:.1f}">'
                "<title>confidence {:.1%}, right {:.1%}, {:,} pixels</title></circle>"
            ).format(
                *(_LEFT + width * confidence, _TOP + height * (1 - accuracy)),
                *(2.5 + 4.5 * (count / largest) ** 0.5, confidence, accuracy, count),
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])


def heat_map(matrix: Sequence[Sequence[int]], names: Sequence[str], label: str) -> Markup:
    """A square of cells whose darkness is the share of the row; cells below 0.5 % are left out."""
    side = _CELL * len(names)
    parts = [
        Markup('<svg class="heat" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            side, side, label
        ),
        Markup('<rect class="track" width="{}" height="{}"/>').format(side, side),
    ]
    for row, counts in enumerate(matrix):
        total = sum(counts)
        for column, count in enumerate(counts):
            if total and count / total >= 0.005:
                parts.append(
                    Markup(
                        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" opacity="{:.2f}">'
                        "<title>{} as {}: {:.1%}</title></rect>"
                    ).format(
                        "hit" if row == column else "miss",
                        *(column * _CELL, row * _CELL, _CELL - 1, _CELL - 1),
                        *(0.15 + 0.85 * count / total, names[row][:60], names[column][:60]),
                        count / total,
                    )
                )
    return Markup("").join([*parts, Markup("</svg>")])


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from at most `low` to at least `high`."""
    if high <= low:
        high = low + 1
    power = 10.0**-12
    while True:
        for step in _STEPS:
            first = (low / (step * power)) // 1 * step * power
            ticks = [first]
            while ticks[-1] < high - 1e-12 * abs(high) and len(ticks) <= 6:
                ticks.append(round(ticks[-1] + step * power, 12))
            if len(ticks) <= 6 and ticks[-1] >= high - 1e-12 * abs(high):
                return ticks
        power *= 10


def _begin(label: str) -> Markup:
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        _WIDTH, _HEIGHT, label
    )


def _horizontal(y: float, text: str) -> Markup:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
        _LEFT, _WIDTH - _RIGHT, y, y
    )
    return line + _text(_LEFT - 6, y + 4, text, "end")


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text
    )
