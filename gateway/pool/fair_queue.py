"""What waits for a group, in the order of fairness between tenants.

A virtual token counter for each tenant (Sheng et al., OSDI 2024): what it was given, in tokens over
its weight. Next is the tenant with the lowest counter, and of its sequences the first by priority
and arrival. Knows counts of tokens, no groups and no time. Belongs to ReplicaPool.
"""

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.tenant import Tenant

T = TypeVar("T")

# The paper's: an output token costs a place in a step of its own.
INPUT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0


@dataclass(slots=True, eq=False)
class _Place(Generic[T]):
    """One item that waits. order: priority, then arrival; both differ from any other's."""

    item: T
    line: "_Line[T]"
    order: tuple[int, int]
    num_tokens: int


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    """One tenant: what it was given so far, and what of it waits, in order."""

    tenant: str
    counter: float = 0.0
    weight: float = 1.0
    places: list[_Place[T]] = field(default_factory=list)
    num_tokens: int = 0


class FairQueue(Generic[T]):
    """Items by key. Keeps a number for every tenant it has ever seen.

    served: what tenants were given here, in tokens as their counters have them, weights apart;
    whoever tells others of it clears it.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line[T]] = {}
        self._places: dict[int, _Place[T]] = {}
        self._arrivals = itertools.count()
        self._level = 0.0  # counter of the tenant that was served last
        self.num_tokens = 0
        self.served: defaultdict[str, float] = defaultdict(float)

    def __len__(self) -> int:
        return len(self._places)

    def push(self, key: int, item: T, tenant: Tenant, *, priority: int, num_tokens: int) -> None:
        """Let an item wait. A tenant that had nothing waiting starts level with those that have:
        it has saved up nothing."""
        line = self._lines.setdefault(tenant.id, _Line(tenant.id))
        line.weight = tenant.weight
        if not line.places:
            waiting = [other.counter for other in self._lines.values() if other.places]
            line.counter = max(line.counter, min(waiting, default=self._level))
        place = _Place(item, line, (priority, next(self._arrivals)), num_tokens)
        bisect.insort(line.places, place, key=_by_order)
        line.num_tokens += num_tokens
        self.num_tokens += num_tokens
        self._places[key] = place

    def head(self, among: Callable[[str], bool] = lambda tenant: True) -> T | None:
        """Return what is next, of certain tenants only; it stays until it is taken or dropped."""
        waiting = [line for line in self._lines.values() if line.places and among(line.tenant)]
        if not waiting:
            return None
        return min(waiting, key=lambda line: line.counter).places[0].item

    def take(self, key: int) -> bool:
        """An item has been given to a group: charge its tenant. False if it does not wait here."""
        place = self._remove(key)
        if place is None:
            return False
        self._level = place.line.counter
        self._serve(place.line, INPUT_WEIGHT * place.num_tokens)
        return True

    def drop(self, key: int) -> bool:
        """Forget an item; False if it does not wait here."""
        return self._remove(key) is not None

    def charge(self, tenant: str, num_output_tokens: int, num_cached_tokens: int = 0) -> None:
        """Note what a tenant's running sequences were given, and what of their input was free."""
        if (line := self._lines.get(tenant)) is not None:
            tokens = OUTPUT_WEIGHT * num_output_tokens - INPUT_WEIGHT * num_cached_tokens
            self._serve(line, tokens)

    def _serve(self, line: _Line[T], tokens: float) -> None:
        line.counter += tokens / line.weight
        self.served[line.tenant] += tokens

    def charge_elsewhere(self, served: Mapping[str, float]) -> None:
        """Note what tenants were given by other workers. One that is not known here starts level
        with the others when it comes."""
        for tenant, tokens in served.items():
            if (line := self._lines.get(tenant)) is not None:
                line.counter += tokens / line.weight

    def items(self) -> list[T]:
        """Return all that waits, in no order."""
        return [place.item for place in self._places.values()]

    def of(self, tenant: Tenant) -> tuple[int, int, float]:
        """Return how many items and tokens of a tenant wait, and its share of what is served.

        The share counts the tenant among those waiting, whether it does or not.
        """
        line = self._lines.get(tenant.id)
        others = (o.weight for o in self._lines.values() if o.places and o is not line)
        share = tenant.weight / (tenant.weight + sum(others))
        return (len(line.places), line.num_tokens, share) if line is not None else (0, 0, share)

    def _remove(self, key: int) -> _Place[T] | None:
        place = self._places.pop(key, None)
        if place is None:
            return None
        places = place.line.places
        del places[bisect.bisect_left(places, place.order, key=_by_order)]
        place.line.num_tokens -= place.num_tokens
        self.num_tokens -= place.num_tokens
        return place


def _by_order(place: _Place[T]) -> tuple[int, int]:
    return place.order
