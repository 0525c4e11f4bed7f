"""Turning one shard into its outputs and committing them. Plain Python: Beam only calls it."""

import contextlib
import errno
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from models.errors import UserError
from transforms.clock import Clock
from transforms.inputs import Shard
from transforms.live import INTERRUPTED, LIVE, Interrupted
from transforms.records import Extras, WorkStream
from transforms.retry import RetryWriter, is_wanted, settled
from transforms.shard_report import ShardReport
from transforms.sink import ShardWriter, Sink

_WAITS_S = (1.0, 5.0)
_MAY_PASS = frozenset(
    (errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ECONNRESET, errno.ECONNABORTED)
)

# What an operator does to a shard: a result or a failure for every record, in their order; at the
# end what the shard has besides.
Work = Callable[[Shard, Clock], WorkStream]


class Operator(Protocol):
    """One of the things that can be done to shards. Pickled to the workers: plain settings.

    A dataclass, with its sink as a field.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def sink(self) -> Sink:
        """Where its shards go."""

    def open(self) -> Work:
        """Makes ready to work: loads models. Called once per process and shared by its threads."""


def process_shard(
    shard: Shard, work: Callable[[], Work], sink: Sink, make_clock: Callable[[], Clock] = Clock
) -> ShardReport:
    """Processes and commits a shard, unless it is committed already and nothing is to be retried.

    Errors of the storage that may pass are waited for, a few times; requests to gs:// have been
    repeated before they are errors.

    Args:
        work: gives the operator's work; called only when there is something to do.
        make_clock: called for each attempt at working on the shard.

    Returns:
        The report of the committed shard; or, when its storage failed or a person asked to stop,
        one with `error` set, so that the run comes to its end.
    """
    try:
        for wait_s in _WAITS_S:
            try:
                return _attempt(shard, work, sink, make_clock)
            except OSError as error:
                if error.errno not in _MAY_PASS:
                    raise
            time.sleep(wait_s)
        return _attempt(shard, work, sink, make_clock)
    except Interrupted:  # a report, not an exception: no retry, no traceback, no waiting
        return ShardReport(shard.name, error=INTERRUPTED)
    except (OSError, UserError) as error:  # of this shard alone; the others go on
        return ShardReport(shard.name, error=f"{type(error).__name__}: {error}")
    finally:
        LIVE.leave(shard.name)


def _attempt(
    shard: Shard, work: Callable[[], Work], sink: Sink, make_clock: Callable[[], Clock]
) -> ShardReport:
    """Raises OSError, UserError: the storage failed; Interrupted."""
    if old := sink.committed(shard):
        old = settled(sink.root, old)
        if not is_wanted(old, sink.retry):
            return old
    LIVE.update(sink.root, shard.name, 0, 0)
    clock = make_clock()
    try:
        with sink.open(shard, clock, RetryWriter if old else ShardWriter) as writer:
            for done in work()(writer.shard, clock):
                with clock("write"):
                    if isinstance(done, Extras):
                        writer.add(done)
                    else:
                        writer.write(*done)
                LIVE.update(sink.root, shard.name, writer.read, writer.failed)
            return writer.commit()
    except (OSError, UserError):
        with contextlib.suppress(OSError, UserError):
            now = sink.committed(shard)
            if now is not None and now != old:  # another run was faster, and cleared up
                return now
        raise
