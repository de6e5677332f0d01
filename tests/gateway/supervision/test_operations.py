"""Drain, add, remove, restart, with groups that change their state when a test says so."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backend.config.errors import ModelError
from backend.wire.local.heartbeat import Load
from gateway.supervision import operations
from gateway.supervision.control_messages import Add, DrainGroup, Operation, Remove, Restart
from gateway.supervision.groups import Group, GroupState
from gateway.supervision.operations import OperationError, Operations
from gateway.supervision.restarts import Restarts
from gateway.supervision.state_changes import StateChanges


class FakeGroup:
    """Starts and stops at once. starts_as: what a start leads to."""

    def __init__(self, number: int, changes: StateChanges) -> None:
        self.number = number
        self.state = GroupState.READY
        self.starts_as = GroupState.READY
        self.restarts = Restarts(3, 600)
        self.last_fault = None
        self.waits_for = ""
        self.num_starts = 1
        self._changes = changes

    @property
    def incarnation(self) -> Any:
        if self.state not in (GroupState.READY, GroupState.DRAINING):
            return None
        load = Load(num_running=2, num_waiting=1)
        return SimpleNamespace(replica=SimpleNamespace(load=load))

    def start(self) -> None:
        self.state = self.starts_as
        self.num_starts += 1
        self._changes.tell()

    def want_no_more(self) -> None:
        if self.state is GroupState.READY:
            self.state = GroupState.DRAINING

    def stop(self) -> None:
        self.state = GroupState.STOPPED
        self._changes.tell()


class Keeper:
    """A supervisor of fake groups; each is quiet at once unless it is in `busy`."""

    def __init__(self, count: int) -> None:
        self.changes = StateChanges()
        self.fakes = {number: FakeGroup(number, self.changes) for number in range(count)}
        self.busy: set[int] = set()
        self.quiesced: list[int] = []
        self.said: list[str] = []
        self.added_as, self.added_waits_for = GroupState.READY, ""
        self.operations = Operations(self, self, self.changes)

    @property
    def groups(self) -> dict[int, Group]:
        return cast(dict[int, Group], self.fakes)

    def add_group(self, wanted: Add) -> Group:
        if wanted.ranks > 4:
            raise ModelError(f"{wanted.ranks} ranks are too many")
        number = max(self.fakes) + 1
        self.fakes[number] = FakeGroup(number, self.changes)
        self.fakes[number].state = GroupState.STOPPED
        self.fakes[number].starts_as = self.added_as
        self.fakes[number].waits_for = self.added_waits_for
        return self.groups[number]

    def forget_group(self, group: Group) -> None:
        del self.fakes[group.number]

    def is_served(self, group: Group) -> bool:
        return group.state is GroupState.READY

    def quiesce(self, group: Group) -> None:
        self.quiesced.append(group.number)

    def is_quiet(self, group: Group) -> bool:
        return group.number not in self.busy

    async def do(self, operation: Operation) -> str:
        return (await self.operations.carry_out(operation, self.said.append)).text

    def states(self) -> dict[int, GroupState]:
        return {number: fake.state for number, fake in self.fakes.items()}


async def test_drained_group_stops_only_when_nothing_is_left_in_it() -> None:
    keeper = Keeper(2)
    keeper.busy.add(0)
    drain = asyncio.create_task(keeper.do(DrainGroup(0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert keeper.states() == {0: GroupState.DRAINING, 1: GroupState.READY}
    assert keeper.said == ["group 0 drains: 3 sequences left"]
    keeper.busy.clear()
    keeper.changes.tell()
    assert await drain == "group 0 has stopped"
    assert keeper.quiesced == [0]
    assert await keeper.do(DrainGroup(0)) == "group 0 has stopped", "again, without harm"
    assert keeper.quiesced == [0]


async def test_patience_with_streams_ends_when_it_was_limited() -> None:
    keeper = Keeper(1)
    keeper.busy.add(0)
    assert await keeper.do(DrainGroup(0, timeout_s=0.01)) == "group 0 has stopped"
    assert keeper.said[-1] == "group 0: time is up, the rest goes on elsewhere"


async def test_rolling_restart_takes_one_group_after_another() -> None:
    keeper = Keeper(3)
    assert await keeper.do(Restart()) == "all groups have been restarted"
    assert set(keeper.states().values()) == {GroupState.READY}
    assert [fake.num_starts for fake in keeper.fakes.values()] == [2, 2, 2]
    starts = [line for line in keeper.said if line.endswith("starts")]
    stops = [line for line in keeper.said if line.endswith("stopped")]
    assert [keeper.said.index(line) for line in starts] == sorted(
        keeper.said.index(stop) + 1 for stop in stops
    )


async def test_rolling_restart_ends_at_a_group_that_does_not_come_back() -> None:
    keeper = Keeper(3)
    keeper.fakes[1].starts_as = GroupState.GIVEN_UP
    with pytest.raises(OperationError, match="group 1 is given up"):
        await keeper.do(Restart())
    assert keeper.fakes[2].num_starts == 1, "the last that serves is left alone"


async def test_group_given_up_may_be_restarted_and_is_forgiven() -> None:
    keeper = Keeper(2)
    keeper.fakes[0].state = GroupState.GIVEN_UP
    deaths = keeper.fakes[0].restarts
    assert [deaths.note_death(0) for _ in range(4)] == [True, True, True, False]
    assert await keeper.do(Restart(0)) == "group 0 has been restarted"
    assert deaths.note_death(0)


async def test_numbers_are_never_used_again_and_wrong_ones_are_named() -> None:
    keeper = Keeper(2)
    assert await keeper.do(Add()) == "group 2 serves"
    assert await keeper.do(Remove(0)) == "group 0 has been removed"
    assert await keeper.do(Remove(0)) == "group 0 has been removed already"
    with pytest.raises(OperationError, match="group 0 has been removed"):
        await keeper.do(Restart(0))
    with pytest.raises(OperationError, match="5 ranks are too many"):
        await keeper.do(Add(ranks=5))
    with pytest.raises(OperationError, match="there is no group 5; there are: 1, 2"):
        await keeper.do(DrainGroup(5))


async def test_operations_wait_for_each_other() -> None:
    keeper = Keeper(2)
    keeper.busy.add(0)
    first = asyncio.create_task(keeper.do(DrainGroup(0)))
    await asyncio.sleep(0)
    second = asyncio.create_task(keeper.do(DrainGroup(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert keeper.states()[1] is GroupState.READY
    assert "another operation is under way; this one waits for it" in keeper.said
    keeper.busy.clear()
    keeper.changes.tell()
    assert list(await asyncio.gather(first, second)) == [
        "group 0 has stopped",
        "group 1 has stopped",
    ]


async def test_group_that_waits_for_a_node_keeps_nobody_else_waiting() -> None:
    """A name of a node with a slip of the pen stopped all operations until the server ended."""
    keeper = Keeper(1)
    keeper.added_as, keeper.added_waits_for = GroupState.PLACING, "for a node: no nod2"
    adding = asyncio.create_task(keeper.do(Add(node="nod2")))
    await asyncio.sleep(0)
    assert keeper.said == ["group 1 starts", "group 1 waits for a node: no nod2"]
    assert await keeper.do(Remove(1)) == "group 1 has been removed"
    with pytest.raises(OperationError, match="group 1 is stopped"):
        await adding


async def test_restart_ends_where_no_node_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.supervision.operations.PLACING_SECONDS", 0.01)
    keeper = Keeper(2)
    keeper.fakes[0].starts_as, keeper.fakes[0].waits_for = GroupState.PLACING, "for 4 CPU"
    with pytest.raises(OperationError, match="group 0 waits for 4 CPU\nit starts once"):
        await keeper.do(Restart())
    assert keeper.fakes[1].num_starts == 1, "no second group is stopped then"


async def test_drain_waits_for_streams_of_other_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells of them: what the group holds is looked at."""
    monkeypatch.setattr(operations, "LOOK_SECONDS", 0.01)
    keeper = Keeper(1)
    keeper.busy.add(0)
    drain = asyncio.create_task(keeper.do(DrainGroup(0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert keeper.said
    keeper.busy.clear()  # without a word
    assert await drain == "group 0 has stopped"
