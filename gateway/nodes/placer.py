"""Puts agents on nodes: what the launcher of remote groups asks for, and is told."""

from collections.abc import Sequence
from typing import Protocol

from gateway.nodes.node_messages import LaunchOrder


class PlacementOwner(Protocol):
    """Who is told what becomes of an order."""

    def waits(self, reason: str) -> None:
        """No node has room yet. reason: what waits, and what there is."""

    def started(self, node: str) -> None:
        """A node has been found, and an agent started there, which is about to call home."""

    def failed(self, reason: str) -> None:
        """The agent could not be started, or has ended."""


class Placer(Protocol):
    """Finds a node for each order, starts an agent there, and gives its place back in the end."""

    def place(self, orders: Sequence[LaunchOrder], node: str, owner: PlacementOwner) -> None:
        """Have agents carry out a group's orders, each on a node of its own, all of them or none.

        node: the only one that will do for a single order, or "".
        """

    def displace(self, number: int, epoch: int) -> None:
        """End a group's agent, if there still is one, and give back what was kept for it."""

    def close(self) -> None:
        """Give everything back."""
