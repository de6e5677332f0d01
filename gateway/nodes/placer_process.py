"""The placer's process: the client of a Ray cluster, which puts groups on its nodes.

Spawned and watched by ray_placer.py, which alone speaks with it. Ray's client ends the process it
is in when its cluster is gone for long; groups that run are not concerned.
"""

import select
import socket
from dataclasses import dataclass

import msgspec

from backend.wire.control import (
    ChildLine,
    ControlClosed,
    Displace,
    Joined,
    Place,
    Placement,
    Stop,
)
from backend.wire.local.child import ChildContext
from backend.wire.messages import Failed
from gateway.nodes.bundles import NoSuchNode, find, shortage, with_resources
from gateway.nodes.node_messages import decode_order, encode_order

TURN_MS = 200
# A bundle that has no place after so long is told of, again whenever that changes.
PATIENCE_TURNS = 15
CONNECT_SECONDS = 5.0
MAX_WHY_CHARS = 300
ADVICE = "start one with `ray start --head`, or name it with --ray-address"


@dataclass(frozen=True, slots=True)
class PlacerSpawn:
    """What the placer's process is told. owner: whose groups these are, the same at every start.

    kept: names of groups that run already.
    """

    address: str
    owner: str
    resources: dict[str, float]
    kept: tuple[str, ...] = ()

    def name_of(self, number: int, epoch: int) -> str:
        """Return the name of a group's place in the cluster."""
        return f"{self.owner}/{number}/{epoch}"


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
            self._tell(key, "started", pending.reservation.start(pending.orders))
        elif pending.num_turns % PATIENCE_TURNS == 0:
            count = len(pending.orders)
            text = shortage(pending.reservation.bundle, self._ray.nodes(), count)
            self._tell(key, "waits", text)

    def _reserve(self, key: tuple[int, int], pending: "_Pending") -> None:
        among = self._ray.nodes()
        try:
            node = find(pending.node, among) if pending.node else None
        except NoSuchNode as error:
            if pending.num_turns % PATIENCE_TURNS == 1:
                self._tell(key, "waits", f"for a node: {error}")
            return
        orders = [decode_order(order) for order in pending.orders]
        engine, bundle = with_resources(
            orders[0].engine, [node] if node else among, self._spawn.resources
        )
        pending.orders = tuple(
            encode_order(msgspec.structs.replace(order, engine=engine)) for order in orders
        )
        name = self._spawn.name_of(*key)
        pending.reservation = self._ray.Reservation(name, bundle, node, among, len(orders))

    def _remove(self, key: tuple[int, int]) -> None:
        pending = self._pending.pop(key, None)
        if pending is None:  # it was started by the placer before this one
            self._ray.remove_named(self._spawn.name_of(*key))
        elif pending.reservation is not None:
            pending.reservation.remove()

    def _tell(self, key: tuple[int, int], turn: str, text: str) -> None:
        self._line.send(Placement(*key, turn, text))


class _Pending:
    """An order, and what has been reserved for it."""

    def __init__(self, message: Place) -> None:
        from gateway.nodes.ray_cluster import Reservation

        self.orders = message.orders
        self.node = message.node
        self.reservation: Reservation | None = None
        self.num_turns = 0
