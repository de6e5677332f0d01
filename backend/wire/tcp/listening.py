"""How a lead comes to listen: a bound socket, what the lead is told, where its workers find it."""

import socket
from dataclasses import dataclass

from backend.wire.control import Listen
from backend.wire.tcp.address import LeadAddress


@dataclass(frozen=True, slots=True)
class Listening:
    """For one incarnation of a group.

    listener: bound; the lead begins to listen when it is ready, and a dial before that is refused
    at once. address: where the workers of the group's own gateway dial; None if they share memory.
    """

    listener: socket.socket
    message: Listen
    address: LeadAddress | None = None
