"""Asks a supervisor through its control socket, from an event loop: what the management API does.

`unisono ctl` does the same for a person. Used by a worker, whose supervisor it is.
"""

import asyncio
from pathlib import Path

import msgspec

from gateway.supervision.control_messages import (
    MAX_LINE_BYTES,
    Done,
    List,
    Listing,
    Operation,
    Refused,
    decode_reply,
    encode,
)


class ControlUnavailable(Exception):
    """The supervisor cannot be asked. The message says why."""


class OperationRefused(Exception):
    """What was asked cannot be done, or has failed. The message is the supervisor's."""


class ControlClient:
    """Asks at one socket; each question is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def listing(self) -> Listing:
        """Return everything there is. Raises ControlUnavailable."""
        reply = await self._ask(List())
        assert isinstance(reply, Listing), "what a list is answered with"
        return reply

    async def carry_out(self, operation: Operation) -> Done:
        """Return when it is done; who stops waiting does not stop it.

        Raises OperationRefused and ControlUnavailable.
        """
        reply = await self._ask(operation)
        assert isinstance(reply, Done), "what an operation is answered with"
        return reply

    async def _ask(self, request: List | Operation) -> Listing | Done:
        try:
            reader, writer = await asyncio.open_unix_connection(
                str(self._path), limit=MAX_LINE_BYTES
            )
        except OSError as error:
            raise ControlUnavailable(f"{self._path}: {error.strerror or error}") from None
        try:
            writer.write(encode(request) + b"\n")
            while line := await reader.readline():
                match decode_reply(line):
                    case Listing() | Done() as reply:
                        return reply
                    case Refused(text=text):
                        raise OperationRefused(text)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise ControlUnavailable(f"{self._path}: {error}") from None
        finally:
            writer.close()
        raise ControlUnavailable(f"{self._path}: the supervisor has gone")
