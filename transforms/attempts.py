"""Drawing items again until they pass the checks: a schedule that decides nothing.

What becomes of an item depends on itself and on the items before it in its shard only:

    it is the picture of its first attempt that the judge accepts, where the judge may know the
    pictures that earlier items have become; or a failure after the last attempt

Batches are filled with items that are to be drawn again, then with new ones. They may be of any
size: no item's fate depends on whom it shares a batch with.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from transforms.failures import Failure
from transforms.records import Record

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Asked:
    """One item: its number in the run, its label, and how often it was tried before."""

    number: int
    label: int
    attempt: int = 0


class Rejection(NamedTuple):
    """Why a picture is not taken: a word that is counted, and the details."""

    reason: str
    message: str


@dataclasses.dataclass(frozen=True)
class Rejected(Generic[T]):
    """An attempt that was not taken, with its picture."""

    asked: Asked
    picture: T
    why: Rejection


@dataclasses.dataclass
class Settled(Generic[T]):
    """What became of an item.

    Attributes:
        record: of the item.
        asked: with the number of the attempt that `answer` is of.
        answer: the picture that was taken, or why there is none; None while it is open.
        rejected: earlier attempts.
    """

    record: Record
    asked: Asked
    answer: T | Failure | None = None
    rejected: list[Rejected[T]] = dataclasses.field(default_factory=list)


def until_accepted(
    items: Iterator[tuple[Record, Asked]],
    draw: Callable[[Sequence[tuple[Record, Asked]]], Sequence[T | Failure]],
    judge: Callable[[Asked, T], Rejection | None],
    take: Callable[[Record, T], None],
    *,
    max_attempts: int,
    batch_size: int,
    window: int,
) -> Iterator[Settled[T]]:
    """Settles items in their order.

    Args:
        items: with attempt 0.
        draw: makes the pictures of at most `batch_size` items.
        judge: why a picture is not taken, None if it is. Once it rejects a picture, it must do so
            after any further `take`.
        take: told of every picture that is taken, in the order of items.
        max_attempts: of one item.
        window: items that may be open at once, at least `batch_size`.
    """
    open_items: deque[Settled[T]] = deque()

    def check(item: Settled[T]) -> None:
        """Opens an item again, or fails it, when its picture is not taken."""
        if item.answer is None or isinstance(item.answer, Failure):
            return
        why = judge(item.asked, item.answer)
        if why is None:
            return
        item.rejected.append(Rejected(item.asked, item.answer, why))
        if item.asked.attempt + 1 < max_attempts:
            item.asked = dataclasses.replace(item.asked, attempt=item.asked.attempt + 1)
            item.answer = None
        else:
            item.answer = failure_of([rejected.why for rejected in item.rejected])

    while True:
        while open_items and open_items[0].answer is not None:
            first = open_items[0]
            check(first)  # again: earlier items are settled by now
            if first.answer is None:
                break
            if not isinstance(first.answer, Failure):
                take(first.record, first.answer)
            yield open_items.popleft()
        batch = [item for item in open_items if item.answer is None][:batch_size]
        while len(batch) < batch_size and len(open_items) < window:
            if (fresh := next(items, None)) is None:
                break
            open_items.append(Settled(*fresh))
            batch.append(open_items[-1])
        if not batch:
            return
        answers = draw([(item.record, item.asked) for item in batch])
        for item, answer in zip(batch, answers, strict=True):
            item.answer = answer
            check(item)


def failure_of(reasons: Sequence[Rejection]) -> Failure:
    """The failure of an item whose every attempt was rejected."""
    if {why.reason for why in reasons} == {"not_finite"}:
        return Failure("model", "not_finite", f"{reasons[-1].message}; check its card")
    counts: dict[str, int] = {}
    for why in reasons:
        counts[why.reason] = counts.get(why.reason, 0) + 1
    attempts = "1 attempt" if len(reasons) == 1 else f"{len(reasons)} attempts"
    listed = ", ".join(f"{n} {reason}" for reason, n in counts.items())
    return Failure("check", "rejected", f"{attempts}: {listed}; the last: {reasons[-1].message}")
