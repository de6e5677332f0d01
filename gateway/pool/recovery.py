"""What follows the loss of a channel: the verdict, the sequences that go on, those given up.

Owns the times that all this may take; which sequence may go on where is told in resumption.py.
Knows no channel. Belongs to ReplicaPool.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from gateway.pool.dispatcher import Dispatcher
from gateway.pool.inflight import InflightSequence
from gateway.pool.listener import PoolListener
from gateway.pool.refusals import LOST, POISONOUS
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.resumption import Resumption

logger = logging.getLogger(__name__)

# The supervisor names a death's suspects as soon as it sees the death.
VERDICT_SECONDS = 2.0


class Recovery:
    """Moves the sequences of lost channels on. resume_seconds: how long one waits for a group."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        resumption: Resumption,
        listener: PoolListener,
        resume_seconds: float,
        note_idle: Callable[[], None],
    ) -> None:
        """note_idle: called when sequences may have ended."""
        self._dispatcher = dispatcher
        self._note_idle = note_idle
        self._resumption = resumption
        self._listener = listener
        self._resume_seconds = resume_seconds
        # Lost without a word of a death -> who is suspected if none comes.
        self._untold: dict[ReplicaEpoch, Iterable[int]] = {}

    def lose(
        self,
        replica_epoch: ReplicaEpoch,
        lost: dict[int, InflightSequence],
        suspects: Iterable[int] = (),
    ) -> None:
        """A channel has ended; what was sent through it waits for the verdict on the death.

        suspects: seq_ids that are presumed to have caused it, if nobody gives a verdict.
        """
        loop = asyncio.get_running_loop()
        self._untold[replica_epoch] = suspects
        loop.call_later(VERDICT_SECONDS, self._presume, replica_epoch)
        if lost:
            group = replica_epoch.replica
            logger.warning("group=%d is lost; %d sequences wait to go on", group, len(lost))
            self._resumption.lose(replica_epoch, lost)
            loop.call_later(self._resume_seconds, self._give_up)

    def judge(self, replica_epoch: ReplicaEpoch, suspects: Iterable[int]) -> None:
        """Sort a dead group's sequences and send them on. suspects: seq_ids."""
        self._untold.pop(replica_epoch, None)
        for seq in self._resumption.judge(replica_epoch, suspects):
            logger.error("seq_id=%d ended two groups, given up", seq.seq_id)
            self._dispatcher.end(seq, POISONOUS, is_final=True)
        self._dispatcher.dispatch()
        self._note_idle()

    def _presume(self, replica_epoch: ReplicaEpoch) -> None:
        """Go on without a verdict: it may be that only the channel has ended."""
        if (suspects := self._untold.get(replica_epoch)) is not None:
            self._listener.on_cut(*replica_epoch)
            self.judge(replica_epoch, suspects)

    def _give_up(self) -> None:
        """End the sequences that have waited too long for another group."""
        for seq in self._resumption.overdue(self._resume_seconds):
            self._dispatcher.end(seq, LOST)
        self._note_idle()
