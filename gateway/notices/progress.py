"""What `unisono serve` shows of its start: the phases, each rank's way through them, the memory.

A line that is rewritten where a person watches; elsewhere a line a phase, and one now and then in a
long one. Knows what ranks report, no processes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backend.wire.control import Budget, Progress
from backend.wire.local.heartbeat import Phase
from gateway.notices.banner import size_text
from gateway.notices.console import Console

STARTING = "starting processes"
PHASE_NAMES = {Phase.LOAD: "loading weights", Phase.WARM_UP: "warming up"}
# Where nobody watches, a long phase is heard of so often.
LINE_SECONDS = 10.0
# An estimate out of less would jump.
ESTIMATE_SECONDS, ESTIMATE_FRACTION = 1.0, 0.05


@dataclass(slots=True)
class StartProgress:
    """The start of a server, until it serves. Times are CLOCK_MONOTONIC seconds."""

    console: Console
    began_s: float
    clock: Callable[[], float] = time.monotonic
    _phase: str = STARTING
    _begins: dict[str, float] = field(default_factory=dict)  # by phase
    _fractions: dict[str, float] = field(default_factory=dict)  # by rank, of the phase
    _said_s: float = 0.0
    _told: set[tuple[int, ...]] = field(default_factory=set)  # budgets, of the ranks so far

    @property
    def status(self) -> str:
        """Where the start is, in a few words."""
        if not self._fractions:
            return self._phase
        return f"{self._phase} {100 * min(self._fractions.values()):.0f} %"

    def note(self, title: str, progress: Progress) -> None:
        """Take a rank's progress."""
        phase = PHASE_NAMES[progress.phase]
        if phase not in self._begins:
            self.console.end_line()
            self._phase, self._begins[phase] = phase, self.clock()
            self._fractions = {}
            if not self.console.is_watched:
                self._say(f"{phase} ...")
        if phase == self._phase:
            self._fractions[title] = progress.fraction
            self._show()

    def note_budget(self, title: str, budget: Budget) -> None:
        """Say what memory a rank is about to take, and what of a file's few bits it expands, unless
        another said the same."""
        parts = (
            ("weights", budget.weight_bytes),
            ("weights in few bits", budget.packed_bytes),
            ("KV cache", budget.kv_bytes),
            ("states", budget.state_bytes),
            ("activations", budget.activation_bytes),
        )
        sizes = tuple(count for _, count in parts)
        if sizes in self._told:
            return
        self._told.add(sizes)
        items = ", ".join(f"{name} {size_text(count)}" for name, count in parts if count)
        self.console.say(
            f"memory of {title}: {items}; {size_text(budget.free_bytes)} are free for it"
        )
        for line in budget.expanded:
            self.console.say(f"weights of {title} {line}")
        for line in budget.notes:
            self.console.say(line)

    def took(self) -> str:
        """Say how long the start took until now, in all and by phase."""
        now = self.clock()
        begins = [("processes", self.began_s), *self._begins.items()]
        ends = [begin for _, begin in begins[1:]] + [now]
        parts = [
            f"{name} {end - begin:.1f}" for (name, begin), end in zip(begins, ends, strict=True)
        ]
        return f"{now - self.began_s:.1f} s ({', '.join(parts)})"

    def _show(self) -> None:
        ranks = "  ".join(f"{title} {100 * f:3.0f} %" for title, f in self._fractions.items())
        line = f"{self._phase}  {ranks}{self._estimate()}"
        if self.console.is_watched:
            self.console.rewrite(line)
        elif self.clock() - self._said_s >= LINE_SECONDS:
            self._say(line)

    def _estimate(self) -> str:
        """How long the slowest rank needs, if it goes on as it did."""
        slowest = min(self._fractions.values())
        spent = self.clock() - self._begins[self._phase]
        if spent < ESTIMATE_SECONDS or not ESTIMATE_FRACTION <= slowest < 1:
            return ""
        return f"  about {spent * (1 - slowest) / slowest:.0f} s left"

    def _say(self, line: str) -> None:
        self.console.say(line)
        self._said_s = self.clock()
