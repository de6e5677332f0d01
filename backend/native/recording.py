"""Makes a program of calls that have run once, with whatever was given and allocated then.

Every address of a call must be known: it is of an input, of memory that was allocated in the step,
of a plan of attention, or of a weight or the cache, where only those can stand. All rows must lie
as far apart as the memory is large: so a program does in any number of rows what its calls did.
"""

import ctypes
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.native import kernels
from backend.native.program import OPERATIONS, Code, Operation, Scratch, Shown

# A call, its operation and its bytes; or the place where ranks sum what lies at an address.
Entry = tuple[str, bytes] | tuple[str, int]
SUM = "sum"


class NotRecordable(ValueError):
    """The calls are no program. The message says why."""


@dataclass(frozen=True, slots=True)
class Span:
    """Memory with the rows of a step: the address of its first byte, and how many it has."""

    start: int
    size: int


@dataclass(slots=True)
class _Buffer:
    """What was allocated: bytes of a row, and the first and last call that knows it."""

    unit: int
    first: int
    last: int


@dataclass(slots=True)
class Recording:
    """One step's calls.

    rows: of the step. given: the inputs. plans: of each plan of attention its calls, by operation.
    allocated: memory that the step took, none of which may have been given back meanwhile.
    """

    rows: int
    given: Sequence[Span]
    plans: Sequence[dict[str, ctypes.Structure]]
    allocated: Sequence[Span]
    _order: list[Span] = field(default_factory=list)
    _buffers: dict[int, _Buffer] = field(default_factory=dict)
    _words: list[int] = field(default_factory=list)
    _rows_at: list[int] = field(default_factory=list)
    # Of each address of what was allocated: its place, its buffer, where in a row.
    _scratch: list[tuple[int, int, int]] = field(default_factory=list)
    _given_at: list[list[int]] = field(default_factory=list)
    _planned_at: list[dict[str, list[list[int]]]] = field(default_factory=list)

    def code(self, entries: Sequence[Entry], result: Span) -> Code:
        """Return the program of these calls; result: what they leave, bf16, allocated memory.

        Raises NotRecordable.
        """
        numbers = {name: number for number, name in enumerate(kernels.operations())}
        self._given_at = [[] for _ in self.given]
        self._planned_at = [{} for _ in self.plans]
        self._order = sorted(self.allocated, key=lambda span: span.start)
        segments: list[int] = []
        sums: list[int] = []
        for at, (name, content) in enumerate(entries):
            if isinstance(content, int):
                segments.append(len(self._words))
                sums.append(self._shown(content, at))
                continue
            if name not in OPERATIONS or name not in numbers:
                raise NotRecordable(f"no program has calls of {name}")
            self._words.append(numbers[name])
            self._add(name, content, at)
        segments.append(len(self._words))
        last = self._shown(result.start, len(entries))
        units, slot_of = _share_slots(self._buffers)
        places, buffers, offsets = np.array(self._scratch, np.int64).reshape(-1, 3).T
        return Code(
            np.array(self._words, np.int64),
            np.array(self._rows_at, np.intp),
            Scratch(np.array(units, np.int64)),
            places.astype(np.intp),
            np.array([slot_of[buffer] for buffer in buffers.tolist()], np.intp),
            offsets,
            [np.array(at, np.intp) for at in self._given_at],
            [
                {name: np.array(at, np.intp) for name, at in plan.items()}
                for plan in self._planned_at
            ],
            segments,
            [Shown(slot_of[buffer], self._buffers[buffer].unit) for buffer in sums],
            Shown(slot_of[last], self._buffers[last].unit),
        )

    def _add(self, name: str, content: bytes, at: int) -> None:
        operation = OPERATIONS[name]
        call = operation.struct.from_buffer_copy(content)
        fields = np.frombuffer(content, np.int64).tolist()
        first = len(self._words)
        planned: list[int] = []
        for place, (label, value) in enumerate(zip(operation.fields, fields, strict=True), first):
            if label in operation.planned:
                planned.append(place)
                value = 0
            elif label == operation.rows:
                if value != self.rows:
                    raise NotRecordable(f"{name} has {value} rows of {self.rows}")
                self._rows_at.append(place)
                value = 0
            elif operation.is_address(label) and value:
                value = self._address(name, operation, call, label, place, at)
            self._words.append(value)
        if planned:
            plan = self._plan_of(name, operation, call)
            self._planned_at[plan].setdefault(name, []).append(planned)

    def _address(
        self,
        name: str,
        operation: Operation,
        call: ctypes.Structure,
        label: str,
        place: int,
        at: int,
    ) -> int:
        """Return what stands in the place of an address: itself, if steps do not change it."""
        value: int = getattr(call, label)
        buffer = self._allocated_at(value)
        given = [n for n, span in enumerate(self.given) if _holds(span, value)]
        if label in operation.kept:
            if buffer is not None or given:
                raise NotRecordable(f"{name}: {label} is computed in the step")
            return value
        row_bytes = operation.row_bytes[label](call)
        if buffer is not None:
            unit, offset = self._use(buffer, at).unit, value - self._order[buffer].start
            if row_bytes != unit or offset >= unit:
                raise NotRecordable(f"{name}: rows of {label} lie {row_bytes} of {unit} apart")
            self._scratch.append((place, buffer, offset))
        elif given:
            span = self.given[given[0]]
            if value != span.start or row_bytes * self.rows != span.size:
                raise NotRecordable(f"{name}: {label} is a part of what is given")
            self._given_at[given[0]].append(place)
        else:
            raise NotRecordable(f"{name}: {label} is of no step")
        return 0

    def _plan_of(self, name: str, operation: Operation, call: ctypes.Structure) -> int:
        """Return whose plan a call follows: its planned fields are that one's."""
        for number, plan in enumerate(self.plans):
            if all(getattr(call, f) == getattr(plan[name], f) for f in operation.planned):
                return number
        raise NotRecordable(f"{name} follows no plan")

    def _shown(self, address: int, at: int) -> int:
        """Return which buffer Python sees; all of it."""
        buffer = self._allocated_at(address)
        if buffer is None or self._order[buffer].start != address:
            raise NotRecordable("a result is a part of what was allocated, or of no step")
        self._use(buffer, at)
        return buffer

    def _allocated_at(self, address: int) -> int | None:
        place = bisect_right(self._order, address, key=lambda span: span.start) - 1
        return place if place >= 0 and _holds(self._order[place], address) else None

    def _use(self, number: int, at: int) -> _Buffer:
        """Note that a call knows a buffer."""
        if (buffer := self._buffers.get(number)) is None:
            unit, left = divmod(self._order[number].size, self.rows)
            if left:
                raise NotRecordable("memory has other rows than the step")
            buffer = self._buffers[number] = _Buffer(unit, at, at)
        buffer.last = at
        return buffer


def _holds(span: Span, address: int) -> bool:
    return span.start <= address < span.start + span.size


def _share_slots(buffers: dict[int, _Buffer]) -> tuple[list[int], dict[int, int]]:
    """Return the bytes a row of each slot, and the slot of each buffer. Two share one if the first
    is known to no call from the one on that the second comes with."""
    units: list[int] = []
    busy_until: list[int] = []
    slot_of: dict[int, int] = {}
    for number, buffer in sorted(buffers.items(), key=lambda item: item[1].first):
        free = [slot for slot, last in enumerate(busy_until) if last < buffer.first]
        # The one that needs to grow least, and of those that need not the smallest.
        slot = min(
            free,
            key=lambda slot: (max(0, buffer.unit - units[slot]), units[slot]),
            default=len(units),
        )
        if slot == len(units):
            units.append(0)
            busy_until.append(0)
        units[slot] = max(units[slot], buffer.unit)
        busy_until[slot] = buffer.last
        slot_of[number] = slot
    return units, slot_of
