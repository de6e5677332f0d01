"""Makes a program of calls that have run once, with whatever was given and allocated then.

Every address of a call must be known: it is of an input, of memory that was allocated in the step,
of a plan, or of a weight, the cache or states, where only those can stand. All rows must lie as far
apart as the memory is large, or several of them: so a program does in any number of rows what its
calls did.
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
    """What was allocated: bytes of a row of the step, or all it has if it has no rows, and the
    first and last call that knows it."""

    unit: int
    first: int
    last: int
    is_fixed: bool = False


@dataclass(slots=True)
class _Call:
    """A call that has run, the at-th of its step. times: how many rows it has for one of the step;
    0: it does not say."""

    name: str
    operation: Operation
    struct: ctypes.Structure
    at: int
    times: int = 0


@dataclass(slots=True)
class Recording:
    """One step's calls.

    rows: of the step. given: the inputs. plans: of each plan its calls, by operation.
    allocated: memory that the step took, none of which may have been given back meanwhile.
    """

    rows: int
    given: Sequence[Span]
    plans: Sequence[dict[str, ctypes.Structure]]
    allocated: Sequence[Span]
    _order: list[Span] = field(default_factory=list)
    _buffers: dict[int, _Buffer] = field(default_factory=dict)
    _words: list[int] = field(default_factory=list)
    # Where numbers of rows stand, and how many times those of the step.
    _rows_at: list[tuple[int, int]] = field(default_factory=list)
    # Of each address of what was allocated: its place, its buffer, where in a row.
    _scratch: list[tuple[int, int, int]] = field(default_factory=list)
    # Of each input where its address stands, and where in a row.
    _given_at: list[list[tuple[int, int]]] = field(default_factory=list)
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
        slots, slot_of = _share_slots(self._buffers)
        rows_at, rows_times = np.array(self._rows_at, np.int64).reshape(-1, 2).T
        places, buffers, offsets = np.array(self._scratch, np.int64).reshape(-1, 3).T
        return Code(
            np.array(self._words, np.int64),
            rows_at.astype(np.intp),
            rows_times,
            Scratch(
                np.array([slot.unit for slot in slots], np.int64),
                np.array([slot.fixed for slot in slots], np.int64),
            ),
            places.astype(np.intp),
            np.array([slot_of[buffer] for buffer in buffers.tolist()], np.intp),
            offsets,
            [np.array(at, np.int64).reshape(-1, 2).T for at in self._given_at],
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
        call = _Call(name, operation, operation.struct.from_buffer_copy(content), at)
        if operation.rows:
            call.times, left = divmod(getattr(call.struct, operation.rows), self.rows)
            if left or not call.times:
                rows = getattr(call.struct, operation.rows)
                raise NotRecordable(f"{name} has {rows} rows of {self.rows}")
        fields = np.frombuffer(content, np.int64).tolist()
        first = len(self._words)
        is_planned = any(getattr(call.struct, label) for label in operation.planned)
        planned: list[int] = []
        for place, (label, value) in enumerate(zip(operation.fields, fields, strict=True), first):
            if label in operation.planned and is_planned:
                planned.append(place)
                value = 0
            elif label == operation.rows:
                self._rows_at.append((place, call.times))
                value = 0
            elif operation.is_address(label) and value:
                value = self._address(call, label, place)
            self._words.append(value)
        if planned:
            self._planned_at[self._plan_of(call)].setdefault(name, []).append(planned)

    def _address(self, call: "_Call", label: str, place: int) -> int:
        """Return what stands in the place of an address: itself, if steps do not change it."""
        value: int = getattr(call.struct, label)
        buffer = self._allocated_at(value)
        given = [n for n, span in enumerate(self.given) if _holds(span, value)]
        if label in call.operation.kept:
            if buffer is not None or given:
                raise NotRecordable(f"{call.name}: {label} is computed in the step")
            return value
        if label in call.operation.fixed_bytes:
            size = call.operation.fixed_bytes[label](call.struct)
            if buffer is None or self._order[buffer] != Span(value, size):
                raise NotRecordable(f"{call.name}: {label} is not what was allocated")
            self._use(buffer, call.at, is_fixed=True)
            self._scratch.append((place, buffer, 0))
            return 0
        row_bytes = call.operation.row_bytes[label](call.struct)
        if buffer is not None:
            unit, offset = self._use(buffer, call.at).unit, value - self._order[buffer].start
            is_whole = row_bytes * call.times == unit if call.times else unit % row_bytes == 0
            if not is_whole or offset >= row_bytes:
                raise NotRecordable(f"{call.name}: rows of {label} lie {row_bytes} of {unit} apart")
            self._scratch.append((place, buffer, offset))
        elif given:
            span = self.given[given[0]]
            if value - span.start >= row_bytes or row_bytes * self.rows != span.size:
                raise NotRecordable(f"{call.name}: rows of {label} are not those of what is given")
            self._given_at[given[0]].append((place, value - span.start))
        else:
            raise NotRecordable(f"{call.name}: {label} is of no step")
        return 0

    def _plan_of(self, call: "_Call") -> int:
        """Return whose plan a call follows: its planned fields are that one's."""
        planned = call.operation.planned
        for number, plan in enumerate(self.plans):
            own = plan.get(call.name)
            if own and all(getattr(call.struct, f) == getattr(own, f) for f in planned):
                return number
        raise NotRecordable(f"{call.name} follows no plan")

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

    def _use(self, number: int, at: int, *, is_fixed: bool = False) -> _Buffer:
        """Note that a call knows a buffer."""
        if (buffer := self._buffers.get(number)) is None:
            unit, left = divmod(self._order[number].size, 1 if is_fixed else self.rows)
            if left:
                raise NotRecordable("memory has other rows than the step")
            buffer = self._buffers[number] = _Buffer(unit, at, at, is_fixed)
        if buffer.is_fixed != is_fixed:
            raise NotRecordable("memory has rows, and has none")
        buffer.last = at
        return buffer


def _holds(span: Span, address: int) -> bool:
    return span.start <= address < span.start + span.size


@dataclass(slots=True)
class _Slot:
    """Memory that buffers have one after the other: bytes a row, and bytes at least."""

    unit: int = 0
    fixed: int = 0
    busy_until: int = 0

    def growth(self, buffer: _Buffer) -> int:
        """Return how many bytes more a buffer needs, of a row or of all."""
        return max(0, buffer.unit - (self.fixed if buffer.is_fixed else self.unit))

    def take(self, buffer: _Buffer) -> None:
        """Be a buffer's, to its end."""
        if buffer.is_fixed:
            self.fixed = max(self.fixed, buffer.unit)
        else:
            self.unit = max(self.unit, buffer.unit)
        self.busy_until = buffer.last


def _share_slots(buffers: dict[int, _Buffer]) -> tuple[list[_Slot], dict[int, int]]:
    """Return the slots, and which one each buffer has. Two share one if the first is known to no
    call from the one on that the second comes with."""
    slots: list[_Slot] = []
    slot_of: dict[int, int] = {}
    for number, buffer in sorted(buffers.items(), key=lambda item: item[1].first):
        free = [at for at, slot in enumerate(slots) if slot.busy_until < buffer.first]
        # The one that needs to grow least, and of those that need not the smallest.
        at = min(
            free,
            key=lambda at: (slots[at].growth(buffer), slots[at].unit),
            default=len(slots),
        )
        if at == len(slots):
            slots.append(_Slot())
        slots[at].take(buffer)
        slot_of[number] = at
    return slots, slot_of
