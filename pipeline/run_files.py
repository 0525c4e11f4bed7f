"""The files of a run besides its shards: run.json, plan, metrics.json and _SUCCESS."""

import dataclasses
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from models.errors import UserError
from pipeline import __version__
from pipeline.legends import LEGEND, stored_legend
from transforms import commits, storage
from transforms.augmentation.filters import LEFT_OUT
from transforms.counters import BATCH_SIZE, INFERENCES, image_counters
from transforms.guard import REFERENCE
from transforms.inputs import Plan
from transforms.label_sources import coco
from transforms.live import INTERRUPTED
from transforms.regroup import STAGED
from transforms.retry import RETRIES
from transforms.selection import KEYS
from transforms.shard_report import Totals, allowed_failures, json_lines
from transforms.sums import exact_quantiles, histogram_mean, plain, quantiles

FORMAT = 1
RUN = commits.RUN
PLAN = "plan.jsonl"
METRICS, REPORT, SUCCESS = "metrics.json", "report.html", "_SUCCESS"
COMPARISON = "comparison.html"  # with another run
DUPLICATES = "duplicates.csv"  # pictures that repeat an earlier one
PARTNERS, PARTNERS_INDEX = "partners.jsonl", "partners_index.jsonl"  # of what is evaluated
# All that pixelmill ever makes in OUT, in the order of deletion: what says "done" goes first, and
# run.json last, so that a deletion that was cut short leaves a run that can go on.
OURS = (
    *(SUCCESS, commits.METRICS, METRICS, REPORT, COMPARISON),
    *("masks", "images", "confidence", "features", "rejected", LEFT_OUT, "records"),
    *(RETRIES, "model"),
    *("rows", "unpaired", "unpaired.csv", PARTNERS, PARTNERS_INDEX),
    *("images.csv", "images.parquet", "classes.csv", "classes.parquet"),
    *(LEGEND, "MODEL_CARD.md", "curves.csv", "curves.png", "checkpoint.npz", "best.npz"),
    *("study.json", "trainings"),
    *(DUPLICATES, KEYS, coco.FOLDER, STAGED, PLAN, REFERENCE, storage.TEMPORARY, RUN),
)
_VERSIONS_OF = ("apache-beam", "tensorflow", "tfx-bsl", "pillow", "numpy", "pyarrow")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class RunError(UserError):
    """OUT cannot be used as asked; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What run.json says.

    Attributes:
        job: "segment", "pack", "train classifier", "study segmenter" and so on.
        identity: all that decides the bytes of the output. A resumed run must have the same.
        notes: what a person may want to know besides.
        first_digest: of the identity that the run began with, where that has changed since.
    """

    job: str
    identity: Mapping[str, Any]
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    first_digest: str = ""

    @property
    def digest(self) -> str:
        """What its shards' commit records are marked with."""
        return self.first_digest or commits.run_digest(self.job, self.identity)


def begin(out: str, run: Run, plan: Plan, overwrite: bool) -> Run | None:
    """Prepares OUT: new, or resumed when it holds the same run.

    Returns:
        The run that is resumed, None when it is new.

    Raises:
        RunError: OUT holds something else, or a different run, or cannot be written.
    """
    try:
        if overwrite:
            clear(out)
        stored = read_run(out)
        if stored is None:
            _check_empty(out)
            if not storage.create_once(out, RUN, _run_json(run)):
                stored = read_run(out)
        if stored is not None:
            _same_run(out, stored, run)
        storage.delete_dead(out)
        storage.write(out, PLAN, plan.to_lines().encode())
        if not {shard.name for shard in plan.shards} <= commits.committed_names(out):
            storage.delete(os.path.join(out, SUCCESS))
    except OSError as error:
        raise RunError(f"cannot write to {error.filename or out}: {error.strerror}") from error
    return stored


def clear(out: str) -> None:
    """Deletes the run that is in OUT, if there is one. Raises OSError."""
    if any(storage.is_file(os.path.join(out, name)) for name in (RUN, f"{STAGED}/{RUN}")):
        for name in OURS:
            storage.delete_tree(os.path.join(out, name))


def check_same(out: str, run: Run, overwrite: bool) -> None:
    """Whether `begin` would take OUT for this run; changes nothing. Raises RunError."""
    if overwrite:
        return
    try:
        stored = read_run(out)
        if stored is None:
            _check_empty(out)
    except OSError as error:
        raise RunError(f"cannot read {error.filename or out}: {error.strerror}") from error
    if stored is not None:
        _same_run(out, stored, run)


def accept_mended(out: str, run: Run, plan: Plan) -> None:
    """Lets files of the input differ from those that the run began with, in size but not in name.

    run.json then describes the input as it is now, so that the same command goes on later. What
    marks the commit records stays.

    Raises:
        RunError: OUT holds no run, or one over other files.
        OSError: the storage failed.
    """
    stored = read_run(out)
    if stored is None:
        raise RunError(f"--retry_failed: {out} holds no run; give the command without it")
    if stored.identity.get("input") == run.identity["input"]:
        return
    old, new = (_names(p) for p in (read_plan(out), plan))
    for names, what in (
        (old - new, "are gone, such as {}; put them back, if only as empty files"),
        (new - old, "are new, such as {}; name those that the run had by --input"),
    ):
        if names:
            example = what.format(storage.as_text(min(names)))
            raise RunError(f"--retry_failed: {len(names):,} files of the input {example}")
    identity = {**stored.identity, "input": run.identity["input"]}
    mended = Run(stored.job, identity, stored.notes, stored.digest)
    if _flat(identity) == _flat(run.identity):  # else begin() tells what differs
        storage.write(out, RUN, _run_json(mended))


def _names(plan: Plan) -> set[str]:
    shards = [(shard, file.path) for shard in plan.shards for file in shard.files]
    return {f"{shard.root}/{path}" for shard, path in shards} | {
        shard.root for shard in plan.shards if shard.is_examples
    }


def _check_empty(out: str) -> None:
    names: Iterable[str]
    if storage.is_remote(out):
        names = (path.partition("/")[0] for path, _ in storage.list_files(out))
    else:
        names = sorted(os.listdir(out)) if storage.is_folder(out) else ()
    for name in names:
        if name not in (storage.TEMPORARY, RUN, STAGED):  # of one that begins at the same moment
            raise RunError(
                f"{out} is not empty and not a run of pixelmill (there is {name}, but no "
                f"{RUN}); choose another --output"
            )


def read_run(out: str) -> Run | None:
    """The run in OUT, None when there is none. Raises RunError when run.json cannot be read."""
    path = os.path.join(out, RUN)
    try:
        fields = json.loads(storage.read_bytes(path))
        if fields["format"] != FORMAT:
            raise RunError(f"{path} is of another version of pixelmill ({fields['pixelmill']})")
        return Run(fields["job"], fields["identity"], fields["notes"], fields.get("digest") or "")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(
            f"{path} cannot be read as a run of pixelmill: {error}; its own command with "
            "--overwrite starts it anew"
        ) from error


def read_plan(out: str) -> Plan:
    """The plan in OUT. Raises RunError."""
    path = os.path.join(out, PLAN)
    try:
        return Plan.from_lines(storage.read_bytes(path).decode())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} cannot be read: {error}; give the command of the run again"
        ) from error


def _run_json(run: Run) -> bytes:
    fields = {
        "format": FORMAT,
        "pixelmill": __version__,
        "job": run.job,
        "identity": run.identity,
        "notes": run.notes,
        **({"digest": run.first_digest} if run.first_digest else {}),
        "versions": {name: version(name) for name in _VERSIONS_OF}
        | {"python": platform.python_version()},
        "clock": {"created": round(time.time(), 3)},
    }
    return json.dumps(fields, indent=1).encode() + b"\n"


def _same_run(out: str, stored: Run, run: Run) -> None:
    old, new = (_flat({"job": r.job, **r.identity}) for r in (stored, run))
    differences = [
        f"  {name}: {old.get(name, 'not set')} in {out}, now {new.get(name, 'not set')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise RunError(
            "\n".join(
                [
                    f"{out} holds another run. What differs:",
                    *differences,
                    "Choose another --output, or --overwrite to delete that run and start anew.",
                ]
            )
        )


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = json.dumps(value)
    return flat


def read_metrics(out: str) -> dict[str, Any]:
    """The content of metrics.json. Raises RunError."""
    path = os.path.join(out, METRICS)
    try:
        found: dict[str, Any] = json.loads(storage.read_bytes(path))
        return found
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def finish(totals: Totals, out: str, max_failed_fraction: float = 1.0) -> Totals:
    """Writes metrics.json, the report, and _SUCCESS when the run is complete. May run twice.

    After an interruption there is nothing to tell: the run will go on.
    """
    if INTERRUPTED in dict(totals.errors).values():
        return totals
    from pipeline.report import write_report  # its libraries are for this moment only

    plan, run = read_plan(out), read_run(out)
    planned = len(plan.shards)
    complete = is_complete(totals, planned)
    metrics = metrics_of(totals, planned, stored_legend(out))
    if run is not None and run.job == "generate":
        metrics["scorecard"] = _scorecard(out, plan, run, metrics["sums"])
    if run is not None and run.job == "evaluate":
        from pipeline.evaluation import measure

        metrics["metrics"] |= measure(out, plan, run, metrics, stored_legend(out) or {})
    allowed = allowed_failures(totals.read, max_failed_fraction)
    metrics["records"]["over_budget"] = totals.failed > allowed
    storage.write(out, METRICS, json_lines(metrics))
    if run is None or run.job != "describe":
        write_report(out)
    if complete:
        storage.write(out, SUCCESS, b"")
        storage.delete_dead(out)
    else:
        storage.delete(os.path.join(out, SUCCESS))
    return totals


def _scorecard(out: str, plan: Plan, run: Run, sums: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is to be said of generated pictures; None, with a message, when files are damaged."""
    from pipeline.scorecard import measure

    try:
        reference = (
            read_metrics(os.path.join(out, REFERENCE)) if "reference" in run.identity else None
        )
        return measure(out, plan, sums, run.identity, reference)
    except (OSError, ValueError, KeyError, RunError) as error:
        logging.getLogger(__name__).exception("the scorecard of %s could not be made", out)
        print(f"pixelmill: no scorecard: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def is_complete(totals: Totals, planned: int) -> bool:
    """Whether every shard is committed and no record is unaccounted for."""
    return totals.shards == planned and totals.read == totals.written + totals.failed


def metrics_of(totals: Totals, planned: int, found_legend: dict[str, Any] | None) -> dict[str, Any]:
    """The content of metrics.json: counts, metrics with names, and the sums they come from."""
    sums = plain(totals.sums)
    named: dict[str, Any] = {
        f"mean_{name}": histogram_mean(sums[name])
        for name in ("confidence", "entropy", "margin")
        if name in sums
    }
    if "brightness" in sums:
        named["mean_brightness"] = 255 * histogram_mean(sums["brightness"])
    for name, find in (
        ("image_bytes", quantiles),
        ("widths", exact_quantiles),
        ("heights", exact_quantiles),
    ):
        if name in sums:
            values = find(sums[name], _QUANTILES)
            named[f"{name}_quantiles"] = dict(zip(map(str, _QUANTILES), values, strict=True))
    if found_legend is not None and "labels" in sums:
        named["labels"] = [
            {**row, "images": sums["labels"].get(str(row["id"]), 0)}
            for row in found_legend["classes"]
        ]
    if found_legend is not None and "class_pixels" in sums:
        named["classes"] = _class_table(sums, found_legend)
    return {
        "format": FORMAT,
        "complete": is_complete(totals, planned),
        "shards": {
            "planned": planned,
            "committed": totals.shards,
            "failed": totals.shards_failed,
            "over_budget": totals.shards_over_budget,
            "over_budget_names": totals.over_budget,
            "errors": dict(totals.errors),
        },
        "records": {
            "read": totals.read,
            "written": totals.written,
            "failed": totals.failed,
            "failed_by_reason": dict(sorted(totals.failed_by_reason.items())),
        },
        "bytes": {"in": totals.bytes_in, "out": totals.bytes_out},
        "metrics": named,
        "sums": sums,
        "highlights": totals.highlights,
        "counters": image_counters(totals.read, totals.written, totals.failed_by_reason),
        "clock": {
            "microseconds": dict(totals.microseconds),
            "distributions": dict(totals.distributions),
            "counters": {INFERENCES: totals.distributions.get(BATCH_SIZE, {}).get("sum", 0)},
        },
    }


def _class_table(sums: Mapping[str, Any], found_legend: Mapping[str, Any]) -> list[dict[str, Any]]:
    total = max(1, sums["pixels"])
    rows = zip(found_legend["classes"], sums["class_pixels"], sums["class_images"], strict=True)
    return [
        {**row, "pixels": pixels, "pixel_share": pixels / total, "images": images}
        for row, pixels, images in rows
        if pixels or len(found_legend["classes"]) <= 64
    ]
