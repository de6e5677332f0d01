"""Whose turn it is in a group that several tenants want, by the rows that each holds.

Within a tenant the order of its sequences decides, between tenants this. Knows counts, no blocks
and no steps. Kept by the scheduler; with a single tenant it changes nothing.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from typing import NamedTuple

from backend.scheduler.sequence import Sequence


class Throttle(NamedTuple):
    """The tenants whose decodes, and whose prefills, do not run in a step."""

    decodes: frozenset[str] = frozenset()
    prefills: frozenset[str] = frozenset()


class FairShare:
    """Counts the rows of each tenant, and has those with many make way for those with few.

    A tenant outweighs another with more than twice its rows and two: a flood that has taken all
    rows gives some back to a newcomer, and tenants that want about the same are left in peace.
    """

    def __init__(self) -> None:
        self._present: Counter[str] = Counter()  # sequences
        self._rows: Counter[str] = Counter()
        self._has_just_sat_out = False

    def enter(self, seq: Sequence) -> None:
        """A sequence has come."""
        self._present[seq.tenant] += 1

    def leave(self, seq: Sequence) -> None:
        """It is over."""
        self._present[seq.tenant] -= 1
        if not self._present[seq.tenant]:
            del self._present[seq.tenant], self._rows[seq.tenant]

    def count_row(self, seq: Sequence, change: int) -> None:
        """A sequence has got a row (1) or given it back (-1)."""
        self._rows[seq.tenant] += change

    def first(
        self, waiting: ListLike[Sequence], held_back: frozenset[str] = frozenset()
    ) -> Sequence | None:
        """Return whom to start next: the first in order of the tenant with the fewest rows."""
        if len(self._present) <= 1:
            return waiting[0] if waiting else None
        firsts: dict[str, Sequence] = {}
        for seq in waiting:
            if seq.tenant not in held_back:
                firsts.setdefault(seq.tenant, seq)
        return min(
            firsts.values(), key=lambda seq: (self._rows[seq.tenant], seq.order[1]), default=None
        )

    def last(self, running: ListLike[Sequence]) -> Sequence:
        """Return who gives way when room is short: the last of the tenant with the most rows."""
        if len(self._present) <= 1:
            return running[-1]
        most = max(self._rows.values())
        return next(seq for seq in reversed(running) if self._rows[seq.tenant] == most)

    def outweighing(self, seq: Sequence, running: ListLike[Sequence]) -> Sequence | None:
        """Return who gives way so that `seq` can start; None if nobody has so much more."""
        if len(self._present) <= 1 or not running:
            return None
        last = self.last(running)
        return last if self._outweighs(last.tenant, seq.tenant) else None

    def throttle(self, sequences: Iterable[Sequence]) -> Throttle:
        """Return who makes way in this step for tenants that wait for a first token.

        sequences: all there are. The prefills of those with many rows wait; their decodes sit a
        step out, but never two on end: they slow down, they do not stop.
        """
        heavy = self._heavy(sequences) if len(self._present) > 1 else frozenset()
        self._has_just_sat_out = bool(heavy) and not self._has_just_sat_out
        return Throttle(heavy if self._has_just_sat_out else frozenset(), heavy)

    def _heavy(self, sequences: Iterable[Sequence]) -> frozenset[str]:
        """The tenants that outweigh one of those whose sequences have no token yet."""
        most = max(self._rows.values(), default=0)
        served_first = {
            seq.tenant
            for seq in sequences
            if seq.num_output_tokens == 0 and most > 2 * self._rows[seq.tenant] + 2
        }
        return frozenset(
            heavy
            for heavy in self._rows.keys() - served_first
            if any(self._outweighs(heavy, light) for light in served_first)
        )

    def _outweighs(self, heavy: str, light: str) -> bool:
        return self._rows[heavy] > 2 * self._rows[light] + 2
