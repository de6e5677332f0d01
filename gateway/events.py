"""What happens to replica groups and workers, as plain facts: their numbers, and who is concerned.

Told by supervision/groups.py and workers.py to whoever subscribed with the supervisor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.wire.control import Budget, Progress
from backend.wire.local.child import Child, ProcessName


@dataclass(frozen=True, slots=True)
class GroupStarted:
    """A group has new processes."""

    group: int
    ranks: Sequence[ProcessName]


@dataclass(frozen=True, slots=True)
class RankProgressed:
    """A rank has got on with its start. title: the rank's."""

    title: str
    news: Progress | Budget


@dataclass(frozen=True, slots=True)
class GroupReady:
    """A group takes work."""

    group: int


@dataclass(frozen=True, slots=True)
class GroupLost:
    """A group is dead to everyone connected to it. suspects: (worker, seq_id)."""

    group: int
    suspects: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class GroupFailed:
    """A group will not be started again. reason: for an operator whose server never served."""

    group: int
    reason: str


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """A group may be in another state. node: where it runs, "" for this machine or nowhere yet."""

    group: int
    state: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class GroupForgotten:
    """A group is no part of this server any more."""

    group: int


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker has a new process, which can be connected with the groups."""

    worker: int
    child: Child


@dataclass(frozen=True, slots=True)
class WorkerServes:
    """A worker takes requests for one more group."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerQuiet:
    """A worker is done with a group that was to be quiesced. epoch: of the channel."""

    worker: int
    group: int
    epoch: int


@dataclass(frozen=True, slots=True)
class WorkerCut:
    """A worker's channel to a group has ended, and the group may not have."""

    worker: int
    group: int
    epoch: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is dead to every group connected to it."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """There is no point in starting a worker again."""

    worker: int
    reason: str


Event = (
    GroupStarted
    | RankProgressed
    | GroupReady
    | GroupLost
    | GroupFailed
    | GroupChanged
    | GroupForgotten
    | WorkerStarted
    | WorkerServes
    | WorkerQuiet
    | WorkerCut
    | WorkerLost
    | WorkerFailed
)
