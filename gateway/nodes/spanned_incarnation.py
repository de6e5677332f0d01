"""An incarnation of a group whose stages are on several nodes: a part on each, one fate for all.

Each part is a RemoteIncarnation with an agent of its own; the first has the lead. It says where the
group's ranks meet, which the others are told; what passes between ranks then is theirs
(backend/ranks/meeting.py). The first fault of any part is the group's, and ends the others. What
was in the step that a rank died in the lead alone has named: it is asked before anybody is told.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from backend.wire.control import Budget, ControlClosed, Progress
from backend.wire.local.heartbeat import Batch, Load, Phase
from backend.wire.messages import Ready
from backend.wire.offer import Offer
from gateway.nodes.home import Home
from gateway.nodes.node_messages import LaunchOrder
from gateway.nodes.placer import PlacementOwner, Placer
from gateway.nodes.remote_incarnation import RemoteIncarnation, Surroundings
from gateway.nodes.remote_replica import RemoteRank
from gateway.supervision.control_messages import RankView
from gateway.supervision.fault import Fault, phase_name, with_batch
from gateway.supervision.incarnation import IncarnationOwner
from gateway.supervision.listening import GroupListening

# An agent answers at once; requests wait for it.
ANSWER_SECONDS = 1.0


class SpannedIncarnation:
    """A group on several nodes, from the order to the end of its last process."""

    def __init__(
        self,
        orders: Sequence[LaunchOrder],
        home: Home,
        placer: Placer,
        listening: GroupListening,
        owner: IncarnationOwner,
    ) -> None:
        """orders: one a node; that of part 0 first."""
        self.ready: Ready | None = None
        self.fault: Fault | None = None
        self._owner = owner
        self._is_leaving = False
        self._was_told = False
        self._num_ended = 0
        around = Surroundings(home, _SharedPlacement(placer, len(orders)), listening)
        self._parts: list[RemoteIncarnation] = []
        for order in orders:
            self._parts.append(RemoteIncarnation(order, "", around, _PartOwner(self, order.part)))
        self._asks: asyncio.TimerHandle | None = None  # while the lead is asked what ran
        self._parts[0].on_meets, self._parts[0].on_ran = self._meets, self._heard
        self.replica = SpannedReplica(self._parts)

    @property
    def is_over(self) -> bool:
        """Whether it takes no work any more and never will."""
        return self.fault is not None or self._is_leaving

    @property
    def waits_for(self) -> str:
        """Why it has not been placed on nodes yet; "" once it has."""
        return next((part.waits_for for part in self._parts if part.waits_for), "")

    def ranks(self) -> list[RankView]:
        """What each rank did when its node last told."""
        return [view for part in self._parts for view in part.ranks()]

    def leave(self) -> None:
        """Have every rank exit; the end is no fault then."""
        if self.is_over:
            return
        self._is_leaving = True
        for part in self._parts:
            part.leave()

    def kill(self) -> None:
        """End every rank now."""
        for part in self._parts:
            part.kill()

    def give_up_after(self, seconds: float) -> None:
        """End, and say why, if there has been no room by then."""
        self._parts[0].give_up_after(seconds)

    # what its parts tell

    def _meets(self, host: str, port: int) -> None:
        """The lead's ranks are there: tell the others where they meet."""
        for part in self._parts[1:]:
            part.meet_at(host, port)

    @property
    def has_served(self) -> bool:
        return self._owner.has_served

    def was_placed(self) -> None:
        self._owner.was_placed()

    def progressed(self, title: str, news: Progress | Budget) -> None:
        self._owner.progressed(title, news)

    def became_ready(self) -> None:
        self.ready = self._parts[0].ready
        self._owner.became_ready()

    def faulted(self, part: int, fault: Fault) -> None:
        """End the others: none is of use without this one."""
        if self._asks is not None and part == 0:  # the lead has ended meanwhile: so it says itself
            self._heard(Batch(fault.step, fault.num_seqs, fault.num_tokens, fault.suspects))
        if self.is_over:
            return
        self.fault = fault
        for number, other in enumerate(self._parts):
            if number not in (0, part):
                other.kill()
        if part and fault.phase == phase_name(Phase.STEP) and not fault.is_foreign:
            self._ask(fault)
        else:
            self._heard(None)

    def _ask(self, fault: Fault) -> None:
        """Ask the lead what was in the step that another node's rank died in.

        One that hangs may not have begun the step that the lead is in.
        """
        loop = asyncio.get_running_loop()
        self._asks = loop.call_later(ANSWER_SECONDS, self._heard, None)
        try:
            self._parts[0].replica.ask_what_ran(0 if fault.hangs else fault.step)
        except ControlClosed:
            self._heard(None)

    def _heard(self, batch: Batch | None) -> None:
        """Tell of the fault, with what was in its step, and end the lead as well."""
        if self._asks is not None:
            self._asks.cancel()
            self._asks = None
        elif self._was_told:
            return
        assert self.fault is not None
        self._was_told = True
        self.fault = with_batch(self.fault, batch)
        self._owner.faulted(self.fault)
        if self._parts[0].fault is None:
            self._parts[0].kill()

    def ended(self, part: int) -> None:
        self._num_ended += 1
        if part == 0 and self._asks is not None:
            self._heard(None)
        last = self._parts[part].fault
        if self.fault is not None and last is not None and last.rank == self.fault.rank:
            # With stacks, by now.
            self.fault = msgspec.structs.replace(self.fault, stacks=last.stacks)
        if self._num_ended == len(self._parts):
            self._owner.ended()


class _PartOwner:
    """Whom a part tells of its turns."""

    def __init__(self, whole: SpannedIncarnation, part: int) -> None:
        self._whole = whole
        self._part = part

    @property
    def has_served(self) -> bool:
        return self._whole.has_served

    def was_placed(self) -> None:
        self._whole.was_placed()

    def progressed(self, title: str, news: Progress | Budget) -> None:
        self._whole.progressed(title, news)

    def became_ready(self) -> None:
        self._whole.became_ready()

    def faulted(self, fault: Fault) -> None:
        self._whole.faulted(self._part, fault)

    def ended(self) -> None:
        self._whole.ended(self._part)


class SpannedReplica:
    """The ranks of all parts; requests go to the first."""

    def __init__(self, parts: Sequence[RemoteIncarnation]) -> None:
        self._parts = parts
        self._lead = parts[0].replica
        self.epoch = self._lead.epoch

    @property
    def ranks(self) -> list[RemoteRank]:
        return [rank for part in self._parts for rank in part.replica.ranks]

    @property
    def node(self) -> str:
        return " + ".join(part.replica.node for part in self._parts if part.replica.node)

    @property
    def load(self) -> Load:
        return self._lead.load

    def connect(self, worker: int, epoch: int) -> Offer:
        """See Replica. Raises ControlClosed."""
        return self._lead.connect(worker, epoch)

    def detach(self, worker: int, epoch: int) -> None:
        """See Replica. Raises ControlClosed."""
        self._lead.detach(worker, epoch)

    def retire(self) -> None:
        """See Replica. Raises ControlClosed."""
        self._lead.retire()

    def renew(self, certificate: str, key: str) -> None:
        """See Replica. Raises ControlClosed."""
        self._lead.renew(certificate, key)

    def stop(self) -> None:
        """Ask every rank to exit."""
        for part in self._parts:
            try:
                part.replica.stop()
            except ControlClosed:
                pass  # its agent is gone, and its ranks with it

    def kill(self) -> None:
        """End every rank, whatever it is doing."""
        for part in self._parts:
            part.replica.kill()


class _SharedPlacement:
    """A placer of parts, who are placed together and give all back when the last has ended."""

    def __init__(self, placer: Placer, count: int) -> None:
        self._placer = placer
        self._count = count
        self._orders: list[LaunchOrder] = []
        self._owners: list[PlacementOwner] = []
        self._num_displaced = 0

    def place(self, orders: Sequence[LaunchOrder], node: str, owner: PlacementOwner) -> None:
        """Place all once the last part has come."""
        self._orders += orders
        self._owners.append(owner)
        if len(self._owners) == self._count:
            self._placer.place(self._orders, node, self)

    def displace(self, number: int, epoch: int) -> None:
        self._num_displaced += 1
        if self._num_displaced == self._count:
            self._placer.displace(number, epoch)

    def close(self) -> None:
        """Nothing is its own."""

    # what the placer tells

    def waits(self, reason: str) -> None:
        self._owners[0].waits(reason)

    def started(self, node: str) -> None:
        for owner in self._owners:
            owner.started(node)

    def failed(self, reason: str) -> None:
        for owner in self._owners:
            owner.failed(reason)
