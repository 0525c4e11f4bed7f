"""Names of what engines show: counters and distributions, where it has some those of RunInference.

The values of one shard are kept beside its clock, for they differ from run to run; metrics.json has
them under the same names.
"""

from collections.abc import Iterable, Mapping

READ, WRITTEN, FAILED = "images_read", "images_written", "images_failed"
INFERENCES = "num_inferences"
BATCH_SIZE = "inference_request_batch_size"
LATENCY = "inference_batch_latency_micro_secs"
QUEUE_WAIT = "queue_wait_micro_secs"  # of the model's feeder, for the next decoded picture
DISTRIBUTIONS = (BATCH_SIZE, LATENCY, QUEUE_WAIT)

# count, sum, min and max, as Beam's distributions have
Distribution = Mapping[str, int]


def image_counters(read: int, written: int, failed_by_reason: Mapping[str, int]) -> dict[str, int]:
    """Counters of images: read, written, failed, and failed by reason."""
    return {
        READ: read,
        WRITTEN: written,
        FAILED: sum(failed_by_reason.values()),
        **{f"{FAILED}_{reason}": n for reason, n in sorted(failed_by_reason.items())},
    }


def distribution(values: Iterable[int]) -> Distribution | None:
    """The distribution of some values, None of none."""
    found = list(values)
    if not found:
        return None
    return {"count": len(found), "sum": sum(found), "min": min(found), "max": max(found)}


def merge_distributions(
    a: Mapping[str, Distribution], b: Mapping[str, Distribution]
) -> dict[str, Distribution]:
    """Distributions of both, by name; neither is changed."""
    merged = {**a, **b}
    for name in a.keys() & b.keys():
        one, two = a[name], b[name]
        merged[name] = {
            "count": one["count"] + two["count"],
            "sum": one["sum"] + two["sum"],
            "min": min(one["min"], two["min"]),
            "max": max(one["max"], two["max"]),
        }
    return {name: merged[name] for name in sorted(merged)}
