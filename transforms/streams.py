"""Plain generators that overlap work: bounded look-ahead in threads, batches, order restored.

Nothing here knows Beam, TensorFlow or images.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from typing import Generic, TypeVar, cast

from transforms.failures import Failure
from transforms.records import Item

T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S", bound=Hashable)


def ordered_map(
    pool: Executor,
    function: Callable[[T], U],
    items: Iterable[T],
    ahead: Callable[[], int],
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[U]:
    """Applies a function in a pool, yielding results in the order of the items.

    At most `ahead()` items are under way; it is asked before each, so that the bound can follow
    what the items turn out to weigh. An exception of the function is raised in its item's place.
    The context `waiting()` is entered while a result is not ready.
    """
    pending: deque[Future[U]] = deque()
    try:
        for item in items:
            while len(pending) >= max(1, ahead()):
                yield _result(pending.popleft(), waiting)
            pending.append(pool.submit(function, item))
        while pending:
            yield _result(pending.popleft(), waiting)
    finally:
        for future in pending:
            future.cancel()


def _result(future: Future[U], waiting: Callable[[], AbstractContextManager[object]]) -> U:
    if future.done():
        return future.result()
    with waiting():
        return future.result()


def in_thread(thread: Executor, items: Iterator[T], ahead: int) -> Iterator[T]:
    """Draws items in a pool of one thread, at most `ahead` before they are asked for."""
    end = object()
    for item in ordered_map(thread, lambda _: next(items, end), repeat(None), lambda: ahead):
        if item is end:
            return
        yield cast(T, item)


def attempt(function: Callable[[T], U]) -> Callable[[Item[T]], Item[U]]:
    """Lifts a function on values to items: failures pass by, a raised Failure becomes the value."""

    def step(item: Item[T]) -> Item[U]:
        record, value = item
        if isinstance(value, Failure):
            return record, value
        try:
            return record, function(value)
        except Failure as failure:
            return record, failure

    return step


class Ahead:
    """A look-ahead of at most `items` items and about `budget_bytes` bytes.

    The weight of what is under way is not known before it is decoded, so the heaviest so far
    stands for all: a shard of huge pictures soon keeps few of them in memory.
    """

    def __init__(self, items: int, budget_bytes: int, at_least: int) -> None:
        self._items = items
        self._budget_bytes = budget_bytes
        self._at_least = at_least
        self._heaviest = 0

    def saw(self, size_bytes: int) -> None:
        self._heaviest = max(self._heaviest, size_bytes)

    def __call__(self) -> int:
        if not self._heaviest:
            return self._at_least
        return max(self._at_least, min(self._items, self._budget_bytes // self._heaviest))


@dataclasses.dataclass(frozen=True)
class Window:
    """How much may wait for a full batch: items between the oldest and the newest, and bytes."""

    items: int
    size_bytes: int


def batches_by_shape(
    items: Iterable[Item[T]],
    shape_of: Callable[[T], S],
    batch_size_of: Callable[[S], int],
    size_bytes_of: Callable[[T], int],
    window: Window,
) -> Iterator[list[Item[T]]]:
    """Groups items of one shape into batches. A failure goes alone, at once.

    When the window is full, the shape with the oldest item is flushed short of a full batch, so
    that order can be restored in bounded memory. The cut depends on the sequence of items only,
    never on time or threads.

    Args:
        shape_of: bucket of a value.
        batch_size_of: full size of a batch of that bucket, at least 1.
        size_bytes_of: what a value weighs in memory.
        window: bounds what waits.
    """
    buckets: dict[S, _Bucket[T]] = {}  # in the order of their oldest items
    for number, item in enumerate(items):
        value = item[1]
        if isinstance(value, Failure):
            yield [item]
        else:
            shape = shape_of(value)
            bucket = buckets.setdefault(shape, _Bucket(number))
            bucket.items.append(item)
            bucket.size_bytes += size_bytes_of(value)
            if len(bucket.items) >= batch_size_of(shape):
                yield buckets.pop(shape).items
        while buckets and (
            number - next(iter(buckets.values())).oldest >= window.items
            or sum(bucket.size_bytes for bucket in buckets.values()) > window.size_bytes
        ):
            yield buckets.pop(next(iter(buckets))).items
    for bucket in buckets.values():
        yield bucket.items


@dataclasses.dataclass
class _Bucket(Generic[T]):
    oldest: int
    items: list[Item[T]] = dataclasses.field(default_factory=list)
    size_bytes: int = 0


def in_order(batches: Iterable[list[Item[T]]]) -> Iterator[Item[T]]:
    """Flattens batches and restores the order of record.index, which counts from 0 without gaps.

    Raises:
        ValueError: when an index is missing or comes twice: a record would have been lost.
    """
    waiting: dict[int, Item[T]] = {}
    expected = 0
    for batch in batches:
        for item in batch:
            if item[0].index in waiting or item[0].index < expected:
                raise ValueError(f"record {item[0].index} came twice")
            waiting[item[0].index] = item
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
    if waiting:
        raise ValueError(f"record {expected} is missing, the next is {min(waiting)}")
