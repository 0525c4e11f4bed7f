"""`make bench`: measures everything in turns and writes the table."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import limits, others, throughput, tiles
from benchmarks.made import make_dataset, make_models
from benchmarks.throughput import Case, Rate

FULL = [
    Case("cheap", 256, 8192, 16, 512),
    Case("cheap", 1024, 640, 16, 64),
    Case("middle", 256, 1536, 16, 128),
    Case("middle", 1024, 96, 8, 16),
    Case("heavy", 256, 192, 8, 32),
]
QUICK = [Case("cheap", 256, 8192, 16, 512)]
_PACKAGES = ("apache-beam", "tensorflow", "tfx-bsl", "ray", "pillow", "numpy")


def main() -> None:
    """Prints the table, and writes it where --output says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one case, one round: a first look")
    parser.add_argument("--output", metavar="FILE", help="Markdown; default: printed only")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = _table(Path(folder), flags.quick)
    print(text)
    if flags.output:
        Path(flags.output).write_text(text)


def _table(folder: Path, quick: bool) -> str:
    models = make_models(folder / "models")
    lines = [*_heading(quick), *_head()]
    stages, ahead = [], []
    for case in QUICK if quick else FULL:
        print(f"{case.model} model, {case.side_px}x{case.side_px}", flush=True)
        data = make_dataset(folder / "data", case.small, 1, case.side_px)
        limit = limits.measure(data, models[case.model], folder)
        rounds = 1 if quick or case != FULL[0] else 2
        found = throughput.measure(case, models[case.model], limit.batch_size, rounds, folder)
        lines += _rows(case, found, limit)
        stages.append(_stages(case, limit))
        ahead += _ahead(case, found)
    lines += ["", *ahead, *_WHY] if ahead else []
    lines += ["", *_STAGES, *stages, "", "| question | answer |", "|---|---|"]
    few, many, shards = (500, 2000, 200) if quick else (1000, 30_000, 10_000)
    answers = [
        others.memory(models["cheap"], few, many, folder),
        others.resume(models["cheap"], shards, folder),
        *others.start(folder),
        others.pack(1024 if quick else 16_384, folder),
        *tiles.windows(models["middle"], "middle", 3 if quick else 5, folder),
    ]
    lines += [f"| {answer.question} | {answer.answer} |" for answer in answers]
    return "\n".join(lines) + "\n"


def _heading(quick: bool) -> list[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return [
        "# How fast it is",
        "",
        f"Written by `make bench{' QUICK=1' if quick else ''}` on {datetime.date.today()}: "
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}, {platform.system()}), no "
        f"GPU, Python {platform.python_version()}, {versions}. Each contender reads TFRecord "
        "shards of JPEGs, runs the same SavedModel at the same batch size and writes PNG masks in "
        "shards; they ran in turns. The limit is cores / (read + decode + bare model + encode), "
        "or the rate of the bare model alone if that is lower; rates are of the steady state "
        "([throughput.py](../benchmarks/throughput.py), [limits.py](../benchmarks/limits.py)).",
        "",
    ]


def _head() -> list[str]:
    names = throughput.contenders()
    return [
        f"| model, pictures | batch | limit images/s | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]


def _rows(case: Case, found: dict[str, Rate | str], limit: limits.Limits) -> list[str]:
    """Rates with their share of the limit, then starts, then memory."""
    cells: list[list[str]] = [[], [], []]
    for rate in found.values():
        if isinstance(rate, str):
            print(rate, file=sys.stderr)
            for row in cells:
                row.append("failed")
            continue
        share = rate.images_per_s / limit.images_per_s
        cells[0].append(f"{rate.images_per_s:,.1f} ({share:.2f})")
        cells[1].append(f"{rate.start_s:.1f}")
        cells[2].append(f"{rate.peak_bytes / 1e6:,.0f}")
    name = f"{case.model}, {case.images:,} of {case.side_px}x{case.side_px}"
    return [
        f"| {name} | {limit.batch_size} | {limit.images_per_s:,.1f} | {' | '.join(cells[0])} |",
        f"| start, s | | | {' | '.join(cells[1])} |",
        f"| peak memory, MB | | | {' | '.join(cells[2])} |",
    ]


def _ahead(case: Case, found: dict[str, Rate | str]) -> list[str]:
    """A line for each contender that is faster than pixelmill."""
    rates = {name: rate.images_per_s for name, rate in found.items() if isinstance(rate, Rate)}
    ours = rates.pop("pixelmill", float("inf"))
    return [
        f"- {case.model}, {case.side_px}x{case.side_px}: {name} is {rate / ours:.2f} times as fast "
        "as pixelmill."
        for name, rate in rates.items()
        if rate > ours
    ]


_WHY = [
    "",
    "Peers fill batches across shards, where pixelmill's end with each shard, and tf.data decodes "
    "in threads that know nothing of Python's lock. No other contender measures what it writes, "
    "sums it up by class, keeps a row for each picture, or can be resumed.",
]
_STAGES = [
    "Milliseconds of one processor for one picture. Metrics are what pixelmill's segmenter takes "
    "beyond the bare model, for what it measures of each answer; less than nothing where its "
    "argmax, which is compiled, saves more. They are not in the limit.",
    "",
    "| model, pictures | read | decode | bare model | encode | metrics | model alone, images/s |",
    "|---|---|---|---|---|---|---|",
]


def _stages(case: Case, limit: limits.Limits) -> str:
    values = (limit.read_ms, limit.decode_ms, limit.model_ms, limit.encode_ms, limit.metrics_ms)
    cells = " | ".join(f"{value:.2f}" for value in values)
    return (
        f"| {case.model}, {case.side_px}x{case.side_px} | {cells} | {limit.model_only_per_s:,.1f} |"
    )


if __name__ == "__main__":
    main()
