"""An incarnation of a group on another node: placed, heard of through its agent, lost or ended.

What its ranks do and how they end is judged on the node (agent.py), where /proc tells; here is
judged whether the node itself is still there.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from backend.wire.control import Budget, Progress
from backend.wire.local.heartbeat import Batch
from backend.wire.messages import Ready
from gateway.nodes.frame_stream import FrameStream, StreamLost
from gateway.nodes.home import Home
from gateway.nodes.node_messages import (
    Ended,
    Faulted,
    FromAgent,
    GroupIsReady,
    LaunchOrder,
    Look,
    MeetAt,
    Meets,
    Ping,
    Placed,
    Ran,
    RankNews,
    Said,
    decode_from_agent,
    encode,
)
from gateway.nodes.placer import Placer
from gateway.nodes.remote_replica import RemoteRank, RemoteReplica
from gateway.nodes.silence import Silence
from gateway.supervision.control_messages import RankView
from gateway.supervision.fault import Fault
from gateway.supervision.incarnation import STOP_SECONDS, IncarnationOwner
from gateway.supervision.listening import GroupListening

logger = logging.getLogger(__name__)

PING_SECONDS = 1.0
# An agent that a node has started calls within seconds: it imports no torch.
CALL_SECONDS = 60.0
# Whatever vanishes or freezes is known within 11 s, which is promised: a busy machine needs some of
# that to say so.
SILENCE_SECONDS = 9.0


class RemoteIncarnation:
    """A group on another node, from the order to the end of its last process."""

    def __init__(
        self,
        order: LaunchOrder,
        node: str,
        launcher: "Surroundings",
        owner: IncarnationOwner,
    ) -> None:
        """node: the only one that will do, or "".

        on_meets, on_ran: to be set for the first part of a group on several nodes, called with
        where its ranks meet, and with what its lead ran when that has been asked.
        """
        self.on_meets: Callable[[str, int], None] | None = None
        self.on_ran: Callable[[Batch | None], None] | None = None
        self._meeting: MeetAt | None = None
        self.replica = RemoteReplica(order.number, order.epoch)
        self.ready: Ready | None = None
        self.fault: Fault | None = None
        self.waits_for = "for a node"
        self._order = order
        self._launcher = launcher
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._is_leaving = False
        self._has_ended = False
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        launcher.home.expect(order.number, order.epoch, self._called, order.part)
        launcher.placer.place([order], node, self)

    @property
    def is_over(self) -> bool:
        """Whether it takes no work any more and never will."""
        return self.fault is not None or self._is_leaving

    def ranks(self) -> list[RankView]:
        """What each rank did when its node last told."""
        return self.replica.views

    def leave(self) -> None:
        """Have every rank exit; the end is no fault then."""
        if self.is_over:
            return
        self._is_leaving = True
        if self.ready is None:
            self.kill()
        else:
            self.replica.stop()
            self._after(2 * STOP_SECONDS, self._end)

    def kill(self) -> None:
        """End every rank now."""
        self.replica.kill()
        self._end_soon()

    def give_up_after(self, seconds: float) -> None:
        """End, and say why, if no node has had room by then."""
        self._after(seconds, self._never_placed)

    def meet_at(self, host: str, port: int) -> None:
        """Tell the agent where the group's ranks meet, as soon as it has called."""
        self._meeting = MeetAt(host, port)
        self.replica.meet(self._meeting)

    # what the placer tells

    def waits(self, reason: str) -> None:
        """No node has room yet."""
        if self.waits_for != reason:
            self.waits_for = reason
            logger.warning("group %d waits %s", self._order.number, reason)
            self._owner.was_placed()

    def started(self, node: str) -> None:
        """An agent is about to call."""
        self.waits_for = ""
        self.replica.node = node
        if not self.replica.ranks:
            self._after(CALL_SECONDS, self._never_called)

    def failed(self, reason: str) -> None:
        """There is no agent, or not any more; one that has called has said more itself."""
        self._lost("cannot be placed" if not self.replica.node else "is lost", reason)

    # what the agent tells

    def _called(self, stream: FrameStream) -> None:
        self._cancel_timer()
        self.replica.called(stream)
        if self._meeting is not None:
            self.replica.meet(self._meeting)
        self.waits_for = ""
        silence = Silence(min(SILENCE_SECONDS, self._order.hang_s))
        self._tasks.append(self._loop.create_task(self._listen(stream, silence)))
        self._tasks.append(self._loop.create_task(self._ping(stream, silence)))

    async def _listen(self, stream: FrameStream, silence: Silence) -> None:
        try:
            while not self._has_ended:
                self._take(decode_from_agent(await stream.receive_from(silence)))
        except StreamLost as error:
            self._lost("is lost", str(error))
        except msgspec.MsgspecError as error:
            self._lost("is lost", f"its agent said what is no message: {error}")

    async def _ping(self, stream: FrameStream, silence: Silence) -> None:
        while True:
            silence.beat()
            stream.send(encode(Ping()))
            await asyncio.sleep(PING_SECONDS)

    def _take(self, message: FromAgent) -> None:
        match message:
            case Placed(node, ranks):
                self.replica.node = node
                self.replica.ranks = [RemoteRank(*rank) for rank in ranks]
                self._owner.was_placed()
            case Meets(host, port) if self.on_meets is not None:
                self.on_meets(host, port)
            case Ran(batch) if self.on_ran is not None:
                self.on_ran(batch)
            case RankNews(title, Progress() | Budget() as news):
                self._owner.progressed(title, news)
            case GroupIsReady(ready, host, port) if not self.is_over:
                self.ready = ready
                self.replica.listens(
                    self._launcher.listening.address(host, port, self._order.epoch)
                )
                self._owner.became_ready()
            case Look(ranks, load):
                self.replica.views, self.replica.load = ranks, load
            case Said(level, text):
                logger.log(level, "%s: %s", self.replica.node, text)
            case Faulted(fault):
                self._fail(fault)
            case Ended(fault):
                if fault is not None and self.fault is None:
                    self._fail(fault)
                self.fault = fault or self.fault  # with stacks, by now
                self._end()

    # the end

    def _never_placed(self) -> None:
        self._lost("cannot be placed", f"group {self._order.number} waits {self.waits_for}")

    def _never_called(self) -> None:
        self._lost("is lost", f"its agent has not called within {CALL_SECONDS:g} s")

    def _lost(self, cause: str, reason: str) -> None:
        """Give the group up: its node is gone, or cannot be reached, which is the same to us."""
        if self._has_ended:
            return
        where = f"node {self.replica.node}" if self.replica.node else f"group {self._order.number}"
        beats = self.replica.views
        phase, step = (beats[0].phase, beats[0].step) if beats else ("placement", 0)
        epoch = self._order.epoch
        self._fail(Fault(where, 0, cause, reason, epoch, phase, step, is_foreign=True))
        self._end()

    def _fail(self, fault: Fault) -> None:
        if not self.is_over:
            self.fault = fault
            self._owner.faulted(fault)

    def _end_soon(self) -> None:
        """End without waiting for the agent, which hears that it is not needed."""
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._cancel_timer()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.replica.lost()
        self._launcher.home.forget(self._order.number, self._order.epoch, self._order.part)
        self._launcher.placer.displace(self._order.number, self._order.epoch)
        self._owner.ended()

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, what)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where agents call, who places them, and by which address workers find a group."""

    home: Home
    placer: Placer
    listening: GroupListening
