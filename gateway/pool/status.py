"""What health checks show of the groups behind a worker, computed from their progress."""

import msgspec

from gateway.pool.replica_connection import GroupStatus

# A group that owes tokens and sends no frame for so long is stuck; the longest honest step is
# a prompt chunk in exact mode, about a second on a slow machine.
STALL_SECONDS = 10.0


class PoolStatus(msgspec.Struct, frozen=True):
    """ready: new work is taken. stalled: a group owes tokens and makes no progress."""

    ready: bool
    draining: bool
    stalled: bool
    groups: list[GroupStatus]


def pool_status(groups: list[GroupStatus], *, is_draining: bool) -> PoolStatus:
    """Judge the groups together."""
    moving = [g for g in groups if g.ready and g.seconds_since_progress < STALL_SECONDS]
    return PoolStatus(
        ready=bool(moving) and not is_draining,
        draining=is_draining,
        stalled=not moving and any(g.ready for g in groups),
        groups=groups,
    )
