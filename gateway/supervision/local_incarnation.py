"""An incarnation of a group on this machine: its processes, what they say, and how it ends.

It ends as a whole: the first rank that exits or hangs is the fault, the others are killed for it.
Knows no policy: what comes after is the group's business.
"""

import asyncio
import signal
import time
from collections.abc import Mapping

import msgspec

from backend.ranks.local_replica import LocalReplica, Meeting
from backend.wire.control import Budget, ControlClosed, Progress
from backend.wire.local.child import Child, exit_text
from backend.wire.local.heartbeat import Heartbeat, Phase
from backend.wire.messages import Failed, Ready
from backend.wire.tcp.listening import Listening
from gateway.layout import GroupPlace
from gateway.procfs import (
    dying_code,
    effort,
    is_stopped,
    num_threads,
    oom_kills,
    usage,
)
from gateway.supervision.control_messages import RankView
from gateway.supervision.fault import HANGS, REPORTED_LINES, Fault, phase_name, with_batch
from gateway.supervision.hang import HangWatch, Stall
from gateway.supervision.incarnation import STOP_SECONDS, IncarnationOwner
from gateway.supervision.listening import GroupListening
from gateway.supervision.stderr_tail import StderrTail

# While a group works its deaths are known within 0.1 s, however long the kernel takes over the
# memory; those of one that does nothing, from the pidfd, for its watch shall cost nothing either.
LOOK_SECONDS = 0.05
IDLE_LOOK_SECONDS = 0.25
# faulthandler writes the stacks of a whole process in milliseconds, once it gets a core; nobody
# waits meanwhile but the next incarnation.
DUMP_SECONDS = 1.0
# The message of a rank that the kernel killed; others it killed meanwhile look the same.
OUT_OF_MEMORY = (
    "memory ran out; free some, raise the limit of the service or the container, or take less "
    "with --kv-cache-bytes or a smaller model"
)


class LocalIncarnation:
    """The processes of a group, from their start to the exit of the last."""

    def __init__(
        self,
        number: int,
        epoch: int,
        place: GroupPlace,
        hang_s: float,
        owner: IncarnationOwner,
        listening: Listening | None = None,
        part: int = 0,
        meeting: Meeting | None = None,
    ) -> None:
        """hang_s: see LocalLauncher. listening: where its lead takes workers over TCP. part,
        meeting: see LocalReplica."""
        self.waits_for = ""
        self.replica = LocalReplica(
            number, epoch, place.engine, place.first_rank, listening, part, meeting
        )
        self.ready: Ready | None = None
        self.fault: Fault | None = None
        self.is_leaving = False
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._watch = HangWatch(hang_s)
        self._messages: dict[int, str] = {}  # rank -> why it gives up
        self._lost: set[int] = set()  # ranks that give up since others cannot be reached
        self._oom_kills = oom_kills()
        self._alive = set(range(len(self.replica.ranks)))
        self._tails = [StderrTail(child) for child in self.replica.ranks]
        for rank, child in enumerate(self.replica.ranks):
            self._loop.add_reader(child.line.fileno(), self._on_message, rank)
            self._loop.add_reader(child.pidfd, self._on_death, rank)
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    @property
    def is_over(self) -> bool:
        """Whether it takes no work any more and never will."""
        return self.fault is not None or self.is_leaving

    def ranks(self) -> list[RankView]:
        """What each rank does now, as an operator is shown it."""
        beats = self.replica.page.heartbeats()
        children = self.replica.ranks
        return [_view(*each) for each in zip(range(len(beats)), children, beats, strict=True)]

    def leave(self) -> None:
        """Have every rank exit; the end is no fault then."""
        if self.is_over:
            return
        self.is_leaving = True
        if self.ready is None:
            self.replica.kill()  # it is loading and would not listen
        else:
            self.replica.stop()
            self._kill_after(STOP_SECONDS)

    def kill(self) -> None:
        """End every rank now."""
        self.replica.kill()

    def _on_message(self, rank: int) -> None:
        child = self.replica.ranks[rank]
        try:
            while (message := child.line.receive()) is not None:
                match message:
                    case Progress() | Budget():
                        self._owner.progressed(child.title, message)
                    case Ready():
                        self.ready = message
                        self._owner.became_ready()
                    case Failed():
                        self._messages[rank] = message.message
                        if message.is_foreign:
                            self._lost.add(rank)
        except ControlClosed:
            self._loop.remove_reader(child.line.fileno())  # its pidfd tells the rest

    def _on_death(self, rank: int) -> None:
        self._end_by(rank, self.replica.ranks[rank].exit_code)
        self._unwatch(rank)
        self._alive.discard(rank)
        if not self._alive:
            self._timer.cancel()
            self.replica.close()
            self._owner.ended()

    def _end_by(self, rank: int, exit_code: int | None) -> None:
        """A rank has ended, or is about to: hear what it still had to say."""
        self._on_message(rank)
        self._tails[rank].read_all()
        if not self.is_over:
            is_foreign = rank in self._lost or self._was_killed(exit_code)
            if exit_code == -signal.SIGKILL and not is_foreign and self._oom_kills is not None:
                self._messages[rank] = OUT_OF_MEMORY
            self._fail(self._fault(rank, exit_text(exit_code), is_foreign=is_foreign))
            self.replica.kill()

    def _fail(self, fault: Fault) -> None:
        self.fault = fault
        self._owner.faulted(fault)

    def _was_killed(self, exit_code: int | None) -> bool:
        """Whether somebody sent it SIGKILL: no request does that but by way of the kernel's own
        killer, which counts."""
        if exit_code != -signal.SIGKILL or self._oom_kills is None:
            return False
        return oom_kills() == self._oom_kills

    def _fault(self, rank: int, cause: str, *, is_foreign: bool = False) -> Fault:
        child = self.replica.ranks[rank]
        beat = self.replica.page.heartbeats()[rank]
        fault = Fault(
            child.title,
            child.pid,
            cause,
            self._messages.get(rank, ""),
            beat.epoch,
            phase_name(beat.phase),
            beat.step,
            stderr=self._tails[rank].last(REPORTED_LINES),
            is_foreign=is_foreign,
        )
        return with_batch(fault, self.replica.page.batch(rank))

    # dying and hanging

    def _look(self) -> None:
        for rank in self._alive:
            if not self.is_over and (code := dying_code(self.replica.ranks[rank].pid)) is not None:
                self._end_by(rank, code)
        if self.is_over:
            return
        efforts = [] if self.ready else [effort(child.pid) for child in self.replica.ranks]
        known = [each for each in efforts if each is not None]
        beats = self.replica.page.heartbeats()
        stall = self._watch.look(
            beats,
            time.monotonic_ns(),
            known if len(known) == len(efforts) else (),
        )
        if stall is None:
            is_idle = all(beat.phase is Phase.IDLE for beat in beats)
            seconds = IDLE_LOOK_SECONDS if is_idle else LOOK_SECONDS
            self._timer = self._loop.call_later(seconds, self._look)
        else:
            self._end_hung(stall)

    def _end_hung(self, stall: Stall) -> None:
        """Ask every rank where it is, then kill them."""
        ranks = self.replica.ranks
        cause = f"{HANGS} {stall.seconds:.1f} s"
        # All of a step wait for one that stops half way; only the kernel tells it from them.
        stopped = [rank for rank, child in enumerate(ranks) if is_stopped(child.pid)]
        if stopped:
            cause += " (stopped by a signal)"
        marks = [tail.mark for tail in self._tails]
        fault = self._hang_fault(stopped[0] if stopped else stall.rank, cause)
        self._fail(msgspec.structs.replace(fault, is_foreign=bool(stopped)))
        for rank in self._alive:
            self.replica.ranks[rank].send_signal(signal.SIGUSR1)
        self._timer = self._loop.call_later(DUMP_SECONDS, self._end_dump, marks)

    def _hang_fault(self, rank: int, cause: str) -> Fault:
        """A stuck rank may not have begun the step that the lead is in, and has named."""
        fault = self._fault(rank, cause)
        return fault if fault.num_seqs else with_batch(fault, self.replica.page.batch(0))

    def _end_dump(self, marks: list[int]) -> None:
        stacks = {
            child.title: _stack(child, tail, mark)
            for child, tail, mark in zip(self.replica.ranks, self._tails, marks, strict=True)
        }
        assert self.fault is not None
        self.fault = msgspec.structs.replace(self.fault, stacks=stacks)
        self.replica.kill()

    def _kill_after(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.replica.kill)

    def _unwatch(self, rank: int) -> None:
        child = self.replica.ranks[rank]
        self._loop.remove_reader(child.line.fileno())
        self._loop.remove_reader(child.pidfd)
        self._tails[rank].close()


def _view(rank: int, child: Child, beat: Heartbeat) -> RankView:
    cpu_s, rss = usage(child.pid) or (0.0, 0)
    return RankView(
        rank=rank,
        pid=child.pid,
        phase=phase_name(beat.phase),
        step=beat.step if beat.phase > Phase.WARM_UP else 0,
        seconds=round((time.monotonic_ns() - beat.progress_ns) / 1e9, 3),
        rss_bytes=rss,
        threads=num_threads(child.pid),
        device=beat.device,
        cpu_s=cpu_s,
    )


def _stack(child: Child, tail: StderrTail, mark: int) -> list[str]:
    tail.read_all()
    if is_stopped(child.pid):
        return ["stopped by a signal: it cannot tell where it is"]
    return tail.since(mark) or ["it did not answer"]


class LocalLauncher:
    """Starts incarnations as children of this process."""

    def __init__(self, hang_s: float, listening: GroupListening) -> None:
        """hang_s: without progress for so long an idle rank, or one in a short step, hangs."""
        self._hang_s = hang_s
        self._listening = listening

    def launch(
        self, number: int, epoch: int, place: GroupPlace, owner: IncarnationOwner
    ) -> LocalIncarnation:
        """Start one of group `number`, whose turns `owner` is told."""
        listening = self._listening.open(number, epoch)
        return LocalIncarnation(number, epoch, place, self._hang_s, owner, listening)

    has_ended = True

    @property
    def num_refused(self) -> Mapping[str, int]:
        """No agent calls here."""
        return {}

    def renew(self) -> tuple[str, str] | None:
        """See Launcher."""
        return self._listening.reread()

    def close(self) -> None:
        """Nothing is its own."""

    def kill(self) -> None:
        """Nothing is its own."""
