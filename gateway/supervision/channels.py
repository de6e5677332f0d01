"""Connects each process of a worker with each incarnation of a group, and tells each of the
other's end.

A channel is made for one such pair and never reused. No copy of it is kept, so that each side sees
the other's death.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from backend.wire.control import ControlClosed, Detach, NameGroups, Quiesce
from gateway.events import (
    Event,
    GroupForgotten,
    GroupLost,
    GroupReady,
    GroupStarted,
    WorkerCut,
    WorkerLost,
    WorkerQuiet,
    WorkerStarted,
)
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
        """workers: by number. next_epoch: gives a number that no incarnation or channel has."""
        self._groups = groups
        self._workers = workers
        self._next_epoch = next_epoch

    def take(self, event: Event) -> None:
        """Make and forget channels after what has happened."""
        match event:
            case GroupStarted() | GroupForgotten():
                for worker in self._workers:
                    self._name_groups(worker)
            case GroupReady(group):
                for worker in self._workers:
                    self._connect(self._groups[group], worker)
            case GroupLost(group, suspects):
                self._forget_group(self._groups[group], suspects)
            case WorkerStarted(worker=number):
                self._name_groups(self._workers[number])
                for each in self._groups.values():
                    self._connect(each, self._workers[number])
            case WorkerLost(worker=number):
                self._forget_worker(number)
            case WorkerQuiet(number, group, epoch):
                if self._is_current(number, group, epoch):
                    self._groups[group].quiet.add(number)
            case WorkerCut(number, group, epoch):
                if self._is_current(number, group, epoch):
                    self._reconnect(self._workers[number], self._groups[group])

    def quiesce(self, group: Group) -> None:
        """Have every worker hand it no new work, those of other gateways included."""
        for number, epoch in group.channels.items():
            self._workers[number].tell(Quiesce(group.number, epoch))
        group.retire()

    def is_quiet(self, group: Group) -> bool:
        """Whether no worker has anything left in it, and neither has one of another gateway."""
        return group.channels.keys() <= group.quiet and not group.num_sequences

    def is_served(self, group: Group) -> bool:
        """Whether every worker takes requests for it."""
        living = [worker for worker in self._workers if worker.child is not None]
        return bool(living) and all(group.number in worker.serves for worker in living)

    def _name_groups(self, worker: Worker) -> None:
        """Tell a worker what all groups are called."""
        names = {number: group.place.name for number, group in self._groups.items()}
        worker.tell(NameGroups(names))

    def _forget_group(self, group: Group, suspects: Sequence[tuple[int, int]]) -> None:
        """Tell every worker that had a channel, each with those suspects that are its own."""
        for number, epoch in group.channels.items():
            own = [seq_id for worker, seq_id in suspects if worker == number]
            self._workers[number].tell(Detach(number, group.number, epoch, own))
            self._workers[number].serves.discard(group.number)
        group.channels.clear()
        group.quiet.clear()

    def _forget_worker(self, number: int) -> None:
        """Have every group forget a worker's sequences."""
        for group in self._groups.values():
            epoch = group.channels.pop(number, None)
            if epoch is not None and group.incarnation is not None:
                with contextlib.suppress(ControlClosed):
                    group.incarnation.replica.detach(number, epoch)

    def _is_current(self, worker: int, replica: int, epoch: int) -> bool:
        """Whether news is of a channel that still is."""
        group = self._groups.get(replica)
        return group is not None and group.channels.get(worker) == epoch

    def _reconnect(self, worker: Worker, group: Group) -> None:
        """Replace a channel that is of no more use."""
        logger.warning("the channel from worker %d to group %d is cut", worker.number, group.number)
        del group.channels[worker.number]
        worker.serves.discard(group.number)
        self._connect(group, worker)

    def _connect(self, group: Group, worker: Worker) -> None:
        """Give both a channel of their own, once both are there."""
        if group.state is not GroupState.READY or worker.child is None:
            return
        assert group.incarnation is not None
        epoch = self._next_epoch()
        try:
            offer = group.incarnation.replica.connect(worker.number, epoch)
        except ControlClosed:
            return  # a death that its pidfd is about to tell
        with offer:
            group.channels[worker.number] = epoch
            worker.tell(offer.message, offer.fds)
