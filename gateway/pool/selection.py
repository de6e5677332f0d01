"""Which sequence is sent next, and which groups may have it. Changes nothing."""

from collections.abc import Collection, Mapping

from gateway.pool.fair_queue import FairQueue
from gateway.pool.inflight import InflightSequence
from gateway.pool.replica_connection import ReplicaConnection
from gateway.pool.resumption import Resumption


def select(
    queue: FairQueue[InflightSequence],
    resumption: Resumption,
    connections: Collection[ReplicaConnection],
    num_sent: Mapping[str, int],
) -> tuple[InflightSequence, list[ReplicaConnection]] | None:
    """Return what is next, and the groups that may have it; None if nothing can be sent.

    First comes what was cut off, oldest first, then what is new; but one sequence of a tenant that
    has none running, credit or not. num_sent: sequences in groups, by tenant.
    """
    reserved = _reserved(resumption, connections)
    taking = [
        conn
        for conn in connections
        if conn.takes_work and not conn.is_quarantine and conn is not reserved
    ]
    able = [conn for conn in taking if conn.credit > 0]
    if able or resumption:
        seq = resumption.next_bystander() or queue.head()
    else:
        able, seq = taking, queue.head(lambda tenant: not num_sent[tenant])
    return (seq, able) if seq is not None and able else None


def _reserved(
    resumption: Resumption, connections: Collection[ReplicaConnection]
) -> ReplicaConnection | None:
    """Return the group to be emptied for a suspect that has waited long for one."""
    if not resumption.needs_empty_group or any(conn.is_quarantine for conn in connections):
        return None
    ready = [conn for conn in connections if conn.takes_work]
    return min(ready, key=lambda conn: len(conn.sent), default=None)
