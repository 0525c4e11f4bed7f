"""Commit records, OUT/metrics/<shard>.json: a shard is done when its record exists."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from models.errors import UserError
from transforms import storage
from transforms.shard_report import ShardReport, Totals
from transforms.streams import ordered_map

METRICS = "metrics"
RUN = "run.json"
_EXTENSION = ".json"
_REMOTE_THREADS = 16


def run_digest(job: str, identity: Mapping[str, Any]) -> str:
    """What tells runs apart: 16 hexadecimal digits, equal for runs that write the same bytes."""
    text = json.dumps(json.loads(json.dumps([job, identity])), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_in(root: str) -> str | None:
    """The digest of the run that OUT belongs to; None when there is none. Raises OSError."""
    try:
        fields = json.loads(storage.read_bytes(os.path.join(root, RUN)))
        return str(fields.get("digest") or run_digest(fields["job"], fields["identity"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""


def commit_path(shard_name: str) -> str:
    """The commit record of a shard, relative to OUT."""
    return f"{METRICS}/{shard_name}{_EXTENSION}"


def read_commit(root: str, shard_name: str, run: str = "") -> ShardReport | None:
    """The commit record of a shard in OUT, None when it is not committed.

    Args:
        run: whose record it must be (see run_digest); one of another run is none. "" for any.

    Raises:
        OSError: the storage failed.
        UserError: the file is there, but is no commit record of this shard.
    """
    path = os.path.join(root, commit_path(shard_name))
    try:
        report = ShardReport.from_json(storage.read_bytes(path))
        if report.shard != shard_name:
            raise ValueError(f"it is the commit record of {report.shard}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: {error}; delete it and run the command again") from error
    return report if run in ("", report.run) else None


def mask_paths(root: str, shard_name: str, output_names: Collection[str]) -> dict[str, str]:
    """Where the masks of a tree of files are, relative to OUT, by output name.

    Those of pictures with a place on Earth are GeoTIFFs; what is not committed would be a PNG.

    Raises:
        OSError, UserError: as `read_commit`.
    """
    found = {name: f"masks/{name}.png" for name in output_names}
    report = read_commit(root, shard_name)
    for file in report.files if report is not None else ():
        name, extension = os.path.splitext(file.path.removeprefix("masks/"))
        if name in found and extension == ".tif" and file.path.startswith("masks/"):
            found[name] = file.path
    return found


def committed_names(root: str) -> set[str]:
    """Names of all shards with a commit record in OUT, by one listing."""
    folder = os.path.join(root, METRICS)
    if not storage.is_folder(folder):
        return set()
    paths = (path for path, _ in storage.list_files(folder))
    return {path.removesuffix(_EXTENSION) for path in paths if path.endswith(_EXTENSION)}


def read_commits(
    root: str, names: Iterable[str], run: str = "", skip_bad: bool = False
) -> Iterator[ShardReport]:
    """Commit records in the order of their names, as far as there are.

    Raises:
        OSError, UserError: one cannot be read, unless those are to be skipped.
    """

    def read(name: str) -> ShardReport | None:
        try:
            return read_commit(root, name, run)
        except (OSError, UserError):
            if skip_bad:
                return None
            raise

    threads = _REMOTE_THREADS if storage.is_remote(root) else 1
    with ThreadPoolExecutor(threads) as pool:
        yield from filter(None, ordered_map(pool, read, sorted(names), lambda: 2 * threads))


def committed_totals(
    root: str, names: Iterable[str], max_failed_fraction: float, run: str = ""
) -> Totals:
    """The totals of shards as far as they are committed. Raises OSError, UserError."""
    totals = Totals()
    for report in read_commits(root, names, run):
        totals = totals.merge(Totals.of(report, max_failed_fraction))
    return totals
