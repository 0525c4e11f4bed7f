"""What all pages share: templates, and how numbers are shown in them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from pipeline import plots, report_parts


def page(template: str, **fields: Any) -> str:
    """A page of a template, all text in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
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
        sway=plots.sway,
        ranked=report_parts.ranked,
    )
    return environment.get_template(template).render(**fields)


def created_text(run: Mapping[str, Any]) -> str:
    """When a run began, of its run.json: 5 March 2026, 14:02 UTC."""
    created = datetime.fromtimestamp(run["clock"]["created"], UTC)
    return f"{created:%d %B %Y, %H:%M} UTC".lstrip("0")
