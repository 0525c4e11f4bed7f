"""Running a model so that one bad item costs itself: not its batch, its shard or its run.

an error           the batch is halved until the culprit is alone
out of memory      the batch size is halved for good, and the batch tried again; at last alone, with
                   no other call at the same time
no answer in time  the items of the batch fail; the model is loaded anew, for a call that hangs
                   cannot be ended, only left behind
"""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from models.binding import Binding
from models.errors import UserError
from models.loading import first_line
from transforms.failures import Failure
from transforms.records import Item

T = TypeVar("T")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)

TIMEOUT_S = 600.0
_MOST_HANGS = 3


class Model(Protocol[A_co]):
    """What can be run: a list of values in, as many answers out."""

    batch_size: int
    binding: Binding

    def __call__(self, values: Sequence[Any], /) -> Sequence[A_co]: ...


class _Hung(Exception):
    """The model did not answer in time."""


class _Room:
    """Calls side by side, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0  # under way; -1 for one that is alone

    @contextlib.contextmanager
    def entered(self, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._calls == 0 if alone else self._calls >= 0)
            self._calls += -1 if alone else 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= -1 if alone else 1
                self._changed.notify_all()


class Survivor(Generic[T, A]):
    """A model that outlives its batches. One per device; threads may share it."""

    def __init__(
        self,
        load: Callable[[], Model[A]],
        unwrap: Callable[[T], Any],
        describe: Callable[[T], str],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Loads the model.

        Args:
            load: gives the model; called again after a call that hung.
            unwrap: what the model is given for an item's value.
            describe: names a value in messages: "picture of 640x480".
            timeout_s: for one batch; 0 to wait for ever.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._load = load
        self._unwrap = unwrap
        self._describe = describe
        self._timeout_s = timeout_s
        self._hangs = 0
        self._anew = threading.Lock()
        self._room = _Room()
        self.model = load()

    def __call__(self, batch: Sequence[Item[T]]) -> list[Item[A]]:
        """Runs the model on the values among the items; failures pass by.

        Returns:
            The same records in the same order, with an answer or a failure.

        Raises:
            UserError: the model has hung too often in this process.
        """
        values = [(record, v) for record, v in batch if not isinstance(v, Failure)]
        answers = iter(self._run(values))
        return [
            (record, value) if isinstance(value, Failure) else (record, next(answers))
            for record, value in batch
        ]

    def _run(self, items: Sequence[tuple[Any, T]], alone: bool = False) -> list[A | Failure]:
        size = self.model.batch_size
        if len(items) > size:  # it was halved since the batch was made
            parts = [items[i : i + size] for i in range(0, len(items), size)]
            return [answer for part in parts for answer in self._run(part)]
        if not items:
            return []
        try:
            with self._room.entered(alone):
                return list(self._call([self._unwrap(value) for _, value in items]))
        except _Hung:
            return [self._late(value) for _, value in items]
        except UserError:
            raise
        except Exception as error:  # whatever a stranger's graph raises
            if is_out_of_memory(error):
                return self._with_less(items, error, alone)
            if len(items) > 1:
                half = len(items) // 2
                return [*self._run(items[:half]), *self._run(items[half:])]
            return [self._failure("model_error", "failed on", items[0][1], first_line(error))]

    def _with_less(
        self, items: Sequence[tuple[Any, T]], error: Exception, alone: bool
    ) -> list[A | Failure]:
        size = self.model.batch_size
        if len(items) > size:  # it was halved while this batch was under way
            return self._run(items)
        if self.model.binding.fixed_batch is not None or size == 1:
            if not alone:  # another call may have taken the memory
                return self._run(items, alone=True)
            advice = f"{first_line(error)}. Give --max_side or --image_size, or more memory"
            return [
                self._failure("out_of_memory", "ran out of memory on", value, advice)
                for _, value in items
            ]
        self.model.batch_size = size // 2
        answers = self._run(items)
        if any(isinstance(a, Failure) and a.reason == "out_of_memory" for a in answers):
            self.model.batch_size = size  # the items were too large, not the batch
        elif self.model.batch_size == size // 2:
            print(
                f"pixelmill: the model ran out of memory with batches of {size}; "
                f"going on with {size // 2}",
                file=sys.stderr,
            )
        return answers

    def _call(self, values: Sequence[Any]) -> Sequence[A]:
        if self._hangs >= _MOST_HANGS:
            raise UserError(
                f"the model gave no answer within {self._timeout_s:g} s, {self._hangs} times in "
                "one process; raise --batch_timeout_s or look into the model, and give the same "
                "command again"
            )
        if not self._timeout_s:
            return self.model(values)
        model = self.model
        box: queue.Queue[Sequence[A] | BaseException] = queue.Queue(1)

        def call() -> None:
            try:
                box.put(model(values))
            except BaseException as error:
                box.put(error)

        # A daemon, so that one that hangs does not keep the process from ending.
        threading.Thread(target=call, name="model call", daemon=True).start()
        try:
            answer = box.get(timeout=self._timeout_s)
        except queue.Empty:
            self._leave(model)
            raise _Hung from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _leave(self, model: Model[A]) -> None:
        """Loads another in the place of one that hangs, unless another thread has."""
        with self._anew:
            if self.model is not model:
                return
            self._hangs += 1
            if self._hangs < _MOST_HANGS:
                self.model = self._load()
                self.model.batch_size = model.batch_size

    def _late(self, value: T) -> Failure:
        return self._failure(
            "timeout",
            f"gave no answer within {self._timeout_s:g} s for a batch with",
            value,
            "raise --batch_timeout_s if it needs longer",
        )

    def _failure(self, reason: str, what: str, value: T, why: str) -> Failure:
        return Failure("model", reason, f"the model {what} this {self._describe(value)}: {why}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether TensorFlow or Python could not get the memory that it asked for."""
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
