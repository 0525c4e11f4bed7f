"""Whether what is new may be published: the budget of failures, and gates on its metrics."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.errors import UserError
from pipeline import legends, run_files
from pipeline.schedule.ledger import Entry, Ledger
from transforms import commits, storage
from transforms.shard_report import Totals, allowed_failures


def judge(
    place: str,
    found: Ledger,
    added: Sequence[Entry],
    faults: Callable[[Mapping[str, Any]], list[str]],
    max_failed_fraction: float,
) -> tuple[list[str], list[str]]:
    """Judges what would be added to what is published, whichever runs made it.

    Returns:
        What is over the budget of failures, and which gates stop it, in words.

    Raises:
        OSError: the storage failed.
    """
    metrics = _metrics(place, found, added, max_failed_fraction)
    names: list[str] = metrics["shards"]["over_budget_names"]
    over = [f"{name}: too many of its records failed" for name in names]
    if metrics["records"]["over_budget"]:
        failed, read = metrics["records"]["failed"], metrics["records"]["read"]
        over.append(f"{failed:,} of {read:,} records failed")
    try:
        return over, faults(metrics)
    except UserError as error:  # a gate that cannot be read lets nothing pass
        return over, [str(error)]


def _metrics(
    place: str, found: Ledger, added: Sequence[Entry], max_failed_fraction: float
) -> dict[str, Any]:
    """metrics.json of just these shards; of a whole partition it is the file that lies there."""
    by_partition: dict[str, set[str]] = {}
    for entry in added:
        by_partition.setdefault(entry.partition, set()).add(entry.name)
    if len(by_partition) == 1:
        ((partition, names),) = by_partition.items()
        if any(
            m.whole and m.partition == partition and names == {e.name for e in m.entries}
            for m in found.complete
        ):
            return run_files.read_metrics(os.path.join(place, partition))
    totals = Totals()
    for partition, names in sorted(by_partition.items()):
        out = os.path.join(place, partition)
        totals = totals.merge(commits.committed_totals(out, names, max_failed_fraction))
    metrics = run_files.metrics_of(totals, len(added), _legend(place, min(by_partition)))
    allowed = allowed_failures(totals.read, max_failed_fraction)
    metrics["records"]["over_budget"] = totals.failed > allowed
    return metrics


def _legend(place: str, partition: str) -> dict[str, Any] | None:
    try:
        data = storage.read_bytes(os.path.join(place, partition, legends.LEGEND))
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(data)
    return found
