"""What is set before TensorFlow starts on its devices, and what there is.

All of it is optional, and falls back with a message on a CPU.
"""

import contextlib
import dataclasses
import os
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any, Literal

from models.errors import ModelError
from models.loading import import_tensorflow

Precision = Literal["float32", "bfloat16", "float16"]


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """Settings of the accelerators; pickled to the workers.

    Attributes:
        precision: in which a graph of float32 computes where that is safe, by TensorFlow's
            automatic mixed precision. bfloat16 works on CPUs that have it, float16 on GPUs.
        memory_mb: of each GPU that a process may take; 0 to let it grow as it is needed.
    """

    precision: Precision = "float32"
    memory_mb: int = 0


def configure(options: DeviceOptions) -> None:
    """Sets up TensorFlow's devices. Must run before the first operation; later it changes nothing
    but the precision.

    Raises:
        ModelError: the precision is not to be had here.
    """
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            if options.memory_mb:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=options.memory_mb)
                tf.config.set_logical_device_configuration(gpu, [limit])
            else:
                tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as error:  # devices are in use already, with the settings they have
            print(f"pixelmill: {gpu.name} keeps its settings: {error}", file=sys.stderr)
    if options.memory_mb and not gpus:
        print("pixelmill: --device_memory_mb has no effect: there is no GPU", file=sys.stderr)
    if (options.precision == "float16") != bool(gpus) and options.precision != "float32":
        other = "float16" if gpus else "bfloat16"
        raise ModelError(
            f"--precision={options.precision} is not to be had on this "
            f"{'GPU' if gpus else 'CPU'}; give --precision={other}, or leave it out"
        )
    tf.config.optimizer.set_experimental_options(
        {
            "auto_mixed_precision": options.precision == "float16",
            "auto_mixed_precision_onednn_bfloat16": options.precision == "bfloat16",
        }
    )


def replica_devices() -> list[str]:
    """Where a process keeps a copy of its model: every GPU, or without any every CPU that
    TensorFlow was told to tell apart, which is one unless someone did."""
    tf = import_tensorflow()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def calls_at_once() -> int:
    """How many calls of one model are worth making at once: two on processors, for much of a call
    runs on one core and what waits for it on none; one on a GPU, whose memory it would share."""
    gpus = import_tensorflow().config.list_logical_devices("GPU")
    return 1 if gpus else min(2, _cores())


def _cores() -> int:
    """Those that this process may use."""
    has = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if has else os.cpu_count() or 1


def make_turn() -> AbstractContextManager[Any]:
    """What a call of a model is made in: one at a time on a GPU, as many as come elsewhere."""
    gpus = import_tensorflow().config.list_logical_devices("GPU")
    return threading.RLock() if gpus else contextlib.nullcontext()


def device_names() -> list[str]:
    """What TensorFlow computes on here: "CPU:0", "GPU:0 NVIDIA L4"."""
    tf = import_tensorflow()
    found = []
    for device in tf.config.list_physical_devices():
        if device.device_type not in ("CPU", "GPU", "TPU"):
            continue
        details: dict[str, Any] = tf.config.experimental.get_device_details(device)
        name = device.name.removeprefix("/physical_device:")
        found.append(" ".join(filter(None, [name, details.get("device_name", "")])))
    return found
