"""What the supervisor says to whoever started it: lines for a person, or events in a JSON log.

To standard error: standard output stays free.
"""

import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from gateway.telemetry.logs import escaped, fields

logger = logging.getLogger("unisono")


@dataclass(slots=True)
class Console:
    """as_events: every line is a log event, for machines."""

    as_events: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _has_open_line: bool = False

    @property
    def is_watched(self) -> bool:
        """Whether a person sees lines as they are rewritten."""
        return not self.as_events and self.stream.isatty()

    def say(self, text: str, level: int = logging.INFO) -> None:
        """Say something of one or more lines. level: of the event."""
        self.end_line()
        if self.as_events:
            logger.log(level, text)
            return
        for line in text.splitlines():
            self._write(f"unisono: {escaped(line)}\n")

    def show(self, lines: Sequence[str], **facts: object) -> None:
        """Show a block of text as it is; as an event, its first line and the facts."""
        self.end_line()
        if self.as_events:
            logger.info(lines[0], extra=fields(**facts))
        else:
            self._write("\n".join(lines) + "\n")

    def rewrite(self, line: str) -> None:
        """Replace what was last rewritten. Only where somebody watches."""
        self._write(f"\r\x1b[Kunisono: {line}")
        self._has_open_line = True

    def end_line(self) -> None:
        """Let the line under way stand."""
        if self._has_open_line:
            self._write("\n")
            self._has_open_line = False

    def _write(self, text: str) -> None:
        """Say it as long as somebody listens: a server outlives the reader of its pipe."""
        with contextlib.suppress(OSError):
            self.stream.write(text)
            self.stream.flush()
