"""`status` and `verify`: what a folder says about its run, from the files alone."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from models.errors import UserError
from pipeline.run_files import OURS, RUN, SUCCESS, Run, RunError, read_plan, read_run
from pipeline.study_results import study_status
from pipeline.train_state import training_status
from transforms import storage
from transforms.augmentation.filters import LEFT_OUT
from transforms.commits import (
    commit_path,
    committed_names,
    committed_totals,
    read_commit,
)
from transforms.guard import INDEX, REFERENCE
from transforms.inputs import Shard
from transforms.label_sources import coco
from transforms.owners import Owners
from transforms.regroup import STAGED
from transforms.retry import RETRIES, replaces, usual_path
from transforms.shard_report import FileEntry, ShardReport
from transforms.streams import ordered_map

_SHARD_FOLDERS = (
    *("masks", "images", "confidence", "features", "rejected", LEFT_OUT, "records", "metrics"),
)
_SHOWN = 20
_REMOTE_THREADS = 16


def status(out: str) -> str:
    """How far a run is. Raises RunError when OUT is no run."""
    if _is_first_pass(out):
        return f"the first of two passes:\n{status(os.path.join(out, STAGED))}"
    run = _run(out)
    if run.job.startswith("train"):
        return training_status(out, run.job)
    if run.job.startswith("study"):
        return study_status(out, run.job)
    planned = {shard.name for shard in read_plan(out).shards}
    done = committed_names(out) & planned
    try:
        totals = committed_totals(out, done, 1.0, run.digest)
    except OSError as error:
        raise RunError(f"a commit record cannot be read: {error}") from error
    finished = totals.shards == len(planned) and storage.is_file(os.path.join(out, SUCCESS))
    state = "complete" if finished else "not complete"
    lines = [
        f"{run.job} in {out}: {state}",
        f"  shards   {totals.shards:,} of {len(planned):,} committed",
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
        OSError: the storage failed.
    """
    return _look(out)[0]


def clean(out: str) -> list[str]:
    """Deletes what attempts that died have left, and nothing that one at work may need.

    These are temporary files whose makers are gone; files of a committed shard that its commit
    record does not list, but for those that a --retry_failed may be about to commit; and commit
    records of a run that was overwritten. Files of a shard that is not committed stay: they may be
    of a live attempt, and the next one replaces them.

    Returns:
        Paths of what was deleted, relative to OUT.

    Raises:
        RunError: OUT is no run.
        OSError: the storage failed.
    """
    dead = storage.delete_dead(out)
    left = _look(out)[1]
    for path in left:
        storage.delete(os.path.join(out, path))
    return [*dead, *left]


def _look(out: str) -> tuple[list[str], list[str]]:
    """What is wrong, and which files are leftovers that nobody needs."""
    run = _run_of_shards(out)
    shards = read_plan(out).shards
    sizes = dict(storage.list_files(out))
    problems: list[str] = []
    left: list[str] = []
    known = {*OURS, INDEX}
    committed = set()
    threads = _REMOTE_THREADS if storage.is_remote(out) else 1
    with ThreadPoolExecutor(threads) as pool:
        reports = ordered_map(pool, lambda s: _read_report(out, s), shards, lambda: 2 * threads)
        for shard, report in zip(shards, reports, strict=True):
            if isinstance(report, str):
                problems.append(report)
            elif report.run != run.digest:
                left.append(commit_path(shard.name))
                problems.append(
                    f"{left[-1]}: stale, of a run that was overwritten; verify --clean deletes it, "
                    "and the command of this run makes it anew"
                )
            else:
                committed.add(shard.name)
                known.update([commit_path(shard.name), *(file.path for file in report.files)])
                usual = {usual_path(file.path) for file in report.files}
                if not usual <= known:
                    known |= usual
                    problems.append(
                        f"{commit_path(shard.name)}: its files are still in {RETRIES}/, where "
                        "--retry_failed was cut short; the command of this run puts them in place"
                    )
                problems += _check_shard(out, report, sizes, pool)
    if f"{REFERENCE}/{RUN}" in sizes:
        for found, more in zip((problems, left), _look(os.path.join(out, REFERENCE)), strict=True):
            found += [f"{REFERENCE}/{line}" for line in more]
    if not problems and not storage.is_file(os.path.join(out, SUCCESS)):
        problems.append(f"{SUCCESS} is missing: give the command of the run again to finish it")
    owners = Owners(shards)
    for path in _strangers(sizes, known):
        owner = owners.of(usual_path(path))
        if owner is not None and replaces(path) and replaces(path) == _record_crc32c(out, owner):
            problems.append(
                f"{path}: of a --retry_failed that has not ended; the same command ends it"
            )
            continue
        if owner is None:
            problems.append(f"{path}: foreign, it belongs to no committed shard")
        elif owner in committed:
            left.append(path)
            problems.append(
                f"{path}: left over, it belongs to no committed shard; verify --clean deletes it"
            )
    return problems, left


def _record_crc32c(out: str, shard_name: str) -> str:
    try:
        return storage.file_crc32c(os.path.join(out, commit_path(shard_name)))
    except FileNotFoundError:  # deleted since it was listed
        return ""


def _run_of_shards(out: str) -> Run:
    run = _run(out)
    for job, name in (("train", "metrics.json"), ("study", "study.json")):
        if run.job.startswith(job):
            raise RunError(f"{out} is of a {job}; verify checks runs over shards. See its {name}")
    return run


def _run(out: str) -> Run:
    run = read_run(out)
    if run is None and _is_first_pass(out):
        raise RunError(f"{out} is in the first of two passes; verify it when it is done")
    if run is None:
        raise RunError(f"{out} is not a run of pixelmill: it has no run.json")
    return run


def _is_first_pass(out: str) -> bool:
    """Whether shards are packed anew below OUT, and what they are to become has not begun."""
    begun = (storage.is_file(os.path.join(out, place, RUN)) for place in ("", STAGED))
    return not next(begun) and next(begun)


def verdict(out: str, problems: list[str]) -> str:
    """What `verify` prints."""
    if not problems:
        return f"{out} is whole: every shard is committed, all sizes and checksums are right"
    shown = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        shown.append(f"... and {len(problems) - _SHOWN:,} more")
    return "\n".join([f"{out} is not whole:", *(f"  {problem}" for problem in shown)])


def _read_report(out: str, shard: Shard) -> ShardReport | str:
    """The commit record, or what is wrong with it."""
    try:
        report = read_commit(out, shard.name)
    except (OSError, UserError) as error:
        return str(error)
    if report is None:
        path = commit_path(shard.name)
        return f"{path}: missing, the shard is not committed; run the command again"
    return report


def _check_shard(
    out: str, report: ShardReport, sizes: Mapping[str, int], pool: ThreadPoolExecutor
) -> Iterator[str]:
    where = commit_path(report.shard)
    again = f"delete {where} and run the command again"
    if report.read != report.written + report.failed:
        yield (
            f"{where}: read {report.read} is not written {report.written} "
            f"+ failed {report.failed}; {again}"
        )

    def check(file: FileEntry) -> str | None:
        path = os.path.join(out, file.path)
        try:
            found = sizes.get(file.path)
            if found is None:  # hidden, or newer than the listing
                found = storage.size_bytes(path)
            crc = storage.file_crc32c(path) if found == file.size_bytes else ""
        except FileNotFoundError:
            return f"{file.path}: missing; {again}"
        if found != file.size_bytes:
            return f"{file.path}: {found:,} bytes, committed were {file.size_bytes:,}; {again}"
        if crc != file.crc32c:
            return f"{file.path}: crc32c {crc}, committed was {file.crc32c}; {again}"
        return None

    yield from filter(None, pool.map(check, report.files))


def _strangers(sizes: Mapping[str, int], known: set[str]) -> Iterator[str]:
    for path in sizes:
        top = path.partition("/")[0]
        if top in (REFERENCE, STAGED, coco.FOLDER):
            continue  # runs of their own, and what was put aside for workers
        if top == storage.TEMPORARY:
            continue  # attempts under way, or dead ones that the end of the run clears
        if path not in known and (top in _SHARD_FOLDERS or "/" in path or top not in known):
            yield path
