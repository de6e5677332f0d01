"""Places groups on the nodes of a Ray cluster: a process that is the cluster's client, its handle.

Ray's client ends the process it is in when its cluster is gone for long, so the supervisor is not
that process. A placer that dies is started again; groups that run are not concerned.
"""

import asyncio
import logging
import select
import socket
from dataclasses import dataclass

import msgspec

from backend.config.errors import ModelError
from backend.wire.control import (
    ChildLine,
    ControlClosed,
    Displace,
    Joined,
    Place,
    Placement,
    Stop,
)
from backend.wire.local.child import Child, ChildContext, exit_text
from backend.wire.messages import Failed
from gateway.nodes.bundles import NoSuchNode, find, shortage, with_resources
from gateway.nodes.node_messages import LaunchOrder, decode_order, encode_order
from gateway.nodes.placer import PlacementOwner
from gateway.supervision.restarts import BACKOFF_SECONDS
from gateway.supervision.stderr_tail import StderrTail

logger = logging.getLogger(__name__)

TURN_MS = 200
# A bundle that has no place after so long is told of, again whenever that changes.
PATIENCE_TURNS = 15
JOIN_SECONDS = 90.0
CONNECT_SECONDS = 5.0
# One that has orders and says nothing for so long hangs; what waits is told of every few seconds.
HANG_SECONDS = 120.0
MAX_WHY_CHARS = 300
ADVICE = "start one with `ray start --head`, or name it with --ray-address"
STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class PlacerSpawn:
    """What the placer's process is told. owner: whose groups these are, the same at every start.

    kept: names of groups that run already.
    """

    address: str
    owner: str
    resources: dict[str, float]
    kept: tuple[str, ...] = ()


def placer_main(context: ChildContext, spawn: PlacerSpawn) -> None:
    """Entry point of the spawned process; returns when told to stop."""
    line = context.begin()
    try:
        _serve(spawn, line)
    except ControlClosed:
        return  # the supervisor is gone, and every agent hears that itself


def _serve(spawn: PlacerSpawn, line: ChildLine) -> None:
    from gateway.nodes import ray_cluster

    try:
        _check_listens(spawn.address)
        ray_cluster.join(spawn.address)
    except (OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:MAX_WHY_CHARS]
        line.send(Failed(0, f"no Ray cluster at {spawn.address}: {why}\n{ADVICE}"))
        return
    ray_cluster.remove_left_over(spawn.owner, set(spawn.kept))
    found = ray_cluster.nodes()
    cluster = f"{len(found)} node{'' if len(found) == 1 else 's'}"
    line.send(Joined(ray_cluster.own_address(), cluster))
    PlacerLoop(spawn, line).run()


def _check_listens(address: str) -> None:
    """Raise OSError if nobody listens at host:port: Ray would try for a minute and a half."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


class PlacerLoop:
    """Takes orders, and looks a few times a second what has become of each."""

    def __init__(self, spawn: PlacerSpawn, line: ChildLine) -> None:
        from gateway.nodes import ray_cluster

        self._ray = ray_cluster
        self._spawn = spawn
        self._line = line
        self._pending: dict[tuple[int, int], _Pending] = {}
        self._is_stopped = False

    def run(self) -> None:
        """Serve until told to stop; then remove everything."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        while not self._is_stopped:
            # No turns while nothing waits or runs.
            poll.poll(TURN_MS if self._pending else None)
            while (packet := self._line.receive()) is not None:
                self._apply(packet[0])
            for key, pending in list(self._pending.items()):
                self._look(key, pending)
        for key in list(self._pending):
            self._remove(key)

    def _apply(self, message: object) -> None:
        match message:
            case Place(number, epoch):
                self._pending[number, epoch] = _Pending(message)
            case Displace(number, epoch):
                self._remove((number, epoch))
            case Stop():
                self._is_stopped = True

    def _look(self, key: tuple[int, int], pending: "_Pending") -> None:
        pending.num_turns += 1
        if pending.reservation is None:
            self._reserve(key, pending)
        elif pending.reservation.is_started:
            if pending.num_turns % 5 == 0 and (text := pending.reservation.end()) is not None:
                del self._pending[key]
                pending.reservation.remove()
                self._tell(key, "failed", text)
        elif pending.reservation.has_room():
            self._tell(key, "started", pending.reservation.start(pending.order))
        elif pending.num_turns % PATIENCE_TURNS == 0:
            text = shortage(pending.reservation.bundle, self._ray.nodes())
            self._tell(key, "waits", text)

    def _reserve(self, key: tuple[int, int], pending: "_Pending") -> None:
        among = self._ray.nodes()
        try:
            node = find(pending.node, among) if pending.node else None
        except NoSuchNode as error:
            if pending.num_turns % PATIENCE_TURNS == 1:
                self._tell(key, "waits", f"for a node: {error}")
            return
        order = decode_order(pending.order)
        engine, bundle = with_resources(
            order.engine, [node] if node else among, self._spawn.resources
        )
        pending.order = encode_order(msgspec.structs.replace(order, engine=engine))
        pending.reservation = self._ray.Reservation(self._name(key), bundle, node, among)

    def _remove(self, key: tuple[int, int]) -> None:
        pending = self._pending.pop(key, None)
        if pending is None:  # it was started by the placer before this one
            self._ray.remove_named(self._name(key))
        elif pending.reservation is not None:
            pending.reservation.remove()

    def _name(self, key: tuple[int, int]) -> str:
        return f"{self._spawn.owner}/{key[0]}/{key[1]}"

    def _tell(self, key: tuple[int, int], turn: str, text: str) -> None:
        self._line.send(Placement(*key, turn, text))


class _Pending:
    """An order, and what has been reserved for it."""

    def __init__(self, message: Place) -> None:
        from gateway.nodes.ray_cluster import Reservation

        self.order = message.order
        self.node = message.node
        self.reservation: Reservation | None = None
        self.num_turns = 0


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

    def place(self, order: LaunchOrder, node: str, owner: PlacementOwner) -> None:
        """Have an agent carry out an order. node: the only one that will do, or ""."""
        message = Place(order.number, order.epoch, node, encode_order(order))
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
            f"{self._spawn.owner}/{number}/{epoch}"
            for (number, epoch), order in self._orders.items()
            if order.is_started
        )
        spawn = PlacerSpawn(self._spawn.address, self._spawn.owner, self._spawn.resources, kept)
        self._child = Child(
            "placer", "gateway.nodes.ray_placer:placer_main", spawn, keeps_stderr=True
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
