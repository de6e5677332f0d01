"""Groups on nodes without a cluster: agents are started here, as a placer would start them there.

All but the placement is real: agents, ranks, the meeting, what passes between ranks.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from backend.settings import EngineSettings
from gateway.layout import GroupPlace
from gateway.nodes.home import Home
from gateway.nodes.model_files import model_digest
from gateway.nodes.node_messages import LaunchOrder, encode_order
from gateway.nodes.placer import PlacementOwner
from gateway.nodes.remote_incarnation import RemoteIncarnation
from gateway.nodes.remote_launcher import RemoteLauncher, RemoteModel
from gateway.nodes.spanned_incarnation import SpannedIncarnation
from gateway.settings import ServerSettings
from gateway.supervision.listening import GroupListening
from tests.gateway.nodes.test_remote_incarnation import Owner

LOOPBACK = "127.0.0.1"
START_SECONDS = 300.0
EPOCH = 3
Incarnation = RemoteIncarnation | SpannedIncarnation


class AgentPlacer:
    """Starts an agent for each order on this machine, or on those that are within it."""

    def __init__(self, within: Sequence[Sequence[str]] = ()) -> None:
        """within: what goes before the command of each part's agent."""
        self._within = within
        self.agents: list[subprocess.Popen[bytes]] = []
        self.displaced: list[tuple[int, int]] = []

    def place(self, orders: Sequence[LaunchOrder], node: str, owner: PlacementOwner) -> None:
        for order in orders:
            within = self._within[order.part] if self._within else ()
            agent = subprocess.Popen(
                [*within, sys.executable, "-m", "gateway.nodes.agent"], stdin=subprocess.PIPE
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
            agent.wait(120)


@asynccontextmanager
async def group(
    engine: EngineSettings,
    certificate: str = "",
    key: str = "",
    host: str = LOOPBACK,
    within: Sequence[Sequence[str]] = (),
) -> AsyncIterator[tuple[Incarnation, Owner, AgentPlacer]]:
    """Start a group, and yield it when it is ready; have it leave at the end.

    host: where agents call home. within: see AgentPlacer.
    """
    owner, placer = Owner(), AgentPlacer(within)
    server = ServerSettings(group_tls_cert=certificate, group_tls_key=key)
    listening = GroupListening(server)
    home = Home(host, 0, listening.certificate, listening.key)
    told = RemoteModel(engine.model, model_digest(Path(engine.model)))
    launcher = RemoteLauncher(home, placer, told, server, listening)
    incarnation = launcher.launch(0, EPOCH, GroupPlace(engine, 0), owner)
    try:
        await asyncio.wait_for(until(owner, "ready"), START_SECONDS)
        yield incarnation, owner, placer
        incarnation.leave()
        await asyncio.wait_for(until(owner, "ended"), 120)
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
