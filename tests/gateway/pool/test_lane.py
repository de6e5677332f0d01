"""Groups by name: who gets what, and what happens to those that wait when a name goes."""

import pytest

from gateway.pool.refusals import PoolNotReady, QueueFull
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import ANONYMOUS
from tests.gateway.fake_group import FakeGroup
from tests.gateway.pool.world import Client, World, turn

NAMES = {0: "chat", 1: "batch", 2: "batch"}


def submit(world: World, group: str = "") -> int:
    return world.submit(Client(), options=SubmitOptions(group=group))


def sent(group: FakeGroup) -> list[int]:
    return [request.seq_id for request in group.submits]


async def test_request_goes_to_a_group_of_the_name_that_it_gives(world: World) -> None:
    world.pool.name_groups(NAMES)
    chat, *batch = [world.group(number) for number in range(3)]
    await turn()
    named = [submit(world, "batch") for _ in range(4)]
    unnamed = submit(world)
    assert sent(chat) == [unnamed]
    assert sorted(sent(batch[0]) + sent(batch[1])) == named
    assert sent(batch[0]) and sent(batch[1]), "both of them"


async def test_full_groups_of_one_name_hold_up_no_other() -> None:
    world = World(max_waiting=4)
    world.pool.name_groups({0: "chat", 1: "batch"})
    chat, batch = world.group(0), world.group(1, credit=0)
    await turn()
    first = submit(world, "batch")
    waiting = [submit(world, "batch") for _ in range(2)]
    assert sent(batch) == [first], "a tenant that runs nothing gets one"
    with pytest.raises(QueueFull):
        world.pool.check_room(ANONYMOUS, "batch")
    world.pool.check_room(ANONYMOUS)
    last = submit(world)
    assert sent(chat) == [last]
    batch.send(credit=100)
    await turn()
    assert sent(batch) == [first, *waiting] and sent(chat) == [last]


async def test_cut_off_requests_wait_for_a_group_of_their_name(world: World) -> None:
    world.pool.name_groups({0: "chat", 1: "batch"})
    chat, batch = world.group(0), world.group(1)
    await turn()
    bystander, suspect = submit(world, "batch"), submit(world, "batch")
    await world.kill(batch, [suspect])
    chat.send()
    await turn()
    assert sent(chat) == []
    assert world.pool.door.is_shut("batch") and not world.pool.door.is_shut()
    with pytest.raises(PoolNotReady):
        submit(world, "batch")
    again = world.group(1, epoch=2)
    await turn()
    assert sent(again) == [suspect], "alone, until it has shown to be harmless"
    again.give(suspect, [7])
    again.give(suspect, [7])
    await turn()
    assert sent(again) == [suspect, bystander] and sent(chat) == []


async def test_who_waits_for_a_name_that_is_gone_goes_on_elsewhere(world: World) -> None:
    world.pool.name_groups({0: "primary", 1: "batch"})
    primary, batch = world.group(0), world.group(1, credit=0)
    await turn()
    running, waiting = submit(world, "batch"), submit(world, "batch")
    await world.kill(batch)
    assert sent(primary) == []
    world.pool.name_groups({0: "primary"})
    assert sent(primary) == [running, waiting]
    late = submit(world, "batch")
    assert sent(primary) == [running, waiting, late], "as one that had been read before"


async def test_draining_waits_for_the_groups_of_all_names(world: World) -> None:
    world.pool.name_groups({0: "primary", 1: "batch"})
    world.group(0)
    batch = world.group(1, credit=0)
    await turn()
    submit(world, "batch")
    submit(world, "batch")
    assert world.pool.num_queued == 1
    world.pool.cut_off()
    assert world.pool.num_queued == 0 and len(sent(batch)) == 1
