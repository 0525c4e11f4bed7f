"""Thirty simulated days: what is published is what one clean run publishes, nothing done twice."""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nights import DAY_S, Crash, World, crash_at

from pipeline.schedule import LEASE_S, ledger
from transforms.inputs import Shard

SEEDS = range(3)
MORE_SEEDS = range(3, 6)


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def change_sources(world: World, rng: random.Random, day: int) -> None:
    """Shards arrive, change and disappear; now and then the recipe is another."""
    names = sorted(path.stem for path in world.source.glob("*"))
    for number in range(rng.choice((0, 1, 1, 3))):
        world.put(f"day{day:02d}-{number}", f"{day} {number}")
    for name in names:
        if rng.random() < 0.08:
            world.put(name, f"{name} as of {day}")
        elif rng.random() < 0.05 and len(names) > 2:
            world.drop(name)
        elif rng.random() < 0.05:  # touched, not changed
            os.utime(world.source / f"{name}.tfrecord", (world.now_s, world.now_s))
    if rng.random() < 0.06:
        world.recipe = f"recipe of {day}"


def crashes(world: World, rng: random.Random, keep: int | None) -> None:
    """Runs that die somewhere, each started again when the dead one's lease is over."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        with crash_at(rng.randrange(1, 45), rng.random() < 0.5), contextlib.suppress(Crash):
            world.night(keep)
        assert world.night(keep).exit_code in (0, 75)  # the dead one may have its lease still
        world.now_s += LEASE_S + 1


def start_another(world: World, codes: list[int], keep: int | None) -> Callable[[Shard], None]:
    """For World.during: starts a second run, and notes its exit code."""
    return lambda _: codes.append(world.night(keep).exit_code)


def check(world: World) -> None:
    assert world.published() == world.clean()
    twice = {what: n for what, n in world.computed.items() if n > 1}
    assert not twice, twice
    assert not ledger.read(world.place).open


def live(world: World, rng: random.Random) -> int:
    """30 days; returns how many nights published something."""
    keep = rng.choice((None, 1, 3))
    published = 0
    for name in "xyz":
        world.put(name, name)
    for day in range(30):
        world.now_s += DAY_S
        change_sources(world, rng, day)
        if rng.random() < 0.1:
            continue  # a skipped day
        second: list[int] = []
        if rng.random() < 0.3:  # a double start
            world.during = start_another(world, second, keep)
        crashes(world, rng, keep)
        outcome = world.night(keep)
        assert outcome.exit_code == 0, outcome
        published += outcome.status == "published"
        assert set(second) <= {75}
        world.during = lambda _: None
        check(world)
        again = world.night(keep)  # a repeated schedule
        assert (again.status, again.shards["made"]) == ("nothing_new", 0)
    return published


@pytest.mark.parametrize("seed", SEEDS)
def test_thirty_days_publish_what_a_clean_run_does_and_nothing_is_made_twice(
    tmp_path: Path, seed: int
) -> None:
    assert live(World(tmp_path, f"{tmp_path}/place"), random.Random(seed)) > 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE_SEEDS)
def test_many_more_months(tmp_path: Path, seed: int) -> None:
    assert live(World(tmp_path, f"{tmp_path}/place"), random.Random(seed)) > 5


def everywhere(world: World) -> Iterator[tuple[int, bool]]:
    """Every change of the storage that the second night makes, before and after."""
    with crash_at(0, True) as count:
        world.night(keep=1)
    return ((step, before) for step in range(1, count[0] + 1) for before in (True, False))


def second_day(folder: Path) -> World:
    """After a first night a shard is new, one has changed, one is gone."""
    world = World(folder, f"{folder}/place")
    for name in "abc":
        world.put(name, name)
    world.night(keep=1)
    world.now_s += DAY_S
    world.put("b", "b2")
    world.put("d", "d")
    world.drop("c")
    return world


def test_a_crash_at_every_single_step(tmp_path: Path) -> None:
    for number, (step, before) in enumerate(everywhere(second_day(tmp_path / "dry"))):
        world = second_day(tmp_path / str(number))
        with crash_at(step, before), contextlib.suppress(Crash):
            world.night(keep=1)
        seen = world.published()
        assert seen in (
            {f"{n}.tfrecord": f"a of {n}".encode() for n in "abc"},
            {
                f"{n}.tfrecord": f"a of {v}".encode()
                for n, v in (("a", "a"), ("b", "b2"), ("d", "d"))
            },
        ), f"after a crash at step {step} readers see half of a publication"
        world.now_s += LEASE_S + 1
        assert world.night(keep=1).exit_code == 0
        check(world)
    assert number > 30
