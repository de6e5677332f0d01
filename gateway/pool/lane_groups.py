"""The groups of one name, sorted by what they would take now, so that nobody looks through all of
them for each request and frame. Belongs to the dispatcher.
"""

from collections.abc import Iterator

from gateway.pool.replica_connection import ReplicaConnection


class ConnectionSet:
    """A set with an order that chances to be, whose members can be taken by their place.

    members: to be read only.
    """

    def __init__(self) -> None:
        self.members: list[ReplicaConnection] = []
        self._places: dict[ReplicaConnection, int] = {}

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, conn: ReplicaConnection) -> bool:
        return conn in self._places

    def __iter__(self) -> Iterator[ReplicaConnection]:
        return iter(self.members)

    def put(self, conn: ReplicaConnection, *, is_member: bool) -> None:
        """Have a connection in the set, or not."""
        if is_member == (conn in self._places):
            return
        if is_member:
            self._places[conn] = len(self.members)
            self.members.append(conn)
            return
        place, last = self._places.pop(conn), self.members.pop()
        if last is not conn:
            self.members[place] = last
            self._places[last] = place


class LaneGroups:
    """working: takes work at all. taking: and is not kept for suspects. able: and has credit.

    least_tokens: of a sequence, in the smallest of those working.
    """

    def __init__(self) -> None:
        self.working = ConnectionSet()
        self.taking = ConnectionSet()
        self.able = ConnectionSet()
        self.least_tokens = 0

    def note(self, conn: ReplicaConnection) -> None:
        """A connection is new, or has changed."""
        self._put(conn, takes_work=conn.takes_work)

    def drop(self, conn: ReplicaConnection) -> None:
        """A connection is lost, or goes by another name."""
        self._put(conn, takes_work=False)

    def _put(self, conn: ReplicaConnection, *, takes_work: bool) -> None:
        num_working = len(self.working)
        self.working.put(conn, is_member=takes_work)
        is_taking = takes_work and not conn.is_quarantine
        self.taking.put(conn, is_member=is_taking)
        self.able.put(conn, is_member=is_taking and conn.credit > 0)
        if len(self.working) != num_working:
            sizes = (each.ready.kv_sequence_tokens for each in self.working if each.ready)
            self.least_tokens = min(sizes, default=0)


# Stands for a name that no group has.
NO_GROUPS = LaneGroups()
