"""Numbers for reading: plots as inline SVG, coloured by the page's style sheet, and short texts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from transforms.sums import histogram_mean

_HISTOGRAMS = (
    ("confidence", 1.0, "Confidence", "probability of the chosen class, by pixel"),
    ("entropy", 1.0, "Entropy", "0 when one class has all the probability, 1 when all are equal"),
    ("margin", 1.0, "Margin", "between the two likeliest classes, by pixel"),
    ("verifier_confidence", 1.0, "Verifier", "its probability of the class that it sees, by image"),
    ("brightness", 255.0, "Brightness", "mean of each image, 0 black to 255 white"),
    ("saturation", 255.0, "Saturation", "mean of each image, 0 grey to 255 pure colours"),
)
_BINS = 64
_WIDTH, _HEIGHT = 400, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24  # margins around the plotted area
_SHARES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)  # that may be marked on the vertical axis
_APART = 16  # between two marks, so that their texts do not touch


class Drawing(NamedTuple):
    """A histogram with its words; `mean` as it is to be read, `other_mean` of another run."""

    title: str
    text: str
    mean: str
    svg: Markup
    other_mean: str = ""


def drawings(sums: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> list[Drawing]:
    """The histograms among the sums of a run that a person wants to see; those of another run as
    outlines."""
    found = []
    for name, top, title, text in _HISTOGRAMS:
        if name in sums:
            mean = top * histogram_mean(sums[name])
            beside = (other or {}).get(name, ())
            svg = histogram(
                sums[name], top, mean, f"Histogram: {title}, {text}, mean {mean:.3g}", beside
            )
            read = "{:.3f}" if top == 1 else "{:.0f}"
            other_mean = read.format(top * histogram_mean(beside)) if beside else ""
            found.append(Drawing(title, text, read.format(mean), svg, other_mean))
    for name, title in (("widths", "Widths"), ("heights", "Heights")):
        if len(sums.get(name, ())) > 1:
            found.append(_sizes(sums[name], (other or {}).get(name, {}), title))
    return found


def _sizes(counts: Mapping[str, int], other: Mapping[str, int], title: str) -> Drawing:
    """Widths or heights of the images, {"480": 3}, from zero to the largest."""
    sizes = {int(size): n for size, n in counts.items()}
    beside = {int(size): n for size, n in other.items()}
    top = max([*sizes, *beside])
    bins, others = [0] * _BINS, [0] * _BINS
    for size, n in sizes.items():
        bins[min(_BINS - 1, size * _BINS // top)] += n
    for size, n in beside.items():
        others[min(_BINS - 1, size * _BINS // top)] += n

    def mean(of: Mapping[int, int]) -> float:
        return sum(size * n for size, n in of.items()) / sum(of.values())

    svg = histogram(
        bins,
        top,
        mean(sizes),
        f"Histogram: {title} of images, up to {top} pixels",
        others if beside else (),
    )
    return Drawing(
        title,
        "of the images in pixels",
        f"{mean(sizes):.0f}",
        svg,
        f"{mean(beside):.0f}" if beside else "",
    )


def bar(share: float) -> Markup:
    """A horizontal bar over a part of its place, 0 to 1."""
    length = 100 * min(1.0, max(0.0, share))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/>'
        '<rect class="bin" width="{:.3f}" height="8"/></svg>'
    ).format(length)


def sway(share: float) -> Markup:
    """A bar from the middle of its place: to the left below zero, to the right above, -1 to 1."""
    length = 50 * min(1.0, abs(share))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/>'
        '<rect class="{}" x="{:.3f}" width="{:.3f}" height="8"/></svg>'
    ).format("less" if share < 0 else "bin", 50 - length if share < 0 else 50, length)


def strip(shares: Sequence[tuple[str, str, float]]) -> Markup:
    """(name, colour, share) side by side in one bar; those under a thousandth are left out."""
    parts, at = [], 0.0
    for name, color, share in shares:
        if share >= 0.001:
            parts.append(
                Markup(
                    '<rect x="{:.2f}" width="{:.2f}" height="14" fill="{}"><title>{}: {:.1%}'
                    "</title></rect>"
                ).format(1000 * at, 1000 * share, color, name[:80], share)
            )
            at += share
    return Markup(
        '<svg class="shares" viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">{}'
        "</svg>"
    ).format(Markup("").join(parts))


def histogram(
    counts: Sequence[int], top: float, mean: float, label: str, other: Sequence[int] = ()
) -> Markup:
    """A histogram whose heights grow with the square root, so that rare values stay visible.

    Args:
        counts: in equal steps: of n, the first stands for 0 and the last for `top`.
        top: the largest value.
        mean: marked by a line; not a number for none.
        label: what it shows, for those who cannot see it.
        other: counts of another run in the same steps, drawn as an outline.
    """
    bins, beside = rebin(counts, _BINS), rebin(other, _BINS) if len(other) else []
    total, beside_total = max(1, sum(bins)), max(1, sum(beside))
    highest = max(max(bins) / total, max([0, *beside]) / beside_total, 1 / total)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = width / len(bins)
    baseline = _TOP + height

    def rise(share: float) -> float:
        return height * math.sqrt(share / highest)

    parts = [
        Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            _WIDTH, _HEIGHT, label
        )
    ]
    for share in _marks(highest, height):
        y = baseline - rise(share)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text x="{}" y="{:.1f}" text-anchor="end">{:g}%</text>'
            ).format(_LEFT, _WIDTH - _RIGHT, y, y, _LEFT - 6, y + 4, 100 * share)
        )
    for i, count in enumerate(bins):
        if count:
            tall = max(0.75, rise(count / total))
            parts.append(
                Markup(
                    '<rect class="bin" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}">'
                    "<title>{:.3g} to {:.3g}: {:.3g}%</title></rect>"
                ).format(
                    *(_LEFT + i * step, baseline - tall, step - 0.8, tall),
                    *(top * i / len(bins), top * (i + 1) / len(bins), 100 * count / total),
                )
            )
    if beside:
        rises = [f"V{baseline - rise(n / beside_total):.2f}h{step:.2f}" for n in beside]
        path = f"M{_LEFT} {baseline}{''.join(rises)}V{baseline}"
        parts.append(Markup('<path class="outline" d="{}"/>').format(path))
    if not math.isnan(mean):
        x = _LEFT + width * min(1.0, max(0.0, mean / top))
        parts.append(
            Markup('<line class="mean" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                x, x, _TOP - 4, baseline
            )
        )
    parts.append(_horizontal_axis(top, baseline, width))
    return Markup("").join([*parts, Markup("</svg>")])


def rebin(counts: Sequence[int], bins: int) -> list[int]:
    """Joins neighbouring bins: `bins` of them, or as many as there are when that is fewer."""
    bins = max(1, min(bins, len(counts)))
    joined = [0] * bins
    for i, count in enumerate(counts):
        joined[i * bins // len(counts)] += count
    return joined


def _marks(highest: float, height: float) -> list[float]:
    """Shares worth a line, from the largest down, none too near to another or to the ground."""
    marks: list[float] = []
    last = math.inf
    for share in reversed(_SHARES):
        y = height * math.sqrt(share / highest)
        if share <= highest and _APART <= y <= last - _APART:
            marks.append(share)
            last = y
    return marks


def _horizontal_axis(top: float, baseline: float, width: float) -> Markup:
    parts = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _LEFT, _LEFT + width, baseline, baseline
        )
    ]
    for quarter in range(5):
        anchor = {0: "start", 4: "end"}.get(quarter, "middle")
        value = top * quarter / 4
        parts.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{:g}</text>').format(
                *(_LEFT + width * quarter / 4, baseline + 17, anchor),
                round(value) if top > 1 else value,
            )
        )
    return Markup("").join(parts)


def count_text(number: int) -> str:
    """A whole number with separators of thousands."""
    return f"{number:,}"


def percent_text(share: float, digits: int = 1) -> str:
    """A share of 1 as a percentage; what is not nothing or all is not shown as such."""
    if 0 < share < 0.5 * 10 ** -(digits + 2):
        return f"<{10**-digits:.{digits}f}%"
    if 1 - 0.5 * 10 ** -(digits + 2) < share < 1:
        return f">{100 - 10**-digits:.{digits}f}%"
    return f"{100 * share:.{digits}f}%"


def size_text(size_bytes: int) -> str:
    """A number of bytes for reading: 950 B, 31.6 MB."""
    value, units = float(size_bytes), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 999.95 and (larger := next(units, None)):
        value, unit = value / 1000, larger
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration for reading: 0.14 s, 45.6 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
