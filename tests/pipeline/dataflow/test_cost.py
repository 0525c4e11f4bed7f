"""Time and cost are the arithmetic of the table; tables are checked, machine types are read."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UserError
from pipeline.dataflow.accelerators import KNOWN, Accelerator
from pipeline.dataflow.cost import OWN_TABLE, START_H, Machine, Prices, estimate, worker_rate

PRICES = Prices()


@pytest.mark.parametrize(
    ("name", "vcpus", "ram_gb"),
    [("n1-standard-4", 4, 15), ("n2-highmem-16", 16, 128), ("a2-highgpu-2g", 24, 170)],
)
def test_machine_types(name: str, vcpus: int, ram_gb: float) -> None:
    assert PRICES.machine(name) == Machine(name, vcpus, ram_gb)


@pytest.mark.parametrize("name", ["", "n2", "n9-standard-4", "n2-standard-x", "custom-4-2048"])
def test_unknown_machine_types(name: str) -> None:
    assert PRICES.machine(name) is None


def test_every_usual_machine_of_an_accelerator_with_a_price_is_known() -> None:
    for kind in KNOWN:
        machine = PRICES.machine(Accelerator.parse(kind).usual_machine)
        if machine is None:
            assert kind == "nvidia-h100-80gb"  # no price is known
        else:
            assert PRICES.worker_hour(machine, 0, kind, 1, False) is not None


def test_a_worker_hour() -> None:
    machine = Machine("m", 4, 15)
    plain = 4 * 0.056 + 15 * 0.003557 + 100 * 0.000054
    assert PRICES.worker_hour(machine, 100, "", 0, False) == pytest.approx(plain)
    both = PRICES.worker_hour(machine, 100, "nvidia-tesla-t4", 2, False)
    assert both == pytest.approx(plain + 2 * 0.42)
    flexible = PRICES.worker_hour(machine, 0, "", 0, True)
    assert flexible == pytest.approx(0.6 * (4 * 0.056 + 15 * 0.003557))
    assert PRICES.worker_hour(machine, 0, "nvidia-l5", 1, False) is None


@given(
    images=st.integers(1, 10**9),
    shards=st.integers(1, 10**6),
    rate=st.floats(0.1, 1e4),
    workers=st.integers(1, 1000),
)
def test_more_workers_are_never_slower_and_work_is_never_cheaper_than_itself(
    images: int, shards: int, rate: float, workers: int
) -> None:
    def made(count: int) -> float:
        return estimate(
            PRICES, images=images, shards=shards, files=False, rate=rate, workers=count, hour_usd=1
        ).hours

    assert made(workers + 1) <= made(workers) * (1 + 1e-9)
    assert made(workers) >= START_H + images / rate / 3600 / workers * (1 - 1e-9)


def test_an_estimate() -> None:
    found = estimate(
        PRICES, images=360_000, shards=10, files=True, rate=10.0, workers=4, hour_usd=0.5
    )
    # 10 shards of an hour by 4 workers take three rounds
    assert found.shard_s == 3600 and found.hours == pytest.approx(3 + START_H)
    assert found.worker_hours == pytest.approx(10 + 4 * START_H)
    assert found.workers_usd == pytest.approx(found.worker_hours * 0.5)
    assert found.requests_usd == pytest.approx(
        (360_000 + 80) / 1e4 * 0.05 + (360_000 + 40) / 1e4 * 0.004
    )
    assert found.usd == pytest.approx(found.workers_usd + found.requests_usd)


def test_nothing_to_do_costs_no_worker() -> None:
    found = estimate(PRICES, images=0, shards=0, files=True, rate=1, workers=1, hour_usd=1)
    assert found.hours == found.usd == 0


def test_a_worker_with_more_cpus_is_faster() -> None:
    # 0.1 s of one core for coding, and 0.2 s of two for the model, are half a second of one core
    assert worker_rate(0.1, 0.2, cores_here=2, vcpus=8) == pytest.approx(16)


def test_a_table_is_replaceable_and_checked(tmp_path: Path) -> None:
    table = yaml.safe_load(Path(OWN_TABLE).read_text())
    (own := tmp_path / "own.yaml").write_text(yaml.safe_dump(table | {"vcpu_hour": 1}))
    machine = Machine("m", 3, 0)
    assert Prices(str(own)).worker_hour(machine, 0, "", 0, False) == 3
    del table["machines"]
    own.write_text(yaml.safe_dump(table))
    with pytest.raises(UserError, match="lacks machines"):
        Prices(str(own))
    own.write_text("[")
    with pytest.raises(UserError, match="cannot be read"):
        Prices(str(own))


def test_accelerators_are_read_as_dataflow_writes_them() -> None:
    full = "type:nvidia-l4;count:2;install-nvidia-driver:5xx;machine_type:g2-standard-24"
    found = Accelerator.parse(full)
    assert str(found) == full and found.count == 2 and found.has_driver
    assert found.machine == found.usual_machine == "g2-standard-24" and not found.is_shared
    assert Accelerator.parse("type:x;count:two").count == 0
