"""One replica group over all its incarnations: when it starts, who is connected, what a death is.

Any exit, hang or protocol error of one rank ends an incarnation (incarnation.py); here the group
starts again with a new epoch, after a back-off, until it has died too often.
"""

import asyncio
import contextlib
import enum
import logging
import time
from typing import Protocol

from backend.wire.control import Budget, ControlClosed, Progress
from gateway.events import (
    Event,
    GroupChanged,
    GroupFailed,
    GroupLost,
    GroupReady,
    GroupStarted,
    RankProgressed,
)
from gateway.layout import GroupPlace
from gateway.settings import ServerSettings
from gateway.supervision.fault import Fault
from gateway.supervision.incarnation import Incarnation, Starter
from gateway.supervision.restarts import Restarts

logger = logging.getLogger(__name__)


class GroupState(enum.StrEnum):
    """Where a group is.

    PLACING: no node has room for it yet. ENDING: its last processes are dying. WAITING: it starts
    again soon.
    """

    PLACING = "placing"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    ENDING = "ending"
    WAITING = "waiting"
    STOPPED = "stopped"
    GIVEN_UP = "given up"


class GroupOwner(Protocol):
    """What a group needs of the supervisor."""

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is to be started any more."""

    @property
    def has_served(self) -> bool:
        """Whether the server has been ready once; before, a failure to start is the end of it."""

    def next_epoch(self) -> int:
        """Return a number that no other incarnation has."""

    def tell(self, event: Event) -> None:
        """Pass an event on to everyone whom it concerns."""


class Group:
    """A number, and the incarnations under it.

    channels: worker -> epoch of the channel to it. quiet: workers that have nothing left in it.
    """

    def __init__(
        self,
        number: int,
        place: GroupPlace,
        launcher: Starter,
        server: ServerSettings,
        owner: GroupOwner,
    ) -> None:
        self.number = number
        self.place = place
        self.incarnation: Incarnation | None = None
        self.channels: dict[int, int] = {}
        self.quiet: set[int] = set()
        self.restarts = Restarts(server.restart_limit, server.restart_window_s)
        self.last_fault: Fault | None = None
        self._launcher = launcher
        self._owner = owner
        self._is_wanted = True
        self._is_given_up = False
        self._restart: asyncio.TimerHandle | None = None

    @property
    def state(self) -> GroupState:
        if self.incarnation is None:
            if self._is_given_up:
                return GroupState.GIVEN_UP
            return GroupState.WAITING if self._restart else GroupState.STOPPED
        if self.incarnation.is_over:
            return GroupState.ENDING
        if self.incarnation.waits_for:
            return GroupState.PLACING
        if self.incarnation.ready is None:
            return GroupState.LOADING
        return GroupState.READY if self._is_wanted else GroupState.DRAINING

    def start(self) -> None:
        """Start processes, unless there are some."""
        self._is_wanted, self._is_given_up = True, False
        self._cancel_restart()
        if self.incarnation is None and not self._owner.is_stopping:
            epoch = self._owner.next_epoch()
            self.incarnation = self._launcher.launch(self.number, epoch, self.place, self)
            self._owner.tell(GroupStarted(self.number, self.incarnation.replica.ranks))
        self._tell_state()

    def renew(self, certificate: str, key: str) -> None:
        """Have workers be met with another certificate from now on; one that ends needs none."""
        if self.incarnation is not None:
            with contextlib.suppress(ControlClosed):
                self.incarnation.replica.renew(certificate, key)

    def want_no_more(self) -> None:
        """Have this incarnation be the last until start() is called."""
        self._is_wanted = False
        self._cancel_restart()
        self._tell_state()

    @property
    def waits_for(self) -> str:
        """What keeps it from a node; "" once it has one."""
        return self.incarnation.waits_for if self.incarnation is not None else ""

    @property
    def num_sequences(self) -> int:
        """What it holds, of workers of all gateways, as it has last told."""
        load = self.incarnation.replica.load if self.incarnation is not None else None
        return load.num_sequences if load is not None else 0

    def retire(self) -> None:
        """Have workers of other gateways hand it nothing more: it is about to be stopped."""
        if self.incarnation is not None:
            with contextlib.suppress(ControlClosed):
                self.incarnation.replica.retire()

    def stop(self) -> None:
        """End this incarnation, which is to be the last until start() is called."""
        self.want_no_more()
        if self.incarnation is not None and not self.incarnation.is_over:
            self._owner.tell(GroupLost(self.number, []))
            self.incarnation.leave()
        self._tell_state()

    # what its incarnation tells

    def was_placed(self) -> None:
        self._tell_state()

    @property
    def has_served(self) -> bool:
        return self._owner.has_served

    def progressed(self, title: str, news: Progress | Budget) -> None:
        self._owner.tell(RankProgressed(title, news))

    def became_ready(self) -> None:
        if self._owner.has_served:
            logger.info("group %d is ready", self.number)
        self._owner.tell(GroupReady(self.number))
        self._tell_state()

    def faulted(self, fault: Fault) -> None:
        self.last_fault = fault
        if self._owner.has_served:
            logger.error("group %d died: %s", self.number, fault)
        self._owner.tell(GroupLost(self.number, fault.blamed))
        self._tell_state()

    def ended(self) -> None:
        """Start again, if that is wanted and of any use."""
        assert self.incarnation is not None
        ended, self.incarnation = self.incarnation, None
        if ended.fault is not None:
            self._on_exit(ended.fault, was_ready=ended.ready is not None)
        self._tell_state()

    def _on_exit(self, fault: Fault, *, was_ready: bool) -> None:
        self.last_fault = fault
        is_worth_it = self.restarts.note_death(time.monotonic())
        if self._owner.is_stopping or not self._is_wanted:
            return
        if not is_worth_it or not (was_ready or self._owner.has_served):
            self._is_given_up = True
            self._owner.tell(GroupFailed(self.number, fault.message or fault.summary))
        else:
            delay = self.restarts.delay_s
            logger.warning("group %d starts again in %g s", self.number, delay)
            self._restart = asyncio.get_running_loop().call_later(delay, self.start)

    def _tell_state(self) -> None:
        node = self.incarnation.replica.node if self.incarnation is not None else ""
        self._owner.tell(GroupChanged(self.number, self.state.value, node))

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
