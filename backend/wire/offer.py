"""What a worker is sent so that it connects with the lead of a group.

Made by a replica, which has told its lead before; sent by the supervisor through the worker's line.
"""

import os
from dataclasses import dataclass
from types import TracebackType

from backend.wire.control import Attach, Dial


@dataclass(frozen=True, slots=True)
class Offer:
    """message: for the worker. fds: go along; this side's copies are closed with the context."""

    message: Attach | Dial
    fds: tuple[int, ...] = ()

    def __enter__(self) -> "Offer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in self.fds:
            os.close(fd)
