"""Names one incarnation of a replica group, as a channel does."""

from typing import NamedTuple


class ReplicaEpoch(NamedTuple):
    """What a group has cached, and what it was sent, goes with its epoch."""

    replica: int
    epoch: int
