"""Legends: what the classes of masks are called, which colours they have, and what is ignored."""

import colorsys
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.errors import UserError
from transforms import paths, storage

LEGEND = "legend.json"


class Legend(NamedTuple):
    """Classes by id.

    Attributes:
        classes: their names.
        colors: "#rrggbb" of each.
        ignore_id: that masks hold where there is no class.
    """

    classes: tuple[str, ...]
    colors: tuple[str, ...]
    ignore_id: int = 255

    def color_codes(self) -> tuple[tuple[int, int], ...]:
        """(red * 65536 + green * 256 + blue, class id). Raises UserError when two are equal."""
        found: dict[int, int] = {}
        for class_id, color in enumerate(self.colors):
            code = int(color[1:], 16)
            if code in found:
                raise UserError(
                    f"the legend gives {color} to {self.classes[found[code]]!r} and "
                    f"{self.classes[class_id]!r}; masks of colours cannot tell them apart"
                )
            found[code] = class_id
        return tuple(sorted(found.items()))


def read_legend(path: str) -> Legend:
    """A legend.json, a folder that holds one, or CVAT's labelmap.txt ("name:r,g,b:parts:actions").

    Raises:
        UserError: it cannot be read as one.
    """
    path = paths.absolute(path)
    if storage.is_folder(path):
        path = os.path.join(path, LEGEND)
    try:
        text = storage.read_bytes(path).decode()
        return _from_json(json.loads(text)) if text.lstrip().startswith("{") else _from_lines(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a legend: {error}; expected legend.json of a run, or CVAT's "
            "labelmap.txt with lines like road:128,64,128::"
        ) from error


def _from_json(fields: dict[str, Any]) -> Legend:
    rows = sorted(fields["classes"], key=lambda row: int(row["id"]))
    if [row["id"] for row in rows] != list(range(len(rows))):
        raise ValueError("the ids of its classes are not 0, 1, 2, ...")
    colors = tuple(str(row["color"]).lower() for row in rows)
    if bad := [color for color in colors if not re.fullmatch("#[0-9a-f]{6}", color)]:
        raise ValueError(f"{bad[0]!r} is no colour like #00ff80")
    return Legend(tuple(str(row["name"]) for row in rows), colors, int(fields["ignore_id"]))


def _from_lines(text: str) -> Legend:
    names, colors = [], []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, color = line.split(":")[:2]
            channels = [int(channel) for channel in color.split(",")]
            if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
                raise ValueError(f"{line!r} has no colour like 128,64,128")
            names.append(name)
            colors.append("#{:02x}{:02x}{:02x}".format(*channels))
    if not names:
        raise ValueError("it names no classes")
    return Legend(tuple(names), tuple(colors))


def stored_legend(out: str) -> dict[str, Any] | None:
    """The content of legend.json of a run; None without one. Raises OSError, ValueError."""
    try:
        found: dict[str, Any] = json.loads(storage.read_bytes(os.path.join(out, LEGEND)))
    except FileNotFoundError:
        return None
    return found


def write_legend(
    out: str, classes: Sequence[str], colors: Sequence[str], ignore_id: int | None = None
) -> None:
    """Writes legend.json: id, name and colour of every class, and the id that means "ignore"."""
    found = legend(classes, colors)
    if ignore_id is not None:
        found["ignore_id"] = ignore_id
    storage.write(out, LEGEND, json.dumps(found, indent=1).encode() + b"\n")


def legend(classes: Sequence[str], colors: Sequence[str] = ()) -> dict[str, Any]:
    """The legend. The ignore id is 255, or 65535 for masks of 16 bit. It is in masks only where
    the model has no class."""
    rows = [
        {"id": i, "name": name, "color": colors[i] if colors else default_color(i)}
        for i, name in enumerate(classes)
    ]
    return {"ignore_id": 255 if len(classes) <= 255 else 65535, "classes": rows}


def default_color(class_id: int) -> str:
    """A colour for a class, "#rrggbb": black for 0, then hues a golden angle apart."""
    if class_id == 0:
        return "#000000"
    hue = (class_id * 0.6180339887 + 0.35) % 1
    lightness = (0.55, 0.42, 0.68)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.75)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
