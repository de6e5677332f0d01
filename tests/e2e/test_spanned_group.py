"""A group that is on two nodes: streams of activations and sums over TCP, one fate for all."""

import asyncio
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from backend.settings import EngineSettings
from backend.wire.control import Dial
from backend.wire.messages import StepOutput, Submit
from backend.wire.sampling import SamplingParams
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.encryption import self_signed_pair
from backend.wire.tcp.ends import TcpWorkerEnd
from backend.wire.tcp.handshake import Hello
from backend.wire.tcp.stream import Stream
from tests.backend.factories import write_tiny_llama
from tests.e2e.agents import EPOCH, Incarnation, group, until
from tests.e2e.server import wait_until
from tests.e2e.steady import Pulse

pytestmark = pytest.mark.e2e

PROMPT = [5, 6, 7, 8] * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return write_tiny_llama(folder, num_layers=3, head_dim=16, max_model_len=512)


def engine(model: Path, nodes: int, tp: int = 1, pp: int = 1) -> EngineSettings:
    return EngineSettings(
        model=str(model), tp=tp, pp=pp, nodes=nodes, threads=1, kv_cache_bytes=1 << 22,
        device="cpu",
    )  # fmt: skip


def answer(incarnation: Incarnation) -> list[int]:
    """Send a request as a worker does; return the tokens."""
    params = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    tokens: list[int] = []
    until_s = time.monotonic() + 180
    with client(incarnation) as (stream, end):
        assert end.send(Submit(1, PROMPT, [], params))
        while len(tokens) < 20:
            assert time.monotonic() < until_s
            select.select([stream], [], [], 1)
            for reply in end.receive():
                if isinstance(reply, StepOutput):
                    tokens += [token for output in reply.outputs for token in output.token_ids]
    return tokens


def answer_if_let_in(incarnation: Incarnation) -> list[int] | None:
    """As answer(); None where the lead's certificate is not the one that the replica knows."""
    try:
        return answer(incarnation)
    except DialError as error:
        assert "another fingerprint" in str(error)
        return None


@contextmanager
def client(incarnation: Incarnation) -> Iterator[tuple[Stream, TcpWorkerEnd]]:
    """Connect as a worker does."""
    message = incarnation.replica.connect(0, 12).message
    assert isinstance(message, Dial)
    stream = dial(message.address, Hello(0, 0, 12, EPOCH))
    end = TcpWorkerEnd(stream)
    yield stream, end
    end.close()


async def test_tokens_over_two_nodes_are_those_of_three_encrypted(
    model: Path, tmp_path: Path
) -> None:
    files = tmp_path / "certificate", tmp_path / "key"
    for file, text in zip(files, self_signed_pair(), strict=True):
        file.write_text(text)
    async with group(engine(model, 2, pp=2)) as (two, owner, placer):
        assert [rank.title for rank in two.replica.ranks] == ["rank 0.0", "rank 0.1"]
        assert len(two.ranks()) == 2 and two.fault is None
        first = await asyncio.to_thread(answer, two)
    assert owner.told[-1] == "ended" and placer.displaced == [(0, 3)]
    certificate, key = map(str, files)
    async with group(engine(model, 3, pp=3), certificate, key) as (three, _, _):
        assert await asyncio.to_thread(answer, three) == first
        three.replica.renew(*self_signed_pair())
        # The lead hears of it through its agent; a worker that is sooner is refused.
        async with asyncio.timeout(120):
            while (second := await asyncio.to_thread(answer_if_let_in, three)) is None:
                pass
        assert second == first


@pytest.mark.parametrize("tp", [2, 4])
async def test_tokens_of_ranks_over_two_nodes_are_those_of_one(model: Path, tp: int) -> None:
    async with group(engine(model, 1, tp)) as (one, _, _):
        here = await asyncio.to_thread(answer, one)
    async with group(engine(model, 2, tp)) as (two, owner, placer):
        assert [rank.title for rank in two.replica.ranks] == [f"rank 0.{n}" for n in range(tp)]
        assert await asyncio.to_thread(answer, two) == here
    assert owner.told[-1] == "ended" and placer.displaced == [(0, 3)]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("pp", [2, 1])
async def test_death_of_a_rank_ends_the_ranks_of_both_nodes(
    model: Path, pp: int, rank: int
) -> None:
    async with group(engine(model, 2, 2 // pp, pp)) as (incarnation, owner, placer):
        pids = [rank.pid for rank in incarnation.replica.ranks]
        with Pulse() as pulse:
            began_s = time.monotonic()
            os.kill(pids[rank], signal.SIGKILL)
            await asyncio.wait_for(until(owner, "faulted"), 120)
            await asyncio.wait_for(until(owner, "ended"), 120)
            took_s = time.monotonic() - began_s
        assert took_s - pulse.lost_s < 11, "less the time in which the machine stood still"
        assert incarnation.fault is not None and placer.displaced == [(0, EPOCH)]
        # The other node's ranks have lost a connection; that is no fault of their own.
        assert incarnation.fault.rank == f"rank 0.{rank}" and incarnation.fault.blamed == []
        assert sum(each.startswith("faulted") for each in owner.told) == 1
    # An agent that ends has killed its ranks; they may take a moment to be gone.
    wait_until(lambda: not any(lives(pid) for pid in pids), 60, "ranks are gone")


@pytest.mark.parametrize("pp", [2, 1])
async def test_request_that_ends_a_rank_beside_the_lead_is_blamed(model: Path, pp: int) -> None:
    settings = engine(model, 2, 2 // pp, pp)
    # The other is for all ranks, so that all sample alike: with faults, the longer way.
    faults = "exit:seed=5:rank=1:position=3 hang:seed=6"
    settings = msgspec.structs.replace(settings, test_faults=faults)
    async with group(settings) as (incarnation, owner, _):
        with client(incarnation) as (_, end):
            for seq_id, seed in ((1, 4), (2, 5)):
                params = SamplingParams(max_tokens=200, seed=seed, ignore_eos=True)
                assert end.send(Submit(seq_id, PROMPT, [], params))
            await asyncio.wait_for(until(owner, "faulted"), 120)
        fault = incarnation.fault
        assert fault is not None and fault.rank == "rank 0.1" and fault.num_seqs > 0
        assert fault.cause == "exited with status 3"
        await asyncio.wait_for(until(owner, "ended"), 120)
        assert incarnation.fault is not None and incarnation.fault.num_seqs == fault.num_seqs


def lives(pid: int) -> bool:
    """Whether a process is there that has not ended: whose parent is gone may not be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
