"""What the machine can do: processor seconds of each stage for one picture, in one thread.

    images/s <= cores / (read + decode + model + encode)
    images/s <= rate of the bare model alone, with all cores, at its best batch

The bare model is the SavedModel with an argmax in the graph: a mask is the least that comes out.
What pixelmill measures of each answer, and its rows, are not part of the limit; they are listed.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.made import Dataset
from benchmarks.run import run

BATCHES = (1, 2, 4, 8, 16, 32)
_LEAST_S = 1.0


class Limits(NamedTuple):
    """Milliseconds of one processor for one picture, and pictures a second."""

    read_ms: float
    decode_ms: float
    model_ms: float
    encode_ms: float
    metrics_ms: float
    batch_size: int
    model_only_per_s: float
    cores: int

    @property
    def images_per_s(self) -> float:
        """What the machine can do at most."""
        used = self.read_ms + self.decode_ms + self.model_ms + self.encode_ms
        return min(self.cores * 1000 / used, self.model_only_per_s)


def measure(data: Dataset, model: str, folder: Path) -> Limits:
    """Measures in processes of their own: one with one thread, one with all."""
    found: dict[str, Any] = {}
    for threads in ("1", "all"):
        out = folder / f"limits-{threads}.json"
        program = [sys.executable, "-m", "benchmarks.limits"]
        run([*program, str(data.folder), model, threads, str(out)], folder / "limits.log")
        found |= json.loads(out.read_bytes())
    return Limits(**found)


def _cpu_ms(function: Callable[[], Any], images: int) -> float:
    """The lower quartile of processor time for one picture, over at least a second."""
    function()
    times: list[float] = []
    end = time.monotonic() + _LEAST_S
    while time.monotonic() < end or len(times) < 5:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.quantile(times, 0.25)) / images * 1000


def _main(folder: str, model: str, threads: str, out: str) -> None:
    import os

    import tensorflow as tf

    from benchmarks.peers import common
    from models.card import load_card, own_card
    from models.probe import probe
    from models.rules import bind
    from models.segmenter import Segmenter
    from models.signatures import read_model

    if threads == "1":
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    shard = sorted(Path(folder).glob("*.tfrecord"))[0]
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(shard)).take(64)]
    encoded = [common.parse(record)[1] for record in records]
    images = [common.decode(data) for data in encoded]
    masks = common.mask_function(model)
    pixels = images[0].size

    def batch(size: int) -> Any:
        return np.stack([images[i % len(images)] for i in range(size)])

    sizes = [size for size in BATCHES if size == 1 or size * pixels <= 32 << 20]
    if threads != "1":
        rates = {}
        for size in sizes:
            stacked = batch(size)
            masks(stacked)
            start, done = time.monotonic(), 0
            while time.monotonic() - start < _LEAST_S * 1.5 or done < 3:
                masks(stacked).numpy()
                done += 1
            rates[size] = done * size / (time.monotonic() - start)
        best = max(rates, key=lambda size: rates[size])
        found: dict[str, Any] = {
            "batch_size": best,
            "model_only_per_s": rates[best],
            "cores": len(os.sched_getaffinity(0)),
        }
    else:
        by_size = {size: _cpu_ms(lambda s=size: masks(batch(s)).numpy(), size) for size in sizes}
        best = min(by_size, key=lambda size: by_size[size])
        binding = probe(model, bind(read_model(model), load_card(own_card(model), {})))
        segmenter = Segmenter(model, binding, best, with_confidence=False)
        some = [images[i % len(images)] for i in range(best)]
        mask = masks(batch(1)).numpy()[0]
        path = str(shard)
        in_shard = sum(1 for _ in tf.data.TFRecordDataset(path))

        def read() -> None:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                common.parse(record)

        found = {
            "read_ms": _cpu_ms(read, in_shard),
            "decode_ms": _cpu_ms(lambda: [common.decode(data) for data in encoded], len(encoded)),
            "model_ms": by_size[best],
            "encode_ms": _cpu_ms(lambda: common.encode(mask), 1),
            "metrics_ms": _cpu_ms(lambda: segmenter(some), best) - by_size[best],
        }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
