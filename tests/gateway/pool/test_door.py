"""New requests wait for the only group while it starts again; nothing else is waited for."""

import asyncio

import pytest

from gateway.pool.door import Door
from gateway.pool.refusals import PoolNotReady, QueueFull
from tests.gateway.fake_group import FakeGroup
from tests.gateway.pool.world import Client, World, turn


async def test_request_waits_for_the_group_that_starts_again(world: World) -> None:
    """It was refused with 503."""
    assert not world.pool.door.is_shut(), "nobody waits for the first"
    first = world.group()
    await turn()
    await world.kill(first)
    assert world.pool.door.is_shut()
    waiting = asyncio.create_task(world.pool.door.wait())
    await turn()
    assert not waiting.done()
    again = world.group(epoch=2)
    await turn()
    assert waiting.done() and not world.pool.door.is_shut()
    world.submit(Client())
    await turn()
    assert len(again.submits) == 1


async def test_group_that_is_quiesced_is_waited_for_too(world: World) -> None:
    world.group()
    await turn()
    world.pool.quiesce(0, 1)
    assert world.pool.door.is_shut()


async def test_one_group_left_is_enough(world: World) -> None:
    first = world.group()
    world.group(replica=1)
    await turn()
    await world.kill(first)
    assert not world.pool.door.is_shut()


async def test_wait_ends_with_the_time_for_it_and_with_the_request_s() -> None:
    for queue_seconds, deadline_s in ((0.01, 0.0), (60.0, 1000.01), (60.0, 999.0)):
        world = World(queue_seconds=queue_seconds)
        await world.kill(await ready_group(world))
        waiting = asyncio.create_task(world.pool.door.wait(deadline_s))
        await turn()
        world.now_s += 0.02
        await asyncio.wait_for(waiting, 30)
        assert world.pool.door.is_shut()
        with pytest.raises(PoolNotReady):
            world.submit(Client())


async def test_timer_that_is_early_ends_no_wait() -> None:
    """A request whose own time was to end the wait was told 503, now and then, instead of 408."""
    times = iter([0.0, 0.0, 0.009, 0.01])
    door = Door(lambda group: True, lambda: next(times), wait_seconds=60, max_waiting=1)
    await asyncio.wait_for(door.wait(0.01), 30)
    assert next(times, None) is None


async def test_draining_lets_go_of_those_who_wait(world: World) -> None:
    await world.kill(await ready_group(world))
    waiting = asyncio.create_task(world.pool.door.wait())
    await turn()
    await asyncio.wait_for(world.pool.drain(), 60)
    await asyncio.wait_for(waiting, 60)


async def test_no_more_wait_than_may() -> None:
    world = World(max_waiting=2)
    await world.kill(await ready_group(world))
    waiting = [asyncio.create_task(world.pool.door.wait()) for _ in range(2)]
    await turn()
    with pytest.raises(QueueFull):
        await world.pool.door.wait()
    world.group(epoch=2)
    await asyncio.wait_for(asyncio.gather(*waiting), 60)


async def ready_group(world: World) -> FakeGroup:
    group = world.group()
    await turn()
    return group
