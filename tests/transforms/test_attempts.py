"""What becomes of an item depends on it and those before it, in batches of any size."""

from hypothesis import given
from hypothesis import strategies as st

from transforms.attempts import Asked, Rejection, failure_of, until_accepted
from transforms.failures import Failure
from transforms.records import Record

BROKEN = Failure("model", "model_error", "it fails")


def picture(seed, asked):
    """A small number, so that many are equal."""
    return hash((seed, asked.number, asked.attempt)) % 23


def settle(count, seed, max_attempts, batch_size, window):
    """(number, attempt, picture or failure, reasons) by item, and the sizes of batches."""
    taken, sizes = set(), []

    def draw(batch):
        sizes.append(len(batch))
        return [
            BROKEN if picture(seed, asked) == 22 else picture(seed, asked) for _, asked in batch
        ]

    def judge(asked, value):
        if value % 3 == 0:
            return Rejection("third", f"{value}")
        return Rejection("taken", f"{value}") if value in taken else None

    items = ((Record(i, f"{i}", ""), Asked(i, 0)) for i in range(count))
    found = [
        (s.asked.number, s.asked.attempt, str(s.answer), [r.why.reason for r in s.rejected])
        for s in until_accepted(
            items,
            draw,
            judge,
            lambda record, value: taken.add(value),
            max_attempts=max_attempts,
            batch_size=batch_size,
            window=window,
        )
    ]
    return found, sizes


def plainly(count, seed, max_attempts):
    """The definition: one item after the other."""
    taken, found = set(), []
    for number in range(count):
        reasons = []
        for attempt in range(max_attempts):
            value = picture(seed, Asked(number, 0, attempt))
            if value == 22:
                found.append((number, attempt, str(BROKEN), reasons))
                break
            if value % 3 and value not in taken:
                taken.add(value)
                found.append((number, attempt, str(value), reasons))
                break
            reasons.append("third" if value % 3 == 0 else "taken")
        else:
            found.append((number, attempt, None, reasons))
    return found


@given(st.integers(0, 40), st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 9), st.data())
def test_any_batches_give_what_one_after_the_other_gives(count, seed, most, batch_size, data):
    window = data.draw(st.integers(batch_size, 30))
    found, sizes = settle(count, seed, most, batch_size, window)
    expected = plainly(count, seed, most)
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in expected]
    for (_, _, answer, _), (_, _, wanted, reasons) in zip(found, expected, strict=True):
        if wanted is not None:
            assert answer == wanted
        else:
            assert f"{len(reasons)} attempt" in answer
    assert max(sizes, default=0) <= batch_size


def test_batches_are_full_while_there_is_work():
    _, sizes = settle(400, 1, 3, 8, 64)
    assert set(sizes[:-8]) == {8}


def test_a_failure_counts_the_reasons():
    failure = failure_of([Rejection("a", "x"), Rejection("b", "y"), Rejection("a", "z")])
    assert (failure.stage, failure.reason) == ("check", "rejected")
    assert failure.message == "3 attempts: 2 a, 1 b; the last: z"
    assert failure_of([Rejection("not_finite", "NaN")] * 2).reason == "not_finite"
