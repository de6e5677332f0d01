"""Looks once a second at what no event tells of groups: what ranks on nodes use, and whom groups
have refused; has it published for /metrics.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from backend.wire.tcp.handshake import Reason
from gateway.supervision.groups import Group
from gateway.telemetry.figures import Process, Refused
from gateway.telemetry.publisher import Publisher

LOOK_SECONDS = 1.0


class Door(Protocol):
    """Where agents of nodes call."""

    @property
    def num_refused(self) -> Mapping[str, int]:
        """Calls that came to nothing, by handshake.Reason."""


class GroupWatch:
    """Between the groups and the publisher, of which it changes neither."""

    def __init__(self, groups: Mapping[int, Group], door: Door, publisher: Publisher) -> None:
        self._groups = groups
        self._door = door
        self._publisher = publisher

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Publish what is there now, if it is news."""
        ranks, refused = [], []
        for number, group in sorted(self._groups.items()):
            ranks += _ranks_elsewhere(group)
            refused += _refused(str(number), _counts(group))
        refused += _refused("", self._door.num_refused)
        self._publisher.see(ranks, refused)


def _ranks_elsewhere(group: Group) -> list[Process]:
    incarnation = group.incarnation
    if incarnation is None or not incarnation.replica.node:
        return []
    titles = {rank.pid: rank.title for rank in incarnation.replica.ranks}
    return [
        Process(
            titles.get(view.pid, f"rank {view.rank}"),
            view.pid,
            str(group.number),
            str(view.rank),
            (view.cpu_s, float(view.rss_bytes)),
        )
        for view in incarnation.ranks()
    ]


def _counts(group: Group) -> Mapping[str, int]:
    load = group.incarnation.replica.load if group.incarnation is not None else None
    return dict(zip(Reason, load.num_refused, strict=True)) if load is not None else {}


def _refused(group: str, counts: Mapping[str, int]) -> list[Refused]:
    return [
        Refused(group, reason.name.lower(), counts[reason])
        for reason in Reason
        if counts.get(reason)
    ]
