"""What a worker and the supervisor know, as it is kept, published on pages, and added up.

Plain numbers: counting costs a dictionary look-up. Must not know how figures are shown.
"""

from bisect import bisect_left
from dataclasses import dataclass

import msgspec

from backend.wire.messages import Totals
from gateway.telemetry.families import Family

Labels = tuple[str, ...]


class Count(msgspec.Struct, array_like=True):
    """A counter's value."""

    stem: str
    labels: Labels
    value: float = 0.0


class Histogram(msgspec.Struct, array_like=True):
    """Observations by bucket: one more bucket than the family has bounds."""

    stem: str
    labels: Labels
    buckets: list[int]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """A group as the worker that is asked sees it. totals: None before its first frame."""

    replica: int
    is_ready: bool
    num_running: int
    num_waiting: int
    kv_usage: float
    totals: Totals | None


class WorkerFigures(msgspec.Struct, array_like=True):
    """What one worker has counted, how many sequences wait in it now, and how long they will."""

    counts: list[Count] = []
    histograms: list[Histogram] = []
    num_queued: int = 0
    queue_seconds: float = 0.0


class Process(msgspec.Struct, frozen=True, array_like=True):
    """A process of this server. group and rank are empty where it is not a rank.

    usage: CPU seconds and resident bytes of one on another machine, as its node has last told.
    """

    title: str
    pid: int
    group: str = ""
    rank: str = ""
    usage: tuple[float, float] | None = None


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Connections that came to nothing. group: "" for calls of agents; reason: handshake.Reason."""

    group: str
    reason: str
    count: int


class SupervisorFigures(msgspec.Struct, frozen=True, array_like=True):
    """What only the supervisor knows. Restarts: how often each was started after the first time.

    group_states: what `unisono ctl list` calls them. group_nodes: of groups on other machines.
    refused: by the groups' present incarnations.
    """

    started: float = 0.0
    processes: list[Process] = []
    group_restarts: dict[int, int] = {}
    worker_restarts: dict[int, int] = {}
    group_states: dict[int, str] = {}
    group_nodes: dict[int, str] = {}
    refused: list[Refused] = []


class Ledger:
    """Counters and histograms by family and labels. Grows only by the labels it is given."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Labels], Count] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}

    def add(self, family: Family, amount: float = 1, labels: Labels = ()) -> None:
        """Count."""
        key = (family.stem, labels)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Count(*key)
        count.value += amount

    def observe(self, family: Family, value: float, labels: Labels = (), times: int = 1) -> None:
        """Note a value, as often as it occurred."""
        key = (family.stem, labels)
        histogram = self._histograms.get(key)
        if histogram is None:
            buckets = [0] * (len(family.bounds) + 1)
            histogram = self._histograms[key] = Histogram(*key, buckets)
        histogram.buckets[bisect_left(family.bounds, value)] += times
        histogram.total += value * times

    def include(self, figures: WorkerFigures) -> None:
        """Add another's figures, or one's own of an earlier life, to these."""
        for count in figures.counts:
            key = (count.stem, count.labels)
            mine = self._counts.setdefault(key, Count(*key))
            mine.value += count.value
        for theirs in figures.histograms:
            key = (theirs.stem, theirs.labels)
            empty = Histogram(*key, [0] * len(theirs.buckets))
            histogram = self._histograms.setdefault(key, empty)
            histogram.total += theirs.total
            for i, number in enumerate(theirs.buckets):
                histogram.buckets[i] += number

    @property
    def counts(self) -> list[Count]:
        return list(self._counts.values())

    @property
    def histograms(self) -> list[Histogram]:
        return list(self._histograms.values())
