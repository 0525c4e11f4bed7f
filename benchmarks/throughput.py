"""Pictures a second in steady state, against peers and against what the machine can do.

A contender does a small job and a large one; the difference is its steady state, what is left of
the small one its start:

    rate = (n_large - n_small) / (t_large - t_small)      start = t_small - n_small / rate
"""

import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from benchmarks.made import Dataset, make_dataset
from benchmarks.run import Measured, fresh, pixelmill, run

PEERS = ("plain_loop", "tf_data", "beam_run_inference", "tfx_bsl", "ray_data")


class Case(NamedTuple):
    """A model on pictures: `images` in `shards` for the large job, a part of them for the small."""

    model: str
    side_px: int
    images: int
    shards: int
    small: int


class Rate(NamedTuple):
    """Medians over the rounds."""

    images_per_s: float
    start_s: float
    peak_bytes: int


def contenders() -> list[str]:
    return ["pixelmill", *PEERS]


def measure(
    case: Case, model: str, batch_size: int, rounds: int, folder: Path
) -> dict[str, Rate | str]:
    """Runs all contenders in turns; for one that fails the reason."""
    names = contenders()
    datasets = [
        make_dataset(folder / "data", case.small, 1, case.side_px),
        make_dataset(folder / "data", case.images, case.shards, case.side_px),
    ]
    times: dict[str, list[list[Measured]]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name in names:
            if name in failed:
                continue
            try:
                times[name].append(
                    [_once(name, data, model, batch_size, folder) for data in datasets]
                )
            except (RuntimeError, ValueError) as error:
                failed[name] = str(error)[-600:]
            said = failed.get(name) or f"{times[name][-1][1].wall_s:.1f} s"
            print(f"  {case.model} {case.side_px} round {number + 1} {name}: {said}", flush=True)
    return {name: failed[name] if name in failed else _rate(times[name], case) for name in names}


def _once(name: str, data: Dataset, model: str, batch_size: int, folder: Path) -> Measured:
    out = fresh(folder / "out")
    source, batch = str(data.folder), str(batch_size)
    if name == "pixelmill":
        where = ["--input", source, "--output", str(out), "--model", model]
        command = pixelmill("segment", *where, f"--batch_size={batch}")
    else:
        command = [sys.executable, "-m", f"benchmarks.peers.{name}", source, model, str(out), batch]
    measured = run(command, folder / f"{name}.log")
    files = (out / "masks").glob("*.tfrecord") if name == "pixelmill" else out.glob("*")
    written = sum(
        1 for path in files for record in tf.data.TFRecordDataset(str(path)) if _is_mask(record)
    )
    if written != data.images:
        raise ValueError(f"{name} wrote {written} masks of {data.images}")
    return measured


def _is_mask(record: Any) -> bool:
    features = tf.train.Example.FromString(record.numpy()).features.feature
    return b"PNG" in features["image/segmentation/class/encoded"].bytes_list.value[0][:8]


def _rate(rounds: list[list[Measured]], case: Case) -> Rate:
    rates = [
        (case.images - case.small) / max(1e-3, large.wall_s - small.wall_s)
        for small, large in rounds
    ]
    rate = statistics.median(rates)
    start_s = statistics.median(small.wall_s for small, _ in rounds) - case.small / rate
    return Rate(rate, start_s, max(large.peak_bytes for _, large in rounds))
