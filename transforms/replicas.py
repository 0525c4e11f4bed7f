"""A copy of the model on every device of a process, and a thread for each call at once.

Batches go to whichever copy is free; which one changes nothing, for devices of one kind give the
same numbers. Each copy survives on its own: one that runs out of memory goes on with smaller
batches, one that hangs is loaded anew on its device.

With several GPUs nothing of this could be tried; with several logical CPUs it was (see
tf.config.set_logical_device_configuration). Not known is whether all operations of a graph that
was saved on one GPU follow to another: TensorFlow says so where no device was written into it.
A TF1 session stays on the first device. Worker processes do not share out the GPUs among them:
each keeps a copy on all that it sees (CUDA_VISIBLE_DEVICES).
"""

import functools
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from models.binding import Binding
from models.devices import calls_at_once, replica_devices
from models.loading import import_tensorflow
from transforms.records import Item
from transforms.survive import Model, Survivor

T = TypeVar("T")
A = TypeVar("A")


class OnDevice(Generic[A]):
    """A Model whose weights and work are on one device."""

    def __init__(self, load: Callable[[], Model[A]], device: str) -> None:
        """Loads the model. Raises ModelError."""
        self.device = device
        self._tf = import_tensorflow()
        with self._tf.device(device):
            self._model = load()
        self.binding: Binding = self._model.binding

    def __call__(self, values: Sequence[Any], /) -> Sequence[A]:
        with self._tf.device(self.device):  # of this thread alone
            return self._model(values)

    @property
    def batch_size(self) -> int:
        """Items in a full batch."""
        return self._model.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._model.batch_size = size


class Replicas(Generic[T, A]):
    """A Survivor for each device. Call it in `pool`, which has a thread for each call at once."""

    def __init__(
        self,
        load: Callable[[], Model[A]],
        survivor: Callable[[Callable[[], Model[A]]], Survivor[T, A]],
    ) -> None:
        """Loads the model once for each device.

        Args:
            load: gives the model; a single device is left to TensorFlow's own choice.
            survivor: made of such a function.

        Raises:
            ModelError: it cannot be loaded.
        """
        devices = replica_devices()
        loads: list[Callable[[], Model[A]]] = [load]
        if len(devices) > 1:
            loads = [functools.partial(OnDevice, load, device) for device in devices]
        self._all = [survivor(load) for load in loads]
        self._free: queue.SimpleQueue[Survivor[T, A]] = queue.SimpleQueue()
        turns = self._all * (calls_at_once() if len(devices) == 1 else 1)
        for one in turns:
            self._free.put(one)
        self.pool = ThreadPoolExecutor(len(turns), "model")
        self.at_once = len(turns)
        self.binding = self._all[0].model.binding
        self.batch_size = self._all[0].model.batch_size

    def __call__(self, batch: Sequence[Item[T]]) -> list[Item[A]]:
        """As Survivor does, by a copy that is free."""
        model = self._free.get()
        try:
            return model(batch)
        finally:
            self._free.put(model)

    def warm_up(self, batch: Sequence[Item[T]]) -> None:
        """Runs every copy once; the first call builds its graphs."""
        for model in self._all:
            model(batch)

    def ahead(self) -> int:
        """Batches that may be under way or wait: one more than there are calls at once."""
        return self.at_once + 1
