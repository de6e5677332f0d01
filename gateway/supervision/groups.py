"""One replica group over all its lives: when it starts, who is connected to it, what a death means.

Any exit, hang or protocol error of one rank ends a life (incarnation.py); here it begins again with
a new epoch, after a back-off, until it has died too often.
"""

import asyncio
import enum
import logging
import time
from typing import Protocol

from backend.wire.control import Budget, Progress
from gateway.layout import GroupPlace
from gateway.settings import ServerSettings
from gateway.supervision.fault import Fault
from gateway.supervision.incarnation import Life
from gateway.supervision.restarts import Restarts

logger = logging.getLogger(__name__)


class GroupState(enum.StrEnum):
    """Where a group is. ENDING: its last processes are dying. WAITING: it starts again soon."""

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
        """A number that no other life has."""

    def group_born(self, group: "Group") -> None:
        """It has a new life."""

    def group_progressed(self, title: str, news: Progress | Budget) -> None:
        """A rank has got on with its start."""

    def group_ready(self, group: "Group") -> None:
        """It takes work."""

    def group_lost(self, group: "Group", suspects: list[tuple[int, int]]) -> None:
        """It is dead to everyone connected to it."""

    def group_failed(self, group: "Group", fault: Fault) -> None:
        """It will not be started again."""

    def changed(self) -> None:
        """The state of a group has changed."""


class Group:
    """A number, and the lives under it.

    channels: worker -> epoch of the channel to it. quiet: workers that have nothing left in it.
    """

    def __init__(
        self, number: int, place: GroupPlace, server: ServerSettings, owner: GroupOwner
    ) -> None:
        self.number = number
        self.place = place
        self.life: Life | None = None
        self.channels: dict[int, int] = {}
        self.quiet: set[int] = set()
        self.restarts = Restarts(server.restart_limit, server.restart_window_s)
        self.last_fault: Fault | None = None
        self._hang_s = server.hang_seconds
        self._owner = owner
        self._is_wanted = True
        self._is_given_up = False
        self._restart: asyncio.TimerHandle | None = None

    @property
    def state(self) -> GroupState:
        if self.life is None:
            if self._is_given_up:
                return GroupState.GIVEN_UP
            return GroupState.WAITING if self._restart else GroupState.STOPPED
        if self.life.is_over:
            return GroupState.ENDING
        if self.life.ready is None:
            return GroupState.LOADING
        return GroupState.READY if self._is_wanted else GroupState.DRAINING

    def start(self) -> None:
        """Begin a life, unless there is one."""
        self._is_wanted, self._is_given_up = True, False
        self._cancel_restart()
        if self.life is None and not self._owner.is_stopping:
            epoch = self._owner.next_epoch()
            self.life = Life(self.number, epoch, self.place, self._hang_s, self)
            self._owner.group_born(self)
        self._owner.changed()

    def want_no_more(self) -> None:
        """Have this life be the last until start() is called."""
        self._is_wanted = False
        self._cancel_restart()
        self._owner.changed()

    def stop(self) -> None:
        """End this life, which is to be the last until start() is called."""
        self.want_no_more()
        if self.life is not None and not self.life.is_over:
            self._owner.group_lost(self, [])
            self.life.leave()
        self._owner.changed()

    # what its life tells

    def progressed(self, title: str, news: Progress | Budget) -> None:
        self._owner.group_progressed(title, news)

    def became_ready(self) -> None:
        if self._owner.has_served:
            logger.info("group %d is ready", self.number)
        self._owner.group_ready(self)
        self._owner.changed()

    def faulted(self, fault: Fault) -> None:
        self.last_fault = fault
        if self._owner.has_served:
            logger.error("group %d died: %s", self.number, fault)
        self._owner.group_lost(self, fault.blamed)
        self._owner.changed()

    def ended(self) -> None:
        """Start again, if that is wanted and of any use."""
        assert self.life is not None
        life, self.life = self.life, None
        if life.fault is not None:
            self._mourn(life.fault, was_ready=life.ready is not None)
        self._owner.changed()

    def _mourn(self, fault: Fault, *, was_ready: bool) -> None:
        self.last_fault = fault
        is_worth_it = self.restarts.note_death(time.monotonic())
        if self._owner.is_stopping or not self._is_wanted:
            return
        if not is_worth_it or not (was_ready or self._owner.has_served):
            self._is_given_up = True
            self._owner.group_failed(self, fault)
        else:
            delay = self.restarts.delay_s
            logger.warning("group %d starts again in %g s", self.number, delay)
            self._restart = asyncio.get_running_loop().call_later(delay, self.start)

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
