"""Connects each life of a worker with each life of a group, and tells each of the other's end.

A channel is made for one such pair and never reused. No copy of it is kept, so that each side sees
the other's death.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from backend.wire.control import Attach, ControlClosed, Detach, Quiesce
from backend.wire.local.channel import create_channel
from gateway.supervision.groups import Group, GroupState
from gateway.supervision.workers import Worker

logger = logging.getLogger(__name__)


class ChannelManager:
    """Between the groups and the workers, of which it changes neither."""

    def __init__(
        self,
        groups: Mapping[int, Group],
        workers: Sequence[Worker],
        next_epoch: Callable[[], int],
    ) -> None:
        """workers: by number. next_epoch: gives a number that no other life or channel has."""
        self._groups = groups
        self._workers = workers
        self._next_epoch = next_epoch

    def group_ready(self, group: Group) -> None:
        """Give every worker a channel to it."""
        for worker in self._workers:
            self._connect(group, worker)

    def worker_born(self, worker: Worker) -> None:
        """Give it a channel to every group that takes work."""
        for group in self._groups.values():
            self._connect(group, worker)

    def group_lost(self, group: Group, suspects: Sequence[tuple[int, int]]) -> None:
        """Tell every worker that had a channel, each with those suspects that are its own."""
        for number, epoch in group.channels.items():
            own = [seq_id for worker, seq_id in suspects if worker == number]
            self._workers[number].tell(Detach(number, group.number, epoch, own))
            self._workers[number].serves.discard(group.number)
        group.channels.clear()
        group.quiet.clear()

    def worker_lost(self, worker: Worker) -> None:
        """Have every group forget its sequences."""
        for group in self._groups.values():
            epoch = group.channels.pop(worker.number, None)
            if epoch is not None and group.life is not None:
                with contextlib.suppress(ControlClosed):
                    group.life.replica.detach(worker.number, epoch)

    def quiesce(self, group: Group) -> None:
        """Have every worker hand it no new work."""
        for number, epoch in group.channels.items():
            self._workers[number].tell(Quiesce(group.number, epoch))

    def note_quiet(self, worker: Worker, replica: int, epoch: int) -> None:
        """A worker has nothing left in a group; news of a channel that is no more is ignored."""
        group = self._groups.get(replica)
        if group is not None and group.channels.get(worker.number) == epoch:
            group.quiet.add(worker.number)

    def is_quiet(self, group: Group) -> bool:
        """Whether no worker has anything left in it."""
        return group.channels.keys() <= group.quiet

    def is_served(self, group: Group) -> bool:
        """Whether every worker takes requests for it."""
        living = [worker for worker in self._workers if worker.child is not None]
        return bool(living) and all(group.number in worker.serves for worker in living)

    def reconnect(self, worker: Worker, replica: int, epoch: int) -> None:
        """Replace a channel that is of no more use; news of one that is no more is ignored."""
        group = self._groups.get(replica)
        if group is not None and group.channels.get(worker.number) == epoch:
            logger.warning("the channel from worker %d to group %d is cut", worker.number, replica)
            del group.channels[worker.number]
            worker.serves.discard(replica)
            self._connect(group, worker)

    def _connect(self, group: Group, worker: Worker) -> None:
        """Give one life of each a channel of their own, once both are there."""
        if group.state is not GroupState.READY or worker.child is None:
            return
        assert group.life is not None
        epoch = self._next_epoch()
        channel = create_channel()
        with contextlib.suppress(ControlClosed):  # a death that its pidfd is about to tell
            group.life.replica.attach(worker.number, epoch, channel)
            group.channels[worker.number] = epoch
            worker.tell(Attach(worker.number, group.number, epoch), channel.worker_end)
        channel.close()
