"""A group that is on two nodes: two agents here, as a placer would start them there.

All but the placement is real: agents, ranks, the meeting, streams of activations and sums over TCP.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from backend.settings import EngineSettings
from backend.wire.control import Dial
from backend.wire.messages import StepOutput, Submit
from backend.wire.sampling import SamplingParams
from backend.wire.tcp.dial import dial
from backend.wire.tcp.encryption import self_signed_pair
from backend.wire.tcp.ends import TcpWorkerEnd
from backend.wire.tcp.handshake import Hello
from gateway.layout import GroupPlace
from gateway.nodes.build import build_id
from gateway.nodes.home import Home
from gateway.nodes.model_files import model_digest
from gateway.nodes.node_messages import LaunchOrder, encode_order
from gateway.nodes.placer import PlacementOwner
from gateway.nodes.remote_incarnation import RemoteIncarnation
from gateway.nodes.remote_launcher import RemoteLauncher, RemoteModel
from gateway.nodes.spanned_incarnation import SpannedIncarnation
from gateway.settings import ServerSettings
from gateway.supervision.listening import GroupListening
from tests.backend.factories import write_tiny_llama
from tests.e2e.server import wait_until
from tests.gateway.nodes.test_remote_incarnation import Owner

pytestmark = pytest.mark.e2e

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
Incarnation = RemoteIncarnation | SpannedIncarnation
PROMPT = [5, 6, 7, 8] * 20


class AgentPlacer:
    """Starts an agent for each order on this machine."""

    def __init__(self) -> None:
        self.agents: list[subprocess.Popen[bytes]] = []
        self.displaced: list[tuple[int, int]] = []

    def place(self, orders: Sequence[LaunchOrder], node: str, owner: PlacementOwner) -> None:
        for order in orders:
            agent = subprocess.Popen(
                [sys.executable, "-m", "gateway.nodes.agent"], stdin=subprocess.PIPE
            )
            assert agent.stdin is not None
            data = encode_order(order)
            agent.stdin.write(len(data).to_bytes(4, "little") + data)
            agent.stdin.flush()
            self.agents.append(agent)
        owner.started("here")

    def displace(self, number: int, epoch: int) -> None:
        self.displaced.append((number, epoch))

    def close(self) -> None:
        for agent in self.agents:
            assert agent.stdin is not None
            agent.stdin.close()
            agent.wait(30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return write_tiny_llama(folder, num_layers=3, head_dim=16, max_model_len=512)


@asynccontextmanager
async def group(
    model: Path, nodes: int, tp: int = 1, certificate: str = "", key: str = "", pp: int = 0
) -> AsyncIterator[tuple[Incarnation, Owner, AgentPlacer]]:
    """A group of pp stages, as many as nodes if 0, on so many nodes, when it is ready."""
    engine = EngineSettings(
        model=str(model), tp=tp, pp=pp or nodes, nodes=nodes, threads=1, kv_cache_bytes=1 << 22,
        device="cpu",
    )  # fmt: skip
    owner, placer = Owner(), AgentPlacer()
    server = ServerSettings(group_tls_cert=certificate, group_tls_key=key)
    listening = GroupListening(server)
    home = Home(LOOPBACK, 0, listening.certificate, listening.key)
    told = RemoteModel(str(model), model_digest(model), build_id())
    launcher = RemoteLauncher(home, placer, told, server, listening)
    incarnation = launcher.launch(0, 3, GroupPlace(engine, 0), owner)
    try:
        await asyncio.wait_for(until(owner, "ready"), START_SECONDS)
        yield incarnation, owner, placer
        incarnation.leave()
        await asyncio.wait_for(until(owner, "ended"), 30)
    finally:
        incarnation.kill()
        await asyncio.to_thread(placer.close)
        home.close()


async def until(owner: Owner, text: str) -> None:
    """Wait for what a group says; fail with what it says instead."""
    while not any(each.startswith(text) for each in owner.told):
        ended = [each for each in owner.told if each.startswith("faulted")]
        assert not ended or text != "ready", ended
        owner.news.clear()
        await owner.news.wait()


def answer(incarnation: Incarnation) -> list[int]:
    """Send a request as a worker does; return the tokens."""
    message = incarnation.replica.connect(0, 12).message
    assert isinstance(message, Dial)
    stream = dial(message.address, Hello(0, 0, 12, 3))
    end = TcpWorkerEnd(stream)
    params = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    assert end.send(Submit(1, PROMPT, [], params))
    tokens: list[int] = []
    until_s = time.monotonic() + 60
    while len(tokens) < 20:
        assert time.monotonic() < until_s
        select.select([stream], [], [], 1)
        for reply in end.receive():
            if isinstance(reply, StepOutput):
                tokens += [token for output in reply.outputs for token in output.token_ids]
    end.close()
    return tokens


async def test_tokens_over_two_nodes_are_those_of_three_encrypted(
    model: Path, tmp_path: Path
) -> None:
    files = tmp_path / "certificate", tmp_path / "key"
    for file, text in zip(files, self_signed_pair(), strict=True):
        file.write_text(text)
    async with group(model, 2) as (two, owner, placer):
        assert [rank.title for rank in two.replica.ranks] == ["rank 0.0", "rank 0.1"]
        assert len(two.ranks()) == 2 and two.fault is None
        first = await asyncio.to_thread(answer, two)
    assert owner.told[-1] == "ended" and placer.displaced == [(0, 3)]
    certificate, key = map(str, files)
    async with group(model, 3, 1, certificate, key) as (three, _, _):
        assert await asyncio.to_thread(answer, three) == first


@pytest.mark.parametrize("tp", [2, 4])
async def test_tokens_of_ranks_over_two_nodes_are_those_of_one(model: Path, tp: int) -> None:
    async with group(model, 1, tp, pp=1) as (one, _, _):
        here = await asyncio.to_thread(answer, one)
    async with group(model, 2, tp, pp=1) as (two, owner, placer):
        assert [rank.title for rank in two.replica.ranks] == [f"rank 0.{n}" for n in range(tp)]
        assert await asyncio.to_thread(answer, two) == here
    assert owner.told[-1] == "ended" and placer.displaced == [(0, 3)]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("pp", [2, 1])
async def test_death_of_a_rank_ends_the_ranks_of_both_nodes(
    model: Path, pp: int, rank: int
) -> None:
    async with group(model, 2, tp=2 // pp, pp=pp) as (incarnation, owner, placer):
        pids = [rank.pid for rank in incarnation.replica.ranks]
        began_s = time.monotonic()
        os.kill(pids[rank], signal.SIGKILL)
        await asyncio.wait_for(until(owner, "faulted"), 11)
        await asyncio.wait_for(until(owner, "ended"), 11)
        assert time.monotonic() - began_s < 11
        assert incarnation.fault is not None and placer.displaced == [(0, 3)]
        assert sum(each.startswith("faulted") for each in owner.told) == 1
    # An agent that ends has killed its ranks; they may take a moment to be gone.
    wait_until(lambda: not any(lives(pid) for pid in pids), 11, "ranks are gone")


def lives(pid: int) -> bool:
    """Whether a process is there that has not ended: whose parent is gone may not be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
