"""What goes on after a group's death, and what does not."""

import asyncio

import pytest

from backend.wire.messages import Abort, FinishReason, SeqOutput, TokenLogprobs
from backend.wire.sampling import SamplingParams
from gateway.pool import resumption
from gateway.pool.refusals import LOST, Poisonous, PoolNotReady
from tests.gateway.pool.world import PROMPT, Client, World, turn


async def test_death_moves_a_sequence_on_after_its_last_token(world: World) -> None:
    first = world.group(0)
    await turn()
    client = Client()
    seq_id = world.submit(client)
    first.give(seq_id, [10])
    first.give(seq_id, [11, 12])
    await turn()
    second = world.group(1)
    await world.kill(first)
    await turn()
    [submit] = second.submits
    assert (submit.prompt_ids, submit.output_ids) == (PROMPT, [10, 11, 12])
    second.give(submit.seq_id, [13], FinishReason.LENGTH)
    await turn()
    assert client.tokens == [10, 11, 12, 13]
    assert client.finish is FinishReason.LENGTH
    assert client.num_sent == 2


async def test_tokens_on_the_way_at_a_death_are_not_asked_for_again(
    world: World,
) -> None:
    first = world.group(0)
    await turn()
    client = Client()
    seq_id = world.submit(client)
    first.give(seq_id, [10])
    world.pool.detach(0, 1)  # told before the pipe was read
    assert client.tokens == [10]
    second = world.group(0, epoch=2)
    await turn()
    assert second.submits[0].output_ids == [10]


async def test_sequence_waits_for_the_restarted_group(world: World) -> None:
    first = world.group()
    await turn()
    client = Client()
    seq_id = world.submit(client)
    first.give(seq_id, [10])
    await turn()
    await world.kill(first)
    with pytest.raises(PoolNotReady):
        world.submit(Client())
    again = world.group(epoch=2)
    await turn()
    again.give(seq_id, [11], FinishReason.STOP)
    await turn()
    assert client.tokens == [10, 11]


async def test_resumed_sequences_go_before_new_ones_oldest_first(world: World) -> None:
    first, second = world.group(0), world.group(1, credit=0)
    await turn()
    old = [world.submit(Client()) for _ in range(3)]
    await turn()
    first.send(credit=0)
    await turn()
    new = world.submit(Client())
    await world.kill(first)
    second.send()
    await turn()
    assert [submit.seq_id for submit in second.submits] == [*old, new]


async def test_prompt_scores_that_were_delivered_are_counted(world: World) -> None:
    first = world.group(0)
    await turn()
    client = Client()
    seq_id = world.submit(client)
    first.send(SeqOutput(seq_id, [], prompt_logprobs=(TokenLogprobs(-1.0, 1, []),) * 2))
    await turn()
    await world.kill(first)
    again = world.group(0, epoch=2)
    await turn()
    assert again.submits[0].num_prompt_logprobs == 2


async def test_sequence_that_no_group_takes_in_time_ends_in_an_error() -> None:
    world = World(resume_seconds=0.05)
    first = world.group()
    await turn()
    client = Client()
    world.submit(client)
    await world.kill(first)
    while client.error is None:
        await asyncio.sleep(0.01)
    assert client.error.error == LOST
    assert not client.error.is_final


async def test_suspects_are_tried_alone_and_before_the_others(world: World) -> None:
    first = world.group()
    await turn()
    clients = [Client() for _ in range(4)]
    ids = [world.submit(client) for client in clients]
    await world.kill(first, suspects=ids[2:])
    again = world.group(epoch=2)
    await turn()
    assert [s.seq_id for s in again.submits] == ids[2:3]
    again.give(ids[2], [10])
    await turn()
    assert len(again.submits) == 1, "a token of the prompt proves little"
    again.give(ids[2], [11])
    await turn()
    assert [s.seq_id for s in again.submits] == ids[2:], "the first runs on beside the second"
    again.give(ids[3], [13], FinishReason.STOP)
    await turn()
    assert [s.seq_id for s in again.submits] == [*ids[2:], *ids[:2]]


async def test_suspect_of_two_deaths_is_given_up_and_refused(world: World) -> None:
    first = world.group()
    await turn()
    poison, innocent = Client(), Client()
    bad, good = world.submit(poison, [6, 6, 6]), world.submit(innocent)
    await world.kill(first, suspects=[bad])
    again = world.group(epoch=2)
    await turn()
    await world.kill(again, suspects=[bad])
    assert poison.error is not None and poison.error.is_final
    third = world.group(epoch=3)
    await turn()
    with pytest.raises(Poisonous):
        world.submit(Client(), [6, 6, 6])
    world.submit(Client(), [6, 6, 7])
    assert third.submits[0].seq_id == good
    assert innocent.error is None


async def test_bystander_survives_any_number_of_deaths(world: World) -> None:
    group = world.group()
    await turn()
    client = Client()
    seq_id = world.submit(client)
    for epoch in range(2, 12):
        await world.kill(group)
        group = world.group(epoch=epoch)
        await turn()
        group.give(seq_id, [epoch])
        await turn()
    assert client.tokens == list(range(2, 12))


async def test_harmless_suspect_has_no_past(world: World) -> None:
    group = world.group()
    await turn()
    client = Client()
    seq_id = world.submit(client)
    for epoch in range(2, 6):
        await world.kill(group, suspects=[seq_id])
        group = world.group(epoch=epoch)
        await turn()
        group.give(seq_id, [1, 2])
        await turn()
    assert client.error is None


async def test_suspect_that_leaves_ends_its_trial(world: World) -> None:
    group = world.group()
    await turn()
    ids = [world.submit(Client()) for _ in range(2)]
    await world.kill(group, suspects=ids)
    group = world.group(epoch=2)
    await turn()
    world.pool.abort(ids[0])
    assert [s.seq_id for s in group.submits] == ids
    assert Abort(ids[0]) in group.requests


async def test_busy_group_is_emptied_for_a_suspect_that_waits(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, other = world.group(0), world.group(1, credit=0)
    await turn()
    suspect = world.submit(Client())
    first.send(credit=0)
    other.send()
    await turn()
    busy = world.submit(Client())
    await world.kill(first, suspects=[suspect])
    monkeypatch.setattr(resumption, "EMPTY_GROUP_SECONDS", 0.0)
    newcomer = world.submit(Client())
    assert [s.seq_id for s in other.submits] == [busy]
    other.give(busy, [10], FinishReason.STOP)
    await turn()
    assert [s.seq_id for s in other.submits] == [busy, suspect]
    other.give(suspect, [10, 11])
    await turn()
    assert [s.seq_id for s in other.submits] == [busy, suspect, newcomer]


async def test_verdict_that_never_comes_counts_against_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.pool.recovery.VERDICT_SECONDS", 0.01)

    first = world.group(0)
    await turn()
    seq_id = world.submit(Client())
    first.die()
    second = world.group(1)
    while not second.submits:
        await asyncio.sleep(0.005)
    assert second.submits[0].seq_id == seq_id


async def test_cut_channel_without_a_death_is_reported_once(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lead gives up a worker that reads too slowly; without a new channel the worker would have
    no group for the rest of that group's life."""
    monkeypatch.setattr("gateway.pool.recovery.VERDICT_SECONDS", 0.01)

    dead, alive = world.group(0), world.group(1)
    await turn()
    client = Client()
    seq_id = world.submit(client)
    await world.kill(dead)  # told: nothing to report
    alive.die()
    while not world.listener.cut:
        await asyncio.sleep(0.005)
    again = world.group(1, epoch=2)
    await turn()
    assert [s.seq_id for s in again.submits] == [seq_id]
    assert world.listener.cut == [(1, 1)]


async def test_pair_of_texts_goes_on_elsewhere_as_it_was(world: World) -> None:
    first, second = world.group(0), world.group(1, credit=0)
    await turn()
    client = Client()
    params = SamplingParams(max_tokens=0)
    seq_id = world.pool.submit([1, 2, 3], params, client, second_segment=2)
    await world.kill(first)
    second.send()
    await turn()
    [submit] = second.submits
    assert (submit.seq_id, submit.prompt_ids, submit.second_segment) == (seq_id, [1, 2, 3], 2)
    second.send(SeqOutput(seq_id, [], FinishReason.STOP, vector=b"1234"))
    await turn()
    assert client.finish is FinishReason.STOP
    assert world.pool.status().groups and not world.pool.num_queued
