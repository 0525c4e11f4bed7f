"""Commit records, OUT/metrics/<shard>.json: a shard is done when its record exists."""

import os
from collections.abc import Iterable

from models.errors import UserError
from transforms import storage
from transforms.shard_report import ShardReport, Totals

METRICS = "metrics"
_EXTENSION = ".json"


def commit_path(shard_name: str) -> str:
    """The commit record of a shard, relative to OUT."""
    return f"{METRICS}/{shard_name}{_EXTENSION}"


def read_commit(root: str, shard_name: str) -> ShardReport | None:
    """The commit record of a shard in OUT, None when it is not committed.

    Raises:
        OSError: the storage failed.
        UserError: the file is there, but is no commit record of this shard.
    """
    path = os.path.join(root, commit_path(shard_name))
    if not storage.exists(path):
        return None
    try:
        report = ShardReport.from_json(storage.read_bytes(path))
        if report.shard != shard_name:
            raise ValueError(f"it is the commit record of {report.shard}")
        return report
    except ValueError as error:
        raise UserError(f"{path}: {error}; delete it and run the command again") from error


def committed_names(root: str) -> set[str]:
    """Names of all shards with a commit record in OUT, by one listing."""
    folder = os.path.join(root, METRICS)
    if not storage.exists(folder):
        return set()
    paths = (path for path, _ in storage.list_files(folder))
    return {path.removesuffix(_EXTENSION) for path in paths if path.endswith(_EXTENSION)}


def committed_totals(root: str, names: Iterable[str], max_failed_fraction: float) -> Totals:
    """The totals of shards as far as they are committed. Raises OSError, UserError."""
    totals = Totals()
    for name in sorted(names):
        if (report := read_commit(root, name)) is not None:
            totals = totals.merge(Totals.of(report, max_failed_fraction))
    return totals
