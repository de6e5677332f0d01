"""Who gets a group's credit, and which group, with groups played by hand."""

from collections.abc import Iterable

import pytest

from backend.wire.messages import SeqOutput
from gateway.pool.refusals import TOO_LATE, PoolNotReady, QueueFull
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import ANONYMOUS, Tenant
from tests.gateway.fake_group import FakeGroup
from tests.gateway.pool.world import Client, World, turn

MANY, FEW = Tenant(id="many"), Tenant(id="few1")


def submit(
    world: World,
    tenant: Tenant = ANONYMOUS,
    *,
    prompt_ids: Iterable[int] = (1, 2, 3),
    client: Client | None = None,
    deadline: float = 0.0,
) -> int:
    options = SubmitOptions(tenant=tenant, deadline=deadline)
    return world.submit(client or Client(), prompt_ids, options)


def sent(group: FakeGroup) -> list[int]:
    return [request.seq_id for request in group.submits]


async def test_newcomer_comes_before_the_rest_of_a_flood(world: World) -> None:
    group = world.group(credit=6)
    await turn()
    flood = [submit(world, MANY) for _ in range(10)]
    assert sent(group) == flood[:2]
    few = [submit(world, FEW) for _ in range(2)]
    assert sent(group) == [*flood[:2], few[0]], "it runs nothing: one goes without credit"
    group.send(credit=9)
    await turn()
    assert few[1] in sent(group)[3:6], "and then it takes turns"


async def test_tenant_without_credit_gets_one_sequence_and_no_more(world: World) -> None:
    first, second = world.group(0, credit=0), world.group(1, credit=0)
    await turn()
    submits = [submit(world, tenant) for _ in range(3) for tenant in (MANY, FEW)]
    assert sorted(sent(first) + sent(second)) == submits[:2]
    for seq_id in submits[:2]:
        world.pool.abort(seq_id)
    first.send(credit=0)
    await turn()
    assert sorted(sent(first) + sent(second)) == submits[:4]


async def test_rings_without_room_end_the_dispatch(world: World) -> None:
    groups = [world.group(number, credit=0) for number in range(2)]
    await turn()
    for number in range(64):
        submit(world, Tenant(id=f"t{number}xx"), prompt_ids=[100_000] * 100_000)
    num_sent = sum(len(sent(group)) for group in groups)
    assert 0 < num_sent < 64 and world.pool.num_queued == 64 - num_sent


async def test_late_sequence_reaches_no_group(world: World) -> None:
    group = world.group(credit=3)
    await turn()
    submit(world)
    client = Client()
    late = submit(world, client=client, deadline=world.now_s + 1)
    last = submit(world)
    world.now_s += 2
    group.send(credit=3)
    await turn()
    assert last in sent(group) and late not in sent(group)
    assert client.error is not None and client.error.error == TOO_LATE
    assert world.pool.num_queued == 0


async def test_free_group_is_taken_before_a_busy_one(world: World) -> None:
    busy, free = world.group(0), world.group(1)
    await turn()
    busy.report(running=60)
    free.report(credit=9_900)
    await turn()
    submit(world)
    assert (len(sent(busy)), len(sent(free))) == (0, 1)


async def test_prompt_goes_where_its_prefix_is_cached_if_cheaper(
    world: World,
) -> None:
    groups = [world.group(number) for number in range(2)]
    await turn()
    prefix = list(range(512))
    submit(world, prompt_ids=prefix)
    home = next(group for group in groups if sent(group))
    other = next(group for group in groups if group is not home)
    home.send()
    await turn()
    submit(world, prompt_ids=[*prefix, 7])
    assert len(sent(home)) == 2
    home.report(running=500)
    await turn()
    submit(world, prompt_ids=[*prefix, 7])
    assert (len(sent(home)), len(sent(other))) == (2, 1)


async def test_full_queue_and_missing_groups_are_told_apart() -> None:
    world = World(max_waiting=8)
    with pytest.raises(PoolNotReady):
        world.pool.check_room(MANY)
    world.group(credit=3)
    await turn()
    for _ in range(5):
        world.pool.check_room(MANY)
        submit(world, MANY)
    with pytest.raises(QueueFull):
        world.pool.check_room(MANY)
    world.pool.check_room(FEW)


async def test_output_is_charged_to_its_tenant(world: World) -> None:
    group = world.group(credit=6)
    await turn()
    first, second = submit(world, MANY), submit(world, FEW)
    waiting = {name: [submit(world, name) for _ in range(9)] for name in (MANY, FEW)}
    outputs = [SeqOutput(first, [5] * 20), SeqOutput(second, [5])]
    group.report(*outputs, running=2, credit=18)
    await turn()
    assert sent(group)[2:] == waiting[FEW][:6]
