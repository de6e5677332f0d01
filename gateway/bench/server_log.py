"""What a server that was started for a measurement says on standard error: events as JSON, a line
each, and whatever is none.

A thread reads it; others wait for what they want to hear. Knows no processes. Called by
gateway/bench/launched_server.py.
"""

import threading
from typing import IO, Any

import msgspec


class ServerLog:
    """What has been said. faults: errors of the supervisor; other_lines: what is no event."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.other_lines: list[str] = []
        self._ready: dict[str, Any] | None = None
        self._has_ended = False
        self._news = threading.Condition()

    def read(self, stream: IO[bytes]) -> None:
        """Take all of it, to its end."""
        with stream:
            for line in stream:
                self._take(line)
        with self._news:
            self._has_ended = True
            self._news.notify_all()

    def wait_for_ready(self, seconds: float) -> dict[str, Any] | None:
        """Return what it said when it served; None if it ended before, or takes longer."""
        with self._news:
            self._news.wait_for(lambda: self._ready is not None or self._has_ended, seconds)
            if self._ready is None and not self._has_ended:
                self.faults.append(f"it did not serve within {seconds:g} s")
            return self._ready

    def wait_for_fault(self, seconds: float) -> None:
        """Wait until it has said that something is wrong, or nobody can say anything any more."""
        with self._news:
            self._news.wait_for(lambda: self.faults or self._has_ended, seconds)

    def wait_for_end(self, seconds: float) -> None:
        """Wait until nobody can say anything any more."""
        with self._news:
            self._news.wait_for(lambda: self._has_ended, seconds)

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            event = {}
        with self._news:
            if not event:
                self.other_lines.append(line.decode(errors="replace").rstrip())
            elif event.get("level") == "error" and event.get("process") == "supervisor":
                self.faults.append(str(event.get("message", "")))
            elif "url" in event and "model" in event:
                self._ready = event
            self._news.notify_all()
