"""What is published of groups that no event tells of."""

from types import SimpleNamespace
from typing import Any, cast

from backend.wire.local.heartbeat import Load
from backend.wire.tcp.handshake import Reason
from gateway.nodes.remote_replica import RemoteRank
from gateway.supervision.control_messages import RankView
from gateway.supervision.group_watch import GroupWatch
from gateway.supervision.groups import Group
from gateway.telemetry.figures import Process, Refused
from gateway.telemetry.publisher import Publisher


class Seen:
    """A publisher and a door of agents, played by hand."""

    def __init__(self) -> None:
        self.elsewhere: list[Process] = []
        self.refused: list[Refused] = []
        self.num_refused: dict[str, int] = {Reason.SECRET: 2}

    def see(self, elsewhere: list[Process], refused: list[Refused]) -> None:
        self.elsewhere, self.refused = elsewhere, refused


def group(number: int, node: str, load: Load | None) -> Group:
    view = RankView(0, 70 + number, "idle", 1, 0.0, 1000, 1, "cpu", 2.5)
    replica: Any = SimpleNamespace(
        node=node, load=load, ranks=[RemoteRank(f"rank {number}.0", 70 + number)]
    )
    incarnation = SimpleNamespace(replica=replica, ranks=lambda: [view])
    return cast(Group, SimpleNamespace(number=number, incarnation=incarnation))


def test_ranks_on_nodes_and_refusals_are_published() -> None:
    refused = tuple(int(reason is Reason.SCHEMA) for reason in Reason)
    groups = {
        0: group(0, "", Load(num_refused=refused)),
        1: group(1, "n1", Load()),
        2: group(2, "", None),
        3: cast(Group, SimpleNamespace(number=3, incarnation=None)),
    }
    seen = Seen()
    GroupWatch(groups, seen, cast(Publisher, seen)).look()
    assert seen.elsewhere == [Process("rank 1.0", 71, "1", "0", (2.5, 1000.0))]
    assert seen.refused == [Refused("0", "schema", 1), Refused("", "secret", 2)]
