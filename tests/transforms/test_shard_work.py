"""A shard whose storage fails is tried again, then reported; what cannot pass is told at once."""

import errno

import pyarrow as pa
import pytest

from transforms import shard_work
from transforms.failures import Failure
from transforms.inputs import ImageFile, Shard
from transforms.records import Record, Result
from transforms.shard_work import process_shard
from transforms.sink import Sink

SHARD = Shard("s", "/in", 3, tuple(ImageFile(f"{n}.png", f"{n}", 1) for n in range(3)))


@pytest.fixture
def waits(monkeypatch):
    """For how long was waited, without doing so."""
    waited = []
    monkeypatch.setattr(shard_work.time, "sleep", waited.append)
    return waited


def run(tmp_path, errors):
    """Processes the shard; the n-th attempt meets the n-th error in its middle."""
    errors, attempts = list(errors), []

    def work(shard, _clock):
        attempts.append(shard)
        for file in shard.files:
            if file.path == "1.png" and errors:
                raise errors.pop(0)
            yield Record(int(file.path[0]), file.path, ""), Result({}, {}, {})

    report = process_shard(
        SHARD, lambda: work, Sink(str(tmp_path), "masks", "folder", pa.schema([]))
    )
    return report, len(attempts)


def error(number):
    return OSError(number, "made to fail", "/in/1.png")


def test_an_error_that_passes_costs_a_wait(tmp_path, waits):
    report, attempts = run(tmp_path, [error(errno.EIO), error(errno.ESTALE)])
    assert (report.error, report.read, attempts) == (None, 3, 3)
    assert waits == list(shard_work._WAITS_S) and waits == sorted(waits)


def test_an_error_that_stays_is_reported_and_leaves_nothing(tmp_path, waits):
    report, attempts = run(tmp_path, [error(errno.EIO)] * 9)
    assert "made to fail: '/in/1.png'" in report.error and attempts == 1 + len(waits) == 3
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.ETIMEDOUT])
def test_an_error_that_cannot_pass_is_told_at_once(tmp_path, waits, number):
    report, attempts = run(tmp_path, [error(number)] * 9)
    assert report.error and attempts == 1 and waits == []


def test_other_errors_are_defects_and_raised(tmp_path, waits):
    with pytest.raises(ValueError, match="defect"):
        run(tmp_path, [ValueError("defect")])
    with pytest.raises(Failure):
        run(tmp_path, [Failure("read", "empty", "not caught by anybody")])
