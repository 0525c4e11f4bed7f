"""Where a sequence of records is cut into shards."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def bounds(
    sizes: Sequence[int] | npt.NDArray[np.int64], most: int | None, most_bytes: int | None = None
) -> list[int]:
    """Where a sequence of records is cut into shards: 0, the end of the first, ..., the end of all.

    Args:
        sizes: of the records, in bytes.
        most: records of a shard. Alone, it gives the fewest shards, equal to within one.
        most_bytes: of a shard, unless one record has more; shards are then filled one by one.
    """
    if most_bytes is None:
        count = -(-len(sizes) // most) if most else 1
        return [len(sizes) * index // count for index in range(count + 1)] if len(sizes) else [0]
    ends = np.cumsum(sizes, dtype=np.int64)
    found = [0]
    while found[-1] < len(sizes):
        start = found[-1]
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + most_bytes, side="right"))
        found.append(min(max(start + 1, stop), start + (most or len(sizes)), len(sizes)))
    return found
