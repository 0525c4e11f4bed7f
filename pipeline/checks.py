"""`status` and `verify`: what a folder says about its run, from the files alone."""

import os
from collections.abc import Iterator

from models.errors import UserError
from pipeline.run_files import OURS, RUN, SUCCESS, RunError, read_plan, read_run
from pipeline.train_state import training_status
from transforms import storage
from transforms.commits import (
    commit_path,
    committed_names,
    committed_totals,
    read_commit,
)
from transforms.guard import INDEX, REFERENCE
from transforms.inputs import Shard
from transforms.shard_report import ShardReport

_SHARD_FOLDERS = ("masks", "images", "confidence", "features", "rejected", "records", "metrics")
_SHOWN = 20


def status(out: str) -> str:
    """How far a run is. Raises RunError when OUT is no run."""
    run = read_run(out)
    if run is None:
        raise RunError(f"{out} is not a run of pixelmill: it has no run.json")
    if run.job.startswith("train"):
        return training_status(out, run.job)
    planned = {shard.name for shard in read_plan(out).shards}
    done = committed_names(out) & planned
    try:
        totals = committed_totals(out, done, max_failed_fraction=1.0)
    except OSError as error:
        raise RunError(f"a commit record cannot be read: {error}") from error
    finished = done == planned and storage.exists(os.path.join(out, SUCCESS))
    state = "complete" if finished else "not complete"
    lines = [
        f"{run.job} in {out}: {state}",
        f"  shards   {len(done):,} of {len(planned):,} committed",
        f"  images   {totals.read:,} read = {totals.written:,} written + {totals.failed:,} failed",
    ]
    lines += [f"  failed   {n:,} {reason}" for reason, n in totals.failed_by_reason.items()]
    return "\n".join(lines)


def verify(out: str) -> list[str]:
    """Checks a run: shards, files, sizes, checksums, counts, strangers.

    Returns:
        One line for each thing that is wrong; none for a whole run.

    Raises:
        RunError: OUT is no run.
    """
    run = read_run(out)
    if run is None:
        raise RunError(f"{out} is not a run of pixelmill: it has no run.json")
    if run.job.startswith("train"):
        raise RunError(f"{out} is a training; verify checks runs over shards. See its metrics.json")
    shards = read_plan(out).shards
    known = {*OURS, INDEX}
    problems: list[str] = []
    for shard in shards:
        report = _read_report(out, shard, problems)
        if report is not None:
            known.add(commit_path(shard.name))
            problems += _check_shard(out, report)
            known.update(file.path for file in report.files)
    if storage.exists(os.path.join(out, REFERENCE, RUN)):
        problems += [f"{REFERENCE}/{line}" for line in verify(os.path.join(out, REFERENCE))]
    if not problems and not storage.exists(os.path.join(out, SUCCESS)):
        problems.append(f"{SUCCESS} is missing: give the command of the run again to finish it")
    return problems + [f"{path}: belongs to no committed shard" for path in _strangers(out, known)]


def verdict(out: str, problems: list[str]) -> str:
    """What `verify` prints."""
    if not problems:
        return f"{out} is whole: every shard is committed, all sizes and checksums are right"
    shown = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        shown.append(f"... and {len(problems) - _SHOWN:,} more")
    return "\n".join([f"{out} is not whole:", *(f"  {problem}" for problem in shown)])


def _read_report(out: str, shard: Shard, problems: list[str]) -> ShardReport | None:
    try:
        report = read_commit(out, shard.name)
    except (OSError, UserError) as error:
        problems.append(str(error))
        return None
    if report is None:
        path = commit_path(shard.name)
        problems.append(f"{path}: missing, the shard is not committed; run the command again")
    return report


def _check_shard(out: str, report: ShardReport) -> Iterator[str]:
    where = commit_path(report.shard)
    again = f"delete {where} and run the command again"
    if report.read != report.written + report.failed:
        yield (
            f"{where}: read {report.read} is not written {report.written} "
            f"+ failed {report.failed}; {again}"
        )
    for file in report.files:
        path = os.path.join(out, file.path)
        if not storage.exists(path):
            yield f"{file.path}: missing; {again}"
        elif (found := storage.size_bytes(path)) != file.size_bytes:
            yield f"{file.path}: {found:,} bytes, committed were {file.size_bytes:,}; {again}"
        elif (crc := storage.file_crc32c(path)) != file.crc32c:
            yield f"{file.path}: crc32c {crc}, committed was {file.crc32c}; {again}"


def _strangers(out: str, known: set[str]) -> Iterator[str]:
    for path, _ in storage.list_files(out):
        top = path.partition("/")[0]
        if top == REFERENCE:
            continue  # a run of its own
        if top == storage.TEMPORARY:
            continue  # attempts under way, or dead ones that the end of the run clears
        if path not in known and (top in _SHARD_FOLDERS or "/" in path or top not in known):
            yield path
