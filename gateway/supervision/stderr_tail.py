"""What a rank writes to standard error: shown to the operator line by line, the last lines kept."""

import asyncio
import logging
import os
from collections import deque

from backend.wire.local.child import Child

logger = logging.getLogger(__name__)

KEPT_LINES = 50
# The stacks of twenty threads; a rank that says more at once is listened to later.
READ_BYTES = 1 << 16
MAX_LINE_CHARS = 2000


class StderrTail:
    """Reads a child's standard error for as long as the child is watched."""

    def __init__(self, child: Child) -> None:
        """The child must have been spawned with keeps_stderr."""
        assert child.stderr is not None
        self._title = child.title
        self._pipe = child.stderr
        self._rest = b""
        self._num_lines = 0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)

    def read_all(self) -> None:
        """Take everything there is now."""
        while self._read():
            pass

    def last(self, count: int) -> list[str]:
        """The last lines, oldest first."""
        return list(self._lines)[-count:]

    @property
    def mark(self) -> int:
        """Where the lines that are still to come begin."""
        return self._num_lines

    def since(self, mark: int) -> list[str]:
        """The lines after a mark, as far as they are kept."""
        return self.last(self._num_lines - mark) if self._num_lines > mark else []

    def close(self) -> None:
        """Listen no more. Idempotent; the pipe is the child's to close."""
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        if self._rest:
            self._add(self._rest)
            self._rest = b""

    def _read(self) -> bool:
        """Take some of what there is; False when that was all."""
        try:
            data = os.read(self._pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._add(line)
        if len(self._rest) > MAX_LINE_CHARS:
            self._add(self._rest)
            self._rest = b""
        return True

    def _add(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")[:MAX_LINE_CHARS]
        if text:
            self._lines.append(text)
            self._num_lines += 1
            logger.warning("%s: %s", self._title, text)
