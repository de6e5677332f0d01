"""What the supervisor tells the outside: a person or a log, and the service manager.

Both hear of the start, of being ready, of failing and of the end; each in its own words. Must not
know processes. Called by the supervisor alone.
"""

import logging
import os
from collections.abc import Sequence

from backend.wire.control import Budget, Progress
from gateway.events import Event, RankProgressed
from gateway.notices.console import Console
from gateway.notices.progress import StartProgress
from gateway.notices.service_manager import ServiceManager
from gateway.procfs import began_s
from gateway.settings import Settings

# What a start may take from one sign of progress to the next.
STEP_SECONDS = 300.0
# The end takes so much beyond drain_seconds: groups are stopped, what does not go is killed.
END_SECONDS = 20.0


class StartupReporter:
    """One voice for the whole life of a server."""

    def __init__(self, settings: Settings) -> None:
        self.console = Console(as_events=settings.server.log_format == "json")
        self._manager = ServiceManager(os.environ)
        self._progress = StartProgress(self.console, began_s(os.getpid()))
        self._ready_status = ""
        self._trouble = ""

    @property
    def watchdog_s(self) -> float:
        """Seconds within which alive() must be called; 0 if nobody waits for it."""
        return self._manager.watchdog_s

    def take(self, event: Event) -> None:
        """Tell of a rank that has got on with its start, as long as nothing has served."""
        match event:
            case RankProgressed(title, Progress() as progress) if not self._ready_status:
                self._progress.note(title, progress)
                self._manager.extend_start(STEP_SECONDS, self._progress.status)
            case RankProgressed(title, Budget() as budget) if not self._ready_status:
                self._progress.note_budget(title, budget)

    @property
    def took(self) -> str:
        """How long the start took until now, by phase."""
        return self._progress.took()

    def serves(
        self, lines: Sequence[str], url: str, model: str, compute: str, kv_tokens: int
    ) -> None:
        """Everything is there. kv_tokens: what all groups' KV caches hold together."""
        self.console.show(lines, url=url, model=model, compute=compute, kv_tokens=kv_tokens)
        self._ready_status = f"serving {model} on {url}"
        self._manager.ready(self._ready_status)

    def has_trouble(self, text: str) -> None:
        """The service is up, but not whole; an empty text takes that back."""
        self._trouble = text
        self._manager.status(text or self._ready_status)

    def reloads(self) -> None:
        """Keys and certificates are being read again, which takes no time."""
        if self._ready_status:
            self._manager.reloading()
            self._manager.ready(self._trouble or self._ready_status)

    def alive(self) -> None:
        """The server gets on."""
        self._manager.alive()

    def fails(self, fault: str) -> None:
        """The server gives up. fault: one to five lines."""
        self.console.say(fault, logging.ERROR)
        self._manager.stopping(END_SECONDS, fault.splitlines()[0])

    def cuts_off(self) -> None:
        """There is no more time for what runs."""
        self.console.say("stopping at once; answers that are not finished end here")

    def stops(self, drain_seconds: float, *, has_served: bool) -> None:
        """A signal has come."""
        busy = f"; streams may run on for {drain_seconds:g} s" if has_served else ""
        self.console.say(f"stopping{busy}")
        self._manager.stopping(drain_seconds + END_SECONDS, f"stopping{busy}")
