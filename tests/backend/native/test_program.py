"""Calls that were recorded do again what they did, with any number of rows, and nothing else."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.native import absence, calls, kernels
from backend.native.program import OPERATIONS, Code, Program
from backend.native.recording import (
    SUM,
    Entry,
    NotRecordable,
    Recording,
    Span,
    _Buffer,
    _share_slots,
)

pytestmark = [
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

WIDTH = 48
Rows = NDArray[np.uint16]


@pytest.fixture
def entries() -> Iterator[list[Entry]]:
    yield kernels.start_recording()
    kernels.stop_recording()


def bf16(shape: tuple[int, ...], seed: int) -> Rows:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def span(array: NDArray[np.uint16]) -> Span:
    return Span(array.ctypes.data, array.nbytes)


WEIGHT = bf16((WIDTH,), 7)


def silu_mul(x: Rows, out: Rows) -> calls.GateMul:
    """x [rows, 2 WIDTH], of which the first half gates the second."""
    gate = x.ctypes.data
    up, stride = gate + 2 * WIDTH, 2 * WIDTH
    return calls.GateMul(gate, stride, up, stride, out.ctypes.data, len(x), WIDTH)


def run_calls(x: Rows, allocated: list[Rows]) -> None:
    """What x gates, normalised, added to that and normalised again. allocated: three of its size
    or half of it; rows at a time."""
    gated, sums, out = allocated
    rows = len(x)
    address = {array.ctypes.data: array for array in allocated}
    kernels.gate_mul(silu_mul(x, gated))
    norm = calls.AddRmsNorm(
        x=gated.ctypes.data,
        weight=WEIGHT.ctypes.data,
        out=out.ctypes.data,
        tokens=rows,
        width=WIDTH,
        eps=1e-5,
    )
    kernels.add_rms_norm(norm)
    norm.delta, norm.sum = out.ctypes.data, sums.ctypes.data
    norm.out = out.ctypes.data
    kernels.add_rms_norm(norm)
    assert len(address) == 3


def allocate(rows: int) -> list[Rows]:
    return [np.zeros((rows, WIDTH), np.uint16) for _ in range(3)]


def recorded(rows: int, entries: list[Entry]) -> tuple[Code, Rows]:
    x, allocated = bf16((rows, 2 * WIDTH), rows), allocate(rows)
    run_calls(x, allocated)
    spans = [span(array) for array in allocated]
    code = Recording(rows, [span(x)], [], spans).code(entries, spans[-1])
    return code, allocated[-1]


def test_program_has_the_bits_of_its_calls(entries: list[Entry]) -> None:
    code, _ = recorded(3, entries)
    program = Program(code)
    for rows in (1, 3, 2, 64, 5):
        x, allocated = bf16((rows, 2 * WIDTH), 50 + rows), allocate(rows)
        run_calls(x, allocated)
        program.lay_out(rows)
        program.fill([x.ctypes.data], [])
        program.run(0)
        assert program.memory_of(code.result).tobytes() == allocated[-1].tobytes()


def test_recordings_of_any_rows_are_the_same_program(entries: list[Entry]) -> None:
    first, _ = recorded(3, entries)
    entries.clear()
    second, _ = recorded(8, entries)
    assert first.is_same(second)
    entries.clear()
    x, allocated = bf16((4, 2 * WIDTH), 1), allocate(4)
    run_calls(x, allocated)
    spans = [span(array) for array in allocated]
    assert not first.is_same(Recording(4, [span(x)], [], spans).code(entries[:-1], spans[-1]))


ROUTED = {"num": 12, "top_k": 3, "count": 12, "num_groups": 1, "top_groups": 1, "weight_scale": 1}


def route_and_gather(x: Rows) -> tuple[list[NDArray[Any]], Rows]:
    """Send rows of x [rows, WIDTH] to three experts each. Returns what that took, and the rows as
    experts get them; each has several rows a row of x, and the ends of experts have none."""
    rows = len(x)
    shapes = [((rows, 3), np.float32), *[((3 * rows,), np.int32)] * 2, ((12,), np.int64)]
    allocated = [np.zeros(shape, dtype) for shape, dtype in shapes]
    weights, order, places, ends = (array.ctypes.data for array in allocated)
    gated, out = np.zeros((rows, 12), np.float32), np.zeros((3 * rows, WIDTH), np.uint16)
    logits = gated.ctypes.data
    # The bits of x as numbers of float32.
    kernels.gate_mul(calls.GateMul(x.ctypes.data, WIDTH, None, 0, logits, rows, 24, 6))
    call = calls.Route(logits=logits, logit_scale=1.0, tokens=rows, **ROUTED)
    call.weights, call.rows, call.places, call.ends = weights, order, places, ends
    kernels.route(call)
    kernels.gather_rows(calls.GatherRows(x.ctypes.data, order, ends, 12, 3, WIDTH, out.ctypes.data))
    return [*allocated, gated], out


def test_rows_of_experts_are_several_a_row(entries: list[Entry]) -> None:
    codes = []
    for rows in (1, 4):
        entries.clear()
        x = bf16((rows, WIDTH), rows)
        allocated, out = route_and_gather(x)
        spans = [Span(array.ctypes.data, array.nbytes) for array in (*allocated, out)]
        codes.append(Recording(rows, [span(x)], [], spans).code(entries, spans[-1]))
    assert codes[0].is_same(codes[1])
    program = Program(codes[0])
    for rows in (3, 64, 1):
        x = bf16((rows, WIDTH), 50 + rows)
        _, out = route_and_gather(x)
        program.lay_out(rows)
        program.fill([x.ctypes.data], [])
        program.run(0)
        assert program.memory_of(codes[0].result).tobytes() == out.tobytes()


def test_sums_of_ranks_part_a_program(entries: list[Entry]) -> None:
    rows = 4
    x, (first, other, last) = bf16((rows, 2 * WIDTH), 3), allocate(rows)
    kernels.gate_mul(silu_mul(x, first))
    entries.append((SUM, first.ctypes.data))
    norm = calls.AddRmsNorm(first.ctypes.data, None, WEIGHT.ctypes.data, None)
    norm.out, norm.tokens, norm.width, norm.eps = last.ctypes.data, rows, WIDTH, 1e-5
    kernels.add_rms_norm(norm)
    spans = [span(array) for array in (first, other, last)]
    code = Recording(rows, [span(x)], [], spans).code(entries, spans[-1])
    program = Program(code)
    program.lay_out(rows)
    program.fill([x.ctypes.data], [])
    assert len(code.segments) == 2
    program.run(0)
    (summed,) = code.sums
    shown = program.memory_of(summed)
    assert shown.tobytes() == first.tobytes()
    shown[:] = np.ascontiguousarray(bf16((rows, WIDTH), 9)).view(np.uint8)
    program.run(1)
    first[:] = bf16((rows, WIDTH), 9)
    kernels.add_rms_norm(norm)
    assert program.memory_of(code.result).tobytes() == last.tobytes()


def changed(entry: Entry, **fields: int) -> Entry:
    name, content = entry
    assert isinstance(content, bytes)
    call = OPERATIONS[name].struct.from_buffer_copy(content)
    for label, value in fields.items():
        setattr(call, label, value)
    return name, bytes(call)


def test_calls_that_are_no_program_are_refused(entries: list[Entry]) -> None:
    rows = 4
    x, allocated = bf16((rows, 2 * WIDTH), 1), allocate(rows)
    run_calls(x, allocated)
    spans = [span(array) for array in allocated]
    gate, norm = entries[:2]

    def refused(entry: Entry, reason: str) -> None:
        with pytest.raises(NotRecordable, match=reason):
            Recording(rows, [span(x)], [], spans).code([entry], spans[-1])

    refused(changed(gate, tokens=rows - 1), "3 rows of 4")
    refused(changed(gate, gate=x.ctypes.data + 4 * WIDTH), "not those of what is given")
    refused(changed(gate, gate_stride=WIDTH), "not those of what is given")
    refused(changed(gate, width=WIDTH // 2), "rows of")
    refused(changed(gate, out=WEIGHT.ctypes.data), "out is of no step")
    refused(changed(norm, weight=allocated[1].ctypes.data), "weight is computed")
    refused(changed(norm, x=allocated[0].ctypes.data + 2 * WIDTH), "rows of x")
    refused(("topk", b""), "no program has calls of topk")
    with pytest.raises(NotRecordable, match="other rows"):
        odd = [Span(s.start, s.size - 1) for s in spans]
        Recording(rows, [span(x)], [], odd).code([gate], odd[0])
    with pytest.raises(NotRecordable, match="a result"):
        Recording(rows, [span(x)], [], spans).code([gate], Span(x.ctypes.data, 1))


def test_words_that_are_no_program_run_nothing() -> None:
    """Every number of an operation, and every length, but those of whole calls."""
    rows = 2
    x, out = bf16((rows, 2 * WIDTH), 1), np.zeros((rows, WIDTH), np.uint16)
    number = kernels.operations().index("gate_mul")
    call = np.frombuffer(bytes(silu_mul(x, out)), np.int64)
    whole = np.concatenate([[number], call])
    rng = np.random.default_rng(0)
    for length in range(1, len(whole)):
        for tail in (whole[:length], rng.integers(-9, 9, length) * 1000 - 1):
            with pytest.raises(ValueError, match="no program"):
                kernels.replay(np.concatenate([whole, tail]))
    for number in (-1, len(kernels.operations()), 2**40):
        with pytest.raises(ValueError, match="no program"):
            kernels.replay(np.concatenate([whole, [number], call]))
    with pytest.raises(ValueError, match="no program"):
        kernels.replay(whole.tobytes()[:-1])
    assert not out.any()
    kernels.replay(whole)
    assert out.any()
    kernels.replay(b"")


def test_operations_are_those_that_c_has() -> None:
    assert set(kernels.operations()) == set(OPERATIONS)
    for operation in OPERATIONS.values():
        fields = set(operation.fields)
        named = {operation.rows} - {""} | {*operation.kept, *operation.planned}
        stepwise = operation.row_bytes.keys() | operation.fixed_bytes.keys()
        assert named | stepwise <= fields
        addresses = {label for label in fields if operation.is_address(label)}
        assert addresses == stepwise | {*operation.kept, *operation.planned} & addresses


def test_calls_are_recorded_by_one_at_a_time(entries: list[Entry]) -> None:
    with pytest.raises(RuntimeError, match="being recorded"):
        kernels.start_recording()
    assert entries == []


def test_calls_of_other_threads_are_not_recorded(entries: list[Entry]) -> None:
    """Ranks that are threads of one process, as in tests, record their own steps."""

    def other() -> None:
        own = kernels.start_recording()
        recorded(2, own)
        kernels.stop_recording()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert entries == []
    recorded(3, entries)
    assert len(entries) == 3


@pytest.mark.parametrize("seed", range(20))
def test_no_two_results_share_memory_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    buffers = {}
    for number in range(30):
        first = int(rng.integers(0, 40))
        size, last = int(rng.integers(1, 9)) * 32, first + int(rng.integers(9))
        buffers[number] = _Buffer(size, first, last, bool(rng.integers(2)))
    slots, slot_of = _share_slots(buffers)
    for n, buffer in buffers.items():
        slot = slots[slot_of[n]]
        assert (slot.fixed if buffer.is_fixed else slot.unit) >= buffer.unit
        for m, other in buffers.items():
            if n != m and slot_of[n] == slot_of[m]:
                assert buffer.last < other.first or other.last < buffer.first
    assert len(slots) < len(buffers)
