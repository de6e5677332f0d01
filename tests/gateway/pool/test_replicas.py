"""The end of a pool: sequences that are aborted, drained and cut off."""

import asyncio

from gateway.pool.refusals import CUT_OFF
from tests.gateway.fake_group import FakeGroup
from tests.gateway.pool.world import Client, World, turn


async def test_abort_of_a_sequence_without_a_group_keeps_nothing(world: World) -> None:
    first = world.group()
    await turn()
    ids = [world.submit(Client()) for _ in range(2)]
    first.die()
    await turn()
    world.pool.abort(ids[0])  # before the verdict
    world.pool.detach(0, 1)
    world.pool.abort(ids[1])  # after it
    await asyncio.wait_for(world.pool.drain(), 1)


async def test_draining_worker_ends_what_the_last_group_leaves(world: World) -> None:
    first = world.group()
    await turn()
    client = Client()
    world.submit(client)
    drained = asyncio.create_task(world.pool.drain())
    await turn()
    assert not drained.done()
    await world.kill(first)
    await asyncio.wait_for(drained, 1)
    assert client.error is not None


async def test_cut_off_tells_what_runs_and_what_waits(world: World) -> None:
    group = world.group()
    await turn()
    clients = [Client() for _ in range(3)]
    world.submit(clients[0])
    world.submit(clients[1])
    await turn()
    await world.kill(group)
    again = world.group(epoch=2)
    await turn()
    world.submit(clients[2])
    world.pool.cut_off()
    assert [client.error and client.error.error for client in clients] == [CUT_OFF] * 3
    await asyncio.wait_for(world.pool.drain(), 1)
    assert again.submits


async def test_longest_sequence_is_what_every_group_can_hold(world: World) -> None:
    """It was that of whichever group had come last, and others refused what was let through."""
    for replica, kv_sequence_tokens in enumerate((700, 900)):
        FakeGroup(world.pool, replica).ready(kv_sequence_tokens=kv_sequence_tokens)
    await turn()
    assert world.pool.kv_sequence_tokens == 700
    FakeGroup(world.pool, 0, epoch=2).ready(kv_sequence_tokens=950)
    await turn()
    assert world.pool.kv_sequence_tokens == 900
