"""The supervisor's last log lines, for `unisono ctl logs`."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

KEPT_LINES = 1000


class RecentLines(logging.Handler):
    """Keeps what is logged, and passes it on to whoever listens."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._listeners: list[Callable[[str], None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one event, in the format of the first handler there was."""
        line = self.format(record)
        self.lines.append(line)
        for listener in self._listeners:
            listener(line)

    def install(self) -> "RecentLines":
        """Hear everything that this process logs."""
        root = logging.getLogger()
        if root.handlers:
            self.setFormatter(root.handlers[0].formatter)
        root.addHandler(self)
        return self

    async def follow(self, listener: Callable[[str], None]) -> None:
        """Pass on every line to come, until cancelled."""
        self._listeners.append(listener)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._listeners.remove(listener)
