"""Faults on demand, for tests of what contains them. Does nothing unless a setting asks.

A fault is named by what it hits: `site:seed=S[:rank=R][:position=P]`, several separated by blanks.
It strikes requests whose own seed is S when they reach the site, at output position P if given, on
rank R if given. Sites: admission, grammar, rules, draw, nan (logits that are not numbers); and in
the forward pass: error, segfault, exit, hang, slow (some milliseconds more a step).
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from backend.wire.sampling import SamplingParams

ADMISSION, GRAMMAR, RULES, DRAW, NAN = "admission", "grammar", "rules", "draw", "nan"


class InjectedFault(Exception):
    """Raised on demand."""


def _raise() -> None:
    raise InjectedFault("a fault that a test asked for")


FORWARD: dict[str, Callable[[], None]] = {
    "error": _raise,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(3),
    "hang": lambda: time.sleep(3600),
    "slow": lambda: time.sleep(0.005),
}
SITES = {ADMISSION, GRAMMAR, RULES, DRAW, NAN, *FORWARD}


@dataclass(frozen=True, slots=True)
class _Fault:
    site: str
    seed: int
    rank: int | None = None
    position: int | None = None


class Faults:
    """The faults of one rank. False if there are none."""

    def __init__(self, description: str = "", rank: int = 0) -> None:
        """Raises ValueError for what cannot be read."""
        faults = [_parse(text) for text in description.split()]
        self._faults = [fault for fault in faults if fault.rank in (None, rank)]

    def __bool__(self) -> bool:
        return bool(self._faults)

    def hits(self, site: str, params: SamplingParams, position: int | None = None) -> bool:
        """Whether a fault waits for this request here."""
        return any(
            fault.site == site and fault.seed == params.seed and fault.position in (None, position)
            for fault in self._faults
        )

    def strike(self, site: str, params: SamplingParams, position: int | None = None) -> None:
        """Raise InjectedFault if a fault waits for this request here."""
        if self.hits(site, params, position):
            _raise()

    def strike_forward(self, params: Iterable[SamplingParams], positions: Sequence[int]) -> None:
        """Do to this process, once, what waits for any of the requests of a step."""
        rows = list(zip(params, positions, strict=True))
        for site, act in FORWARD.items():
            if any(self.hits(site, each, position) for each, position in rows):
                act()


def _parse(text: str) -> _Fault:
    site, *parts = text.split(":")
    if site not in SITES:
        raise ValueError(f"no fault is called {site!r}")
    try:
        return _Fault(site, **{name: int(value) for name, value in (p.split("=") for p in parts)})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text!r} is not site:seed=S[:rank=R][:position=P]") from error
