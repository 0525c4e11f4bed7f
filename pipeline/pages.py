"""What all pages share: templates beside this file, and how numbers are shown in them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from pipeline import plots


def page(template: str, **fields: Any) -> str:
    """A page of a template, all text in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=plots.count_text,
        percent=plots.percent_text,
        size=plots.size_text,
        seconds=plots.seconds_text,
        bar=plots.bar,
    )
    return environment.get_template(template).render(**fields)


def created_text(run: dict[str, Any]) -> str:
    """When a run began, of its run.json: 5 March 2026, 14:02 UTC."""
    created = datetime.fromtimestamp(run["clock"]["created"], UTC)
    return f"{created:%d %B %Y, %H:%M} UTC".lstrip("0")


def settings_rows(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) of nested settings; the classes have a table of their own."""
    rows: list[tuple[str, str]] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            rows += settings_rows(value, f"{prefix}{name}.")
        elif name not in ("classes", "colors"):
            shown = value if isinstance(value, str) else json.dumps(value)
            rows.append((f"{prefix}{name}", shown))
    return rows
