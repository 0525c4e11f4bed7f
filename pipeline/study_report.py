"""The page of a study, OUT/report.html: the answer, its numbers, and what they mean."""

import json
import os
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipeline.interval_plot import Row, interval_plot
from pipeline.pages import created_text, page
from pipeline.report_parts import flat
from pipeline.run_files import REPORT, RUN
from pipeline.study_results import MEASURES, STUDY, TITLES, answer, points, readings, sentence
from transforms import storage

_TITLES = {**TITLES, "gan_test": "GAN-test"}
_LEVELS = {"helps": "good", "no difference shown": "warn", "harms": "bad"}


def write_report(out: str) -> None:
    """Writes OUT/report.html from OUT/study.json and OUT/run.json. Raises OSError."""
    study, run = (json.loads(storage.read_bytes(os.path.join(out, n))) for n in (STUDY, RUN))
    storage.write(out, REPORT, render(study, run).encode("utf-8", "replace"))


def render(study: Mapping[str, Any], run: dict[str, Any]) -> str:
    """The page, from the content of study.json and run.json."""
    kind = study["job"].removeprefix("study ")
    measures = MEASURES[kind]
    main = study["metric"]
    named = {**study["arms"], "gan_test": study["gan_test"]}
    return page(
        "study.html.j2",
        study=study,
        run=run,
        kind=kind,
        created=created_text(run),
        level=_LEVELS[answer(study)],
        headline=sentence(study, kind),
        metrics=measures.metrics,
        named=named,
        titles=_TITLES,
        points=points,
        readings=readings(study),
        by_class_title=measures.by_class_title,
        settings=flat(run["identity"]),
        reached=_plot({arm: found[main] for arm, found in named.items()}, "Reached"),
        differences=_plot(
            {arm: found[main] for arm, found in study["minus_real"].items()},
            "Differences from training with real pictures",
            zero=True,
        ),
    )


def _plot(found: Mapping[str, Mapping[str, Any]], label: str, zero: bool = False) -> Markup:
    """Of those that are numbers, in per cent."""
    rows = [
        Row(
            _TITLES[arm],
            100 * interval["mean"],
            100 * interval["low"],
            100 * interval["high"],
            [100 * value for value in interval["by_seed"]],
        )
        for arm, interval in found.items()
        if interval["mean"] is not None
    ]
    return interval_plot(rows, label, zero) if rows else Markup()
