"""What the supervisor says to whoever started it: lines for a person, or events in a JSON log.

To standard error: standard output stays free.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from gateway.telemetry.logs import escaped, fields

logger = logging.getLogger("unisono")


@dataclass(slots=True)
class Speaker:
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
            print(f"unisono: {escaped(line)}", file=self.stream, flush=True)

    def show(self, lines: Sequence[str], **facts: object) -> None:
        """Show a block of text as it is; as an event, its first line and the facts."""
        self.end_line()
        if self.as_events:
            logger.info(lines[0], extra=fields(**facts))
        else:
            print("\n".join(lines), file=self.stream, flush=True)

    def rewrite(self, line: str) -> None:
        """Replace what was last rewritten. Only where somebody watches."""
        print(f"\r\x1b[Kunisono: {line}", end="", file=self.stream, flush=True)
        self._has_open_line = True

    def end_line(self) -> None:
        """Let the line under way stand."""
        if self._has_open_line:
            print(file=self.stream, flush=True)
            self._has_open_line = False
