"""The supervisor's side of the placer: places groups on the nodes of a Ray cluster.

Ray's client ends the process it is in when its cluster is gone for long, so the supervisor is not
that process: placer_process.py is. One that dies is started again; groups that run are not
concerned.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.config.errors import ModelError
from backend.wire.control import ControlClosed, Displace, Joined, Place, Placement, Stop
from backend.wire.local.child import Child, exit_text
from backend.wire.messages import Failed
from gateway.nodes.node_messages import LaunchOrder, encode_order
from gateway.nodes.placer import PlacementOwner
from gateway.nodes.placer_process import ADVICE, PlacerSpawn
from gateway.supervision.restarts import BACKOFF_SECONDS
from gateway.supervision.stderr_tail import StderrTail

logger = logging.getLogger(__name__)

JOIN_SECONDS = 90.0
# One that has orders and says nothing for so long hangs; what waits is told of every few seconds.
HANG_SECONDS = 120.0


@dataclass(slots=True)
class _Order:
    message: Place
    owner: PlacementOwner
    is_started: bool = False


class RayPlacer:
    """The supervisor's handle on the placer's process. Lives in its event loop."""

    def __init__(self, address: str, owner: str, resources: dict[str, float]) -> None:
        self.cluster = ""
        self.host = ""
        self._spawn = PlacerSpawn(address, owner, resources)
        self._loop = asyncio.get_running_loop()
        self._orders: dict[tuple[int, int], _Order] = {}
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._has_joined = False
        self._message = ""
        self._num_deaths = 0
        self._heard_s = 0.0
        self._is_closed = False
        self._child: Child | None = None
        self._tail: StderrTail | None = None
        self._start()

    async def join(self) -> None:
        """Wait until the process is in its cluster. Raises ModelError if it cannot be."""
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._joined
        except TimeoutError as error:
            raise ModelError(
                f"no Ray cluster at {self._spawn.address} has answered within {JOIN_SECONDS:g} s\n"
                f"{ADVICE}"
            ) from error

    def place(self, orders: Sequence[LaunchOrder], node: str, owner: PlacementOwner) -> None:
        """See Placer."""
        order = orders[0]
        message = Place(order.number, order.epoch, node, tuple(map(encode_order, orders)))
        self._orders[order.number, order.epoch] = _Order(message, owner)
        if self._has_joined:
            self._send(message)

    def displace(self, number: int, epoch: int) -> None:
        """End a group's agent, if there still is one, and give back what was kept for it."""
        if self._orders.pop((number, epoch), None) is not None:
            self._send(Displace(number, epoch))

    def close(self) -> None:
        """Give everything back. The process ends by itself."""
        self._is_closed = True
        self._send(Stop())

    @property
    def has_ended(self) -> bool:
        return self._child is None

    def kill(self) -> None:
        """End the process now."""
        self._is_closed = True
        if self._child is not None:
            self._child.kill()

    def _start(self) -> None:
        if self._is_closed:
            return
        kept = tuple(
            self._spawn.name_of(*key) for key, order in self._orders.items() if order.is_started
        )
        self._child = Child(
            "placer",
            "gateway.nodes.placer_process:placer_main",
            replace(self._spawn, kept=kept),
            keeps_stderr=True,
        )
        self._heard_s = self._loop.time()
        self._loop.call_later(HANG_SECONDS / 4, self._watch, self._child)
        # Ray's client writes there in a form of its own.
        self._tail = StderrTail(self._child)
        self._loop.add_reader(self._child.line.fileno(), self._on_message)
        self._loop.add_reader(self._child.pidfd, self._on_death)

    def _watch(self, child: Child) -> None:
        """Kill a process that has something to say and says nothing."""
        if child is not self._child:
            return
        if all(order.is_started for order in self._orders.values()):
            self._heard_s = self._loop.time()
        if self._loop.time() - self._heard_s > HANG_SECONDS:
            logger.error("the placer says nothing and is ended")
            child.kill()
        else:
            self._loop.call_later(HANG_SECONDS / 4, self._watch, child)

    def _send(self, message: Place | Displace | Stop) -> None:
        if self._child is not None:
            try:
                self._child.line.send(message)
            except ControlClosed:
                pass  # its pidfd tells, and what was not placed is placed by the next

    def _on_message(self) -> None:
        assert self._child is not None
        try:
            while (message := self._child.line.receive()) is not None:
                self._heard_s = self._loop.time()
                self._take(message)
        except ControlClosed:
            self._loop.remove_reader(self._child.line.fileno())

    def _take(self, message: object) -> None:
        match message:
            case Joined(host, cluster):
                self.host, self.cluster, self._has_joined = host, cluster, True
                self._num_deaths = 0
                for order in self._orders.values():
                    if not order.is_started:
                        self._send(order.message)
                if not self._joined.done():
                    self._joined.set_result(None)
            case Placement(number, epoch, turn, text):
                if (placed := self._orders.get((number, epoch))) is not None:
                    self._place_turn(placed, turn, text)
            case Failed(message=text):
                self._message = text

    def _place_turn(self, order: _Order, turn: str, text: str) -> None:
        match turn:
            case "waits":
                order.owner.waits(text)
            case "started":
                order.is_started = True
                order.owner.started(text)
            case _:
                order.owner.failed(text)

    def _on_death(self) -> None:
        self._on_message()
        child, self._child = self._child, None
        assert child is not None and self._tail is not None
        self._tail.read_all()
        self._tail.close()
        fault = self._message or f"{child.title} {exit_text(child.exit_code)}"
        self._message, self._has_joined = "", False
        self._loop.remove_reader(child.line.fileno())
        self._loop.remove_reader(child.pidfd)
        child.close()
        if self._is_closed:
            return
        if not self._joined.done():
            self._joined.set_exception(ModelError(fault))
            return
        delay_s = BACKOFF_SECONDS[min(self._num_deaths, len(BACKOFF_SECONDS) - 1)]
        self._num_deaths += 1
        logger.warning("%s; the placer starts again in %g s", fault, delay_s)
        self._loop.call_later(delay_s, self._start)
