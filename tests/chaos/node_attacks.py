"""What a chaos run does to the nodes of a server whose groups run on a Ray cluster.

Each attack heals what it has done to the network and to Ray; that the groups come back is the
server's part. The head's machine is spared where the server itself is on it.
"""

import asyncio
import os
import random
import signal
from collections.abc import Sequence

from gateway.procfs import command_line
from tests.chaos.attacks import Attacker, Log
from tests.e2e.ray_nodes import RayNode
from tests.e2e.server import Server

# Some are over before anybody takes notice, some are not.
SHORTEST_S, LONGEST_S = 0.5, 12.0
NODE_WEIGHTS = {
    "kill rank": 4,
    "kill agent": 2,
    "kill actor": 2,
    "kill raylet": 1,
    "freeze node": 2,
    "cut node": 3,
    "kill worker": 1,
    "pause supervisor": 1,
}
# Parts of command lines.
VICTIMS = {
    "rank": "unisono: rank",
    "agent": "unisono: node agent",
    "actor": "ray::NodePart",
    "raylet": "raylet/raylet",
}


class NodeAttacker(Attacker):
    """Does one attack at a time to a node, or to what every server has."""

    weights = NODE_WEIGHTS

    def __init__(
        self, nodes: Sequence[RayNode], server: Server, rng: random.Random, log: Log
    ) -> None:
        """nodes: the head first, which is not attacked as a whole."""
        super().__init__(server, rng, log)
        self._nodes = nodes

    async def attack(self, name: str) -> None:
        what, kind = name.split()
        if kind in VICTIMS:
            await self._kill(kind)
        elif kind == "node":
            await (self._freeze() if what == "freeze" else self._cut())
        else:
            await super().attack(name)

    async def _kill(self, kind: str) -> None:
        node = self._rng.choice(self._nodes[1:] if kind == "raylet" else self._nodes)
        living = sorted(
            (command_line(pid), pid)
            for pid in await asyncio.to_thread(lambda: node.machine.pids)
            if VICTIMS[kind] in command_line(pid)
        )
        if living:
            _, pid = self._rng.choice(living)
            self._log.add("SIGKILL", f"{kind} of {node.machine.address}")
            os.kill(pid, signal.SIGKILL)
        if kind == "raylet":
            await asyncio.to_thread(node.start_anew)

    async def _freeze(self) -> None:
        node = self._rng.choice(self._nodes[1:])
        self._log.add("SIGSTOP", node.machine.address)
        await asyncio.to_thread(node.machine.send, signal.SIGSTOP)
        await asyncio.sleep(self._rng.uniform(SHORTEST_S, LONGEST_S))
        self._log.add("SIGCONT", node.machine.address)
        await asyncio.to_thread(node.machine.send, signal.SIGCONT)
        await asyncio.to_thread(self._restart_if_gone, node)

    async def _cut(self) -> None:
        node = self._rng.choice(self._nodes[1:])
        self._log.add("cut", node.machine.address)
        await asyncio.to_thread(node.machine.cut)
        await asyncio.sleep(self._rng.uniform(SHORTEST_S, LONGEST_S))
        self._log.add("mend", node.machine.address)
        await asyncio.to_thread(node.machine.mend)
        await asyncio.to_thread(self._restart_if_gone, node)

    def _restart_if_gone(self, node: RayNode) -> None:
        if not node.is_up:
            node.start_anew()
