"""Groups sorted by what they would take, against looking at each."""

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.lane_groups import ConnectionSet, LaneGroups
from gateway.pool.replica_connection import ReplicaConnection


class Connection:
    """What is looked at of a connection."""

    def __init__(self) -> None:
        self.takes_work = False
        self.is_quarantine = False
        self.credit = 0
        self.ready = SimpleNamespace(kv_sequence_tokens=0)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 4), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(1, 9)
    ),
    max_size=30,
)


@given(CHANGES)
def test_groups_are_sorted_as_if_all_were_looked_at(
    changes: list[tuple[int, bool, bool, int, int]],
) -> None:
    groups = LaneGroups()
    there = [Connection() for _ in range(5)]
    for number, takes_work, is_quarantine, credit, room in changes:
        conn = there[number]
        if takes_work and not conn.takes_work:  # its Ready says so once
            conn.ready = SimpleNamespace(kv_sequence_tokens=room)
        conn.takes_work, conn.is_quarantine, conn.credit = takes_work, is_quarantine, credit
        groups.note(cast(ReplicaConnection, conn))
        working = [conn for conn in there if conn.takes_work]
        taking = [conn for conn in working if not conn.is_quarantine]
        able = [conn for conn in taking if conn.credit > 0]
        for kept, expected in (
            (groups.working, working),
            (groups.taking, taking),
            (groups.able, able),
        ):
            assert len(kept) == len(expected) and set(kept) == set(cast(Any, expected))
            assert all(cast(Any, conn) in kept for conn in expected)
        sizes = [conn.ready.kv_sequence_tokens for conn in working]
        assert groups.least_tokens == min(sizes, default=0)
    for conn in there:
        groups.drop(cast(ReplicaConnection, conn))
    assert not (len(groups.working) or len(groups.taking) or len(groups.able))


def test_member_that_is_put_twice_is_there_once() -> None:
    conns = ConnectionSet()
    conn = cast(ReplicaConnection, Connection())
    for _ in range(2):
        conns.put(conn, is_member=True)
    assert conns.members == [conn]
    conns.put(conn, is_member=False)
    conns.put(conn, is_member=False)
    assert conns.members == [] and conn not in conns
