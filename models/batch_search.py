"""--batch_size=auto: a short search for the batch that a model runs fastest by the picture."""

import time
from collections.abc import Callable, Iterable

SIZES = (1, 2, 4, 8, 16, 32, 64)
_RUNS = 3
_BUDGET_S = 15.0
_GAIN = 1.05  # a larger batch must be faster by this, for it takes more memory


def best_batch_size(
    run: Callable[[int], None],
    sizes: Iterable[int] = SIZES,
    budget_s: float = _BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, dict[int, float]]:
    """Tries batch sizes, smallest first, while they pay.

    Args:
        run: runs the model on a batch of so many items; raises when it cannot.
        sizes: to try, rising.
        budget_s: no further size is tried after this time.
        clock: seconds.

    Returns:
        The size to use, and items per second by size: the best of three runs after a first one.

    Raises:
        Exception: what the model raises for the smallest batch.
    """
    begin = clock()
    rates: dict[int, float] = {}
    best, misses = 0, 0
    for size in sizes:
        try:
            rates[size] = size / _fastest(run, size, clock)
        except Exception:  # out of memory, or whatever a stranger's graph raises
            if not rates:
                raise
            break
        if not best or rates[size] > rates[best] * _GAIN:
            best, misses = size, 0
        else:
            misses += 1
        if misses == 2 or clock() - begin > budget_s:
            break
    return best, rates


def _fastest(run: Callable[[int], None], size: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest run; the first one, which builds the graph, does not count."""
    run(size)
    took = []
    for _ in range(_RUNS):
        begin = clock()
        run(size)
        took.append(clock() - begin)
    return max(min(took), 1e-9)
