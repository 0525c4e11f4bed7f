"""How long a job takes, and what it costs: arithmetic on measured rates and a table of prices."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import yaml

from models.errors import UserError
from transforms import storage

OWN_TABLE = os.path.join(os.path.dirname(__file__), "prices.yaml")
START_H = 5 / 60  # until a worker has started, pulled its container and loaded the model
_SHARD_REQUESTS = 8  # that write or list, for a shard's files, its commit and their checks
_NAMES = (
    *("date", "region", "vcpu_hour", "ram_gb_hour", "disk_gb_hour", "flexrs", "accelerator_hour"),
    *("write_10000", "read_10000", "ram_gb_per_vcpu", "machines"),
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine type: its name, virtual CPUs and memory in GB."""

    name: str
    vcpus: int
    ram_gb: float


class Prices:
    """A table of prices in US dollars, see prices.yaml."""

    def __init__(self, path: str = OWN_TABLE) -> None:
        """Reads it. Raises UserError."""
        try:
            table = yaml.safe_load(storage.read_bytes(path))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"--prices={path} cannot be read: {error}") from error
        missing = [n for n in _NAMES if not isinstance(table, dict) or n not in table]
        if missing:
            raise UserError(f"--prices={path} lacks {', '.join(missing)}; begin with a copy of "
                            "pixelmill's own, pipeline/dataflow/prices.yaml")  # fmt: skip
        self._table: dict[str, Any] = table
        self.date = str(table["date"])
        self.region = str(table["region"])

    def machine(self, name: str) -> Machine | None:
        """A machine type by its name, None when the table does not know it."""
        if name in self._table["machines"]:
            return Machine(name, *self._table["machines"][name])
        family, _, vcpus = name.rpartition("-")
        ram = self._table["ram_gb_per_vcpu"].get(family)
        return Machine(name, int(vcpus), int(vcpus) * ram) if ram and vcpus.isdecimal() else None

    def worker_hour(
        self, machine: Machine, disk_gb: int, accelerator: str, count: int, flexrs: bool
    ) -> float | None:
        """Dollars for an hour of one worker; None when the accelerator is not in the table."""
        rates: Mapping[str, float] = {**self._table, **(self._table["flexrs"] if flexrs else {})}
        gpu = self._table["accelerator_hour"].get(accelerator) if accelerator else 0.0
        if gpu is None:
            return None
        return float(
            machine.vcpus * rates["vcpu_hour"]
            + machine.ram_gb * rates["ram_gb_hour"]
            + disk_gb * rates["disk_gb_hour"]
            + count * gpu
        )

    def requests(self, writes: int, reads: int) -> float:
        """Dollars for requests to gs://."""
        return float(
            writes / 1e4 * self._table["write_10000"] + reads / 1e4 * self._table["read_10000"]
        )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a job is expected to take.

    Attributes:
        images: to be done.
        workers: at most, see --max_num_workers.
        worker_images_per_s: of one worker.
        hours: from launch to end, with START_H.
        worker_hours: of all workers.
        shard_s: that the largest shard takes, in seconds.
        workers_usd, requests_usd: dollars; None when a price is missing.
        prices_of: date and region of the table.
    """

    images: int
    workers: int
    worker_images_per_s: float
    hours: float
    worker_hours: float
    shard_s: float
    workers_usd: float | None
    requests_usd: float
    prices_of: str

    @property
    def usd(self) -> float | None:
        return None if self.workers_usd is None else self.workers_usd + self.requests_usd


def worker_rate(codec_s: float, model_s: float, cores_here: int, vcpus: int) -> float:
    """Images per second of a worker whose CPUs do all the work, as fast as those here.

    Args:
        codec_s: that one core reads, decodes and encodes an image, in seconds.
        model_s: that the model takes for an image here, with all cores.
        cores_here: cores that measured it.
        vcpus: of the worker.
    """
    return vcpus / max(1e-9, codec_s + model_s * cores_here)


def estimate(
    prices: Prices,
    *,
    images: int,
    shards: int,
    files: bool,
    rate: float,
    workers: int,
    hour_usd: float | None,
) -> Estimate:
    """Time and cost of a job.

    Args:
        images, shards: that are to be done; the shards are taken to be of one size.
        files: whether every image is an object of its own, read and written one by one.
        rate: images per second of one worker.
        workers: at most.
        hour_usd: of one worker, in dollars.
    """
    shard_s = images / max(1, shards) / rate
    rounds = math.ceil(shards / max(1, workers))  # the last round keeps some workers waiting
    work_h = max(images / rate / max(1, workers), rounds * shard_s if shards else 0) / 3600
    worker_hours = images / rate / 3600 + workers * START_H if shards else 0.0
    writes = _SHARD_REQUESTS * shards + (images if files else 0)
    reads = 4 * shards + (images if files else 0)
    return Estimate(
        images=images,
        workers=workers,
        worker_images_per_s=rate,
        hours=START_H + work_h if shards else 0.0,
        worker_hours=worker_hours,
        shard_s=shard_s,
        workers_usd=None if hour_usd is None else worker_hours * hour_usd,
        requests_usd=prices.requests(writes, reads),
        prices_of=f"{prices.date}, {prices.region}",
    )
