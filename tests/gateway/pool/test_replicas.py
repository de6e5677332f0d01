"""What a pool promises of its groups, and its end: sequences aborted, drained and cut off."""

import asyncio

from gateway.pool.refusals import CUT_OFF
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
    await asyncio.wait_for(world.pool.drain(), 60)


async def test_draining_worker_ends_what_the_last_group_leaves(world: World) -> None:
    first = world.group()
    await turn()
    client = Client()
    world.submit(client)
    drained = asyncio.create_task(world.pool.drain())
    await turn()
    assert not drained.done()
    await world.kill(first)
    await asyncio.wait_for(drained, 60)
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
    await asyncio.wait_for(world.pool.drain(), 60)
    assert again.submits


async def test_capacity_is_that_of_the_smallest_group_here(world: World) -> None:
    world.group(replica=0, kv_sequence_tokens=800)
    small = world.group(replica=1, kv_sequence_tokens=300)
    await turn()
    assert world.pool.kv_sequence_tokens == 300
    await world.kill(small)
    assert world.pool.kv_sequence_tokens == 800
    world.pool.detach(0, 1)
    assert world.pool.kv_sequence_tokens == 800  # until there is another to ask


async def test_long_sequence_waits_for_the_group_that_can_hold_it(world: World) -> None:
    """It was taken while a smaller group was away, and must not be refused by that group."""
    large = world.group(replica=0, credit=0, kv_sequence_tokens=800)
    small = world.group(replica=1, kv_sequence_tokens=102)
    await turn()
    for _ in range(2):
        world.submit(Client(), [1, 2, 3])  # and 100 to come
    world.submit(Client(), [1, 2])
    await turn()
    assert not small.submits
    large.send()
    await turn()
    assert len(large.submits) + len(small.submits) == 3
    assert all(len(submit.prompt_ids) == 2 for submit in small.submits)
