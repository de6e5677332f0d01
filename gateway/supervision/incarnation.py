"""One incarnation of a group, from its start to its end, wherever its ranks run.

local_incarnation.py watches processes of this machine, nodes/remote_incarnation.py has them on
another. Knows no policy: what comes after is the group's business.
"""

from collections.abc import Mapping
from typing import Protocol

from backend.ranks.replica import Replica
from backend.wire.control import Budget, Progress
from backend.wire.messages import Ready
from gateway.layout import GroupPlace
from gateway.supervision.control_messages import RankView
from gateway.supervision.fault import Fault

# A rank told to stop that has not gone by then is killed.
STOP_SECONDS = 5.0


class IncarnationOwner(Protocol):
    """Who is told of an incarnation's turns."""

    @property
    def has_served(self) -> bool:
        """Whether the server has been ready once; before, what cannot start is the end of it."""

    def was_placed(self) -> None:
        """A machine has been found, or is waited for."""

    def progressed(self, title: str, news: Progress | Budget) -> None:
        """A rank has got on with its start."""

    def became_ready(self) -> None:
        """The whole group takes work."""

    def faulted(self, fault: Fault) -> None:
        """It is over, though some of its processes may still be there."""

    def ended(self) -> None:
        """The last of its processes is gone, and everything that was theirs."""


class Incarnation(Protocol):
    """What a group needs of its processes. ready: what the lead said when it had loaded."""

    @property
    def replica(self) -> Replica:
        """Its ranks."""

    @property
    def ready(self) -> Ready | None:
        """What the group said when it had loaded its model; None before."""

    @property
    def fault(self) -> Fault | None:
        """Why it is over; None while it lives, and if it was told to leave."""

    @property
    def is_over(self) -> bool:
        """Whether it takes no work any more and never will."""

    @property
    def waits_for(self) -> str:
        """Why it has not been placed on a machine yet; "" once it has."""

    def ranks(self) -> list[RankView]:
        """What each rank does now, as an operator is shown it."""

    def leave(self) -> None:
        """Have every rank exit; the end is no fault then."""

    def kill(self) -> None:
        """End every rank now."""


class Starter(Protocol):
    """Begins incarnations."""

    def launch(
        self, number: int, epoch: int, place: GroupPlace, owner: IncarnationOwner
    ) -> Incarnation:
        """Start one of group `number`, whose turns `owner` is told."""


class Launcher(Starter, Protocol):
    """Starts groups, and may have processes of its own for that."""

    def close(self) -> None:
        """Give back what is its own; no group is left."""

    def renew(self) -> tuple[str, str] | None:
        """Read the certificate again that the way to groups is encrypted by; return it and its key,
        PEM, or None where there is none, or only one that is of no use."""

    @property
    def num_refused(self) -> Mapping[str, int]:
        """Calls of agents on nodes that came to nothing, by handshake.Reason."""

    @property
    def has_ended(self) -> bool:
        """Whether no process of its own is left."""

    def kill(self) -> None:
        """End what is left now."""
