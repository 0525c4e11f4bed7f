"""What single nights do: overtaken runs, gates, budgets, retention, changes under way."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gcs_server import GcsServer
from nights import DAY_S, World, made_of

from models.errors import UserError
from pipeline.schedule import LEASE_S, ledger
from pipeline.schedule.lease import Holder, acquire
from transforms.inputs import Shard, plan_input


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, f"{tmp_path}/place")
    for name in "abc":
        made.put(name, name)
    return made


def names(world: World) -> str:
    return "".join(name[0] for name in sorted(world.published()))


def test_the_list_is_an_input_of_every_command(world: World) -> None:
    world.night()
    plan = plan_input(f"{world.place}/latest.list")
    assert [os.path.basename(shard.name) for shard in plan.shards] == ["a", "b", "c"]
    assert len({shard.name for shard in plan.shards}) == 3


def test_one_that_slept_through_its_lease_publishes_nothing(world: World) -> None:
    def sleep(shard: Shard) -> None:
        world.during = lambda _: None
        world.now_s += LEASE_S + 1
        world.put("d", "d")
        assert world.night().status == "published"

    world.during = sleep
    assert world.night().status == "overtaken"
    assert names(world) == "abcd"
    world.put("e", "e")
    assert world.night().status == "published"
    assert world.published() == world.clean()


def test_a_source_that_changes_while_it_is_worked_on_is_done_again(world: World) -> None:
    def change(shard: Shard) -> None:
        if shard.name == "b":
            world.now_s += 5
            world.put("b", "b2")

    world.during = change
    outcome = world.night()
    assert (outcome.status, outcome.shards["left"], names(world)) == ("published", 1, "ac")
    world.during = lambda _: None
    world.night()
    assert world.published()["b.tfrecord"] == made_of(b"b2", "a")
    assert world.published() == world.clean()


def test_gates_hold_what_is_new_and_let_it_pass_without_making_it_again(world: World) -> None:
    world.night()
    world.put("d", "d")

    def strict(metrics: Mapping[str, Any]) -> list[str]:
        assert metrics["records"]["read"] == 10  # of what is new alone
        return ["gate: no"]

    world.faults = strict
    for _ in range(2):
        outcome = world.night(keep=1)
        assert (outcome.status, outcome.exit_code, names(world)) == ("held", 3, "abc")
    world.faults = lambda _: []
    outcome = world.night(keep=1)
    assert (outcome.status, outcome.shards["made"], names(world)) == ("published", 0, "abcd")


def test_a_gate_that_cannot_be_read_lets_nothing_pass(world: World) -> None:
    def broken(_: Mapping[str, Any]) -> list[str]:
        raise UserError("no such metric")

    world.faults = broken
    assert world.night().status == "held"


def test_failed_shards_and_poor_ones_stop_publication_until_they_are_mended(world: World) -> None:
    world.put("d", "broken")
    outcome = world.night()
    assert (outcome.status, outcome.exit_code, outcome.reasons) == ("failed", 1, ("d: failed",))
    world.put("d", "poor")
    world.put("e", "poor too")  # one failure is allowed in a small shard, two in 50 records are not
    outcome = world.night()
    assert (outcome.status, outcome.shards["made"]) == ("failed", 2)
    world.put("e", "e")
    assert world.night().status == "published"
    assert set(world.computed.values()) == {1}


def test_another_recipe_is_published_when_all_is_made_by_it(world: World) -> None:
    world.night()
    world.recipe = "b"
    outcome = world.night(max_shards=2)
    assert (outcome.status, outcome.exit_code, outcome.shards["reworked"]) == ("waiting", 0, 3)
    assert all(data.startswith(b"a of") for data in world.published().values())
    assert world.night(max_shards=2).status == "published"
    assert world.published() == world.clean()


def test_what_is_left_of_new_shards_comes_later(world: World) -> None:
    assert world.night(max_shards=2).shards["left"] == 1
    assert names(world) == "ab"
    world.now_s += DAY_S
    world.put("d", "d")
    assert world.night(since_s=world.now_s - 3600).shards["made"] == 1
    assert names(world) == "abd"
    world.night()
    assert world.published() == world.clean()


def test_a_source_as_it_was_before_is_not_made_again(world: World) -> None:
    world.night()
    for content in ("other", "a"):
        world.now_s += DAY_S
        world.put("a", content)
        outcome = world.night()
    assert (outcome.status, outcome.shards["made"]) == ("published", 0)
    assert world.published() == world.clean()


def test_what_was_launched_is_published_by_the_next_run(world: World) -> None:
    world.launches = True
    outcome = world.night()
    assert (outcome.status, outcome.exit_code) == ("launched", 0)
    assert not os.path.exists(f"{world.place}/latest.list")
    world.launches = False
    assert world.night().status == "published"
    assert world.published() == world.clean() and set(world.computed.values()) == {1}


def test_keep_deletes_what_nobody_can_see_any_more(world: World) -> None:
    for day in range(6):
        world.now_s += DAY_S
        for name in "abc":
            world.put(name, f"{name}{day}")
        outcome = world.night(keep=2)
    assert outcome.status == "published" and len(outcome.deleted) == 1
    place = Path(world.place)
    assert len(list(place.glob("dt=*/run=*"))) == 2
    assert len(list(place.glob("snapshot-*.list"))) == 2
    assert len(ledger.read(world.place).complete) == 2
    assert world.published() == world.clean()


def test_keep_deletes_nothing_as_long_as_there_is_less(world: World) -> None:
    for day in range(5):
        world.now_s += DAY_S
        for name in "abc":
            world.put(name, f"{name}{day}")
        assert world.night(keep=5).deleted == ()
        assert len(list(Path(world.place).glob("snapshot-*.list"))) == day + 1
        assert len(list(Path(world.place).glob("dt=*/run=*"))) == day + 1


def test_a_source_that_is_all_gone_is_no_new_state(world: World) -> None:
    world.night()
    for name in "abc":
        world.drop(name)
    with pytest.raises(UserError, match="no files match"):
        world.night()
    assert names(world) == "abc"


def test_in_a_bucket(gcs: GcsServer, tmp_path: Path) -> None:
    world = World(tmp_path, "gs://bucket/place")
    for name in "ab":
        world.put(name, name)
    assert world.night(keep=1).status == "published"
    world.now_s += DAY_S
    world.put("b", "b2")
    world.put("c", "c")
    world.drop("a")
    assert world.night(keep=1).status == "published"
    assert world.published() == {
        "b.tfrecord": b"a of b2",
        "c.tfrecord": b"a of c",
    }
    assert world.night(keep=1).status == "nothing_new"
    lease = acquire(world.place, "one")
    assert not isinstance(lease, Holder)
    assert isinstance(acquire(world.place, "two"), Holder)


def test_a_dead_holder_on_this_machine_is_seen_at_once(tmp_path: Path) -> None:
    place = str(tmp_path)
    if (child := os.fork()) == 0:
        acquire(place, "child")
        os._exit(0)
    os.waitpid(child, 0)
    lease = acquire(place, "after")
    assert not isinstance(lease, Holder)
    other = acquire(place, "meanwhile")
    assert isinstance(other, Holder) and other.run == "after"
    with lease.kept():
        pass
    assert not isinstance(acquire(place, "then"), Holder)
