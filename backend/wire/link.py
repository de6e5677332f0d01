"""A link between two ranks of a group, whatever lies between them.

Messages arrive whole and in order. local/ring_link.py has those of one machine, in shared memory.
"""

from collections.abc import Sequence
from typing import Protocol

Payload = bytes | memoryview


class PlanWriter(Protocol):
    """How a lead's plans reach all its followers."""

    def write(self, payload: bytes) -> bool:
        """Publish a plan to every follower; False, with nothing written, if there is no room."""


class PlanReader(Protocol):
    """A follower's end: RingReader is one, and any Link."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to read."""

    def read(self) -> Sequence[Payload]:
        """Return every plan that has come, oldest first. Does not wait."""


class Link(Protocol):
    """One rank's end. A rank that waits for a dead one waits until the supervisor ends the group.

    Some links go in one direction alone: see who makes them.
    """

    def fileno(self) -> int:
        """Return a descriptor that is readable when something has arrived that was not received.

        Before read() is called, which takes all of it.
        """

    def send(self, payload: Payload) -> None:
        """Send a message; wait for room if there is none. payload: free to change afterwards."""

    def receive(self) -> Payload:
        """Return the next message; wait for it."""

    def read(self) -> Sequence[Payload]:
        """Return the messages that have arrived, oldest first. Does not wait."""

    def close(self) -> None:
        """Release it."""
