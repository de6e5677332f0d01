"""A program: calls of kernels that run one behind the other, without Python between them.

It is laid out for any number of rows: what differs from step to step is put in its places before it
runs. Knows addresses and numbers, no tensors; recording.py makes it from calls that have run.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.native import calls, kernels

Words = NDArray[np.int64]
Places = NDArray[np.intp]

# Rows of scratch begin at multiples of it, as PyTorch's tensors do.
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Operation:
    """How a kernel's call depends on a step.

    struct: of calls.py. rows: the field that says how many rows it has, "" for none. kept:
    addresses that are the same in every step: weights, the cache and states. planned: fields that a
    plan says, of attention or of states. row_bytes: of each other address how far its rows lie
    apart; fixed_bytes: of one whose memory has no rows, what it has. A call may have several rows a
    row of the step, such as a token's choices of experts.
    """

    struct: type[ctypes.Structure]
    rows: str
    kept: tuple[str, ...]
    row_bytes: dict[str, Callable[[Any], int]]
    planned: tuple[str, ...] = ()
    fixed_bytes: dict[str, Callable[[Any], int]] = field(default_factory=dict)

    @property
    def fields(self) -> list[str]:
        """The fields' names, in order."""
        return list(calls.CALLS[self.struct.__name__])

    @property
    def planned_places(self) -> Places:
        """Where the planned fields are in the struct."""
        fields = self.fields
        return np.array([fields.index(name) for name in self.planned], np.intp)

    def is_address(self, field: str) -> bool:
        """Whether a field is an address."""
        return calls.CALLS[self.struct.__name__][field].endswith("*")


def _width(call: Any) -> int:
    return 2 * int(call.width)


def _choices(call: Any) -> int:
    return 4 * int(call.top_k)


# What says which states a step reads and writes; see StateBatch.
_SEGMENTS = ("reads", "writes", "starts", "chains")
# What a plan of attention says.
_PLANNED = (
    "block_tables",
    "table_stride",
    "items",
    "num_items",
    "merges",
    "num_merges",
    "partials",
    "parallel",
)
OPERATIONS = {
    "gemm": Operation(
        calls.Gemm,
        "M",
        ("packed", "bias"),
        {
            "x": lambda call: 2 * call.x_stride,
            # EPILOGUE_FLOAT of gemm.h; the others write bf16
            "out": lambda call: (4 if call.epilogue == 1 else 2) * call.out_stride,
        },
    ),
    "add_rms_norm": Operation(
        calls.AddRmsNorm,
        "tokens",
        ("weight",),
        dict.fromkeys(("x", "delta", "sum", "out"), _width),
    ),
    "add_layer_norm": Operation(
        calls.AddLayerNorm,
        "tokens",
        ("weight", "bias"),
        dict.fromkeys(("x", "delta", "sum", "out"), _width),
    ),
    "rotate_store": Operation(
        calls.RotateStore,
        "tokens",
        ("cache",),
        {
            "qkv": lambda call: 2 * call.stride,
            "cos": lambda call: 2 * call.dim,
            "sin": lambda call: 2 * call.dim,
        },
        ("slot_mapping",),
    ),
    "head_norm": Operation(
        calls.HeadNorm,
        "tokens",
        ("weight",),
        {"heads": lambda call: 2 * call.stride, "out": lambda call: 2 * call.out_stride},
    ),
    "gate_mul": Operation(
        calls.GateMul,
        "tokens",
        (),
        {
            "gate": lambda call: 2 * call.gate_stride,
            "up": lambda call: 2 * call.up_stride,
            "out": _width,
        },
    ),
    "scaled_sum": Operation(
        calls.ScaledSum, "tokens", (), dict.fromkeys(("x", "y", "out"), _width)
    ),
    "route": Operation(
        calls.Route,
        "tokens",
        ("bias", "correction", "scales"),
        {
            "logits": lambda call: 4 * call.num,
            "weights": _choices,
            "rows": _choices,
            "places": _choices,
        },
        fixed_bytes={"ends": lambda call: 8 * call.count},
    ),
    "gather_rows": Operation(
        calls.GatherRows,
        "",
        (),
        {"x": _width, "rows": _choices, "out": lambda call: 2 * call.width * call.top_k},
        fixed_bytes={"ends": lambda call: 8 * call.count},
    ),
    "take_columns": Operation(
        calls.TakeColumns,
        "tokens",
        ("order",),
        {"x": _width, "out": lambda call: 2 * call.count},
        fixed_bytes={"ends": lambda call: 8 * call.groups},
    ),
    "grouped_gemm": Operation(
        calls.GroupedGemm,
        "",
        ("packed", "biases"),
        {
            "x": lambda call: 2 * call.K,
            "out": lambda call: (4 if call.epilogue == 1 else 2) * call.out_stride,
        },
        fixed_bytes={"ends": lambda call: 8 * call.groups},
    ),
    "sum_experts": Operation(
        calls.SumExperts,
        "tokens",
        ("gate",),
        {
            "results": lambda call: 2 * call.width * call.top_k,
            "weights": _choices,
            "places": _choices,
            "shared": _width,
            "x": lambda call: 2 * call.gate_width,
            "out": _width,
        },
    ),
    "attention": Operation(
        calls.Attention,
        "",
        ("cache", "sinks"),
        {
            "q": lambda call: 2 * call.q_stride,
            "out": lambda call: 2 * call.num_heads * call.dim,
        },
        _PLANNED,
    ),
    "head_gemm": Operation(
        calls.HeadGemm,
        "tokens",
        ("packed",),
        {"x": lambda call: 2 * call.x_stride, "out": lambda call: 2 * call.out_stride},
    ),
    "latent_store": Operation(
        calls.LatentStore,
        "tokens",
        ("weight", "cache"),
        {
            "rows": lambda call: 2 * call.stride,
            "cos": lambda call: 2 * (call.dim - call.value_dim),
            "sin": lambda call: 2 * (call.dim - call.value_dim),
            "turning": lambda call: 2 * call.turning_stride,
            "queries": lambda call: 2 * call.num_heads * call.dim,
        },
        ("slot_mapping",),
    ),
    "latent_attention": Operation(
        calls.LatentAttention,
        "",
        ("cache",),
        {
            "q": lambda call: 2 * call.num_heads * call.dim,
            "out": lambda call: 2 * call.num_heads * call.value_dim,
        },
        _PLANNED,
    ),
    "causal_conv": Operation(
        calls.CausalConv,
        "num_sequences",
        ("weight", "bias", "state"),
        {"x": lambda call: 2 * call.x_stride, "out": lambda call: 2 * call.channels},
        _SEGMENTS,
    ),
    "delta_rule": Operation(
        calls.DeltaRule,
        "num_sequences",
        ("rates", "biases", "key_heads", "state"),
        {
            "x": lambda call: 2 * call.x_stride,
            "a": lambda call: 2 * call.gate_stride,
            "b": lambda call: 2 * call.gate_stride,
            "out": lambda call: 2 * call.num_value_heads * call.value_dim,
        },
        _SEGMENTS,
    ),
    "ssm_scan": Operation(
        calls.SsmScan,
        "num_sequences",
        ("rates", "biases", "skips", "groups", "state"),
        {
            "x": lambda call: 2 * call.x_stride,
            "steps": lambda call: 2 * call.step_stride,
            "out": lambda call: 2 * call.num_heads * call.head_dim,
        },
        _SEGMENTS,
    ),
    "gated_norm": Operation(
        calls.GatedNorm,
        "tokens",
        ("weight",),
        {
            "x": lambda call: 2 * call.num_groups * call.dim,
            "gate": lambda call: 2 * call.gate_stride,
            "squares": lambda call: 4 * call.num_groups,
            "out": lambda call: 2 * call.num_groups * call.dim,
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory of a program that no two results need at a time, all in one piece.

    units: bytes a row of each slot; fixed: bytes that it has at least. Every slot begins where the
    one before ends, at a multiple of ALIGNMENT.
    """

    units: Words
    fixed: Words

    def starts(self, rows: int) -> Words:
        """Return where the slots begin, and the last one ends, with so many rows."""
        sizes = -(-np.maximum(self.units * rows, self.fixed) // ALIGNMENT) * ALIGNMENT
        return np.concatenate([np.zeros(1, np.int64), sizes.cumsum()])


@dataclass(frozen=True, slots=True)
class Shown:
    """A result that Python sees, at the beginning of a slot of the scratch memory, and how many
    bytes a row of it has."""

    slot: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Code:
    """What was recorded, with 0 in all places that steps fill.

    words: of all calls. rows_at: where a number of rows stands, rows_times: how many times those of
    the step. scratch_at: where addresses of scratch memory stand, scratch_slots, scratch_offsets:
    which slot, and where in its rows. given_at: of each input where its address stands, and where
    in a row that is, [2, places]. planned_at: of each plan where the fields of each kind of call
    stand, [calls, fields]. segments: the first word behind each part that runs in one go. sums:
    what all ranks sum behind each part but the last. result: of the last.
    """

    words: Words
    rows_at: Places
    rows_times: Words
    scratch: Scratch
    scratch_at: Places
    scratch_slots: Places
    scratch_offsets: Words
    given_at: list[Words]
    planned_at: list[dict[str, Places]]
    segments: list[int]
    sums: list[Shown]
    result: Shown

    def is_same(self, other: "Code") -> bool:
        """Whether another recording is the same program."""
        mine, others = self._parts(), other._parts()
        return len(mine) == len(others) and all(map(np.array_equal, mine, others))

    def _parts(self) -> list[Any]:
        shown = [(s.slot, s.row_bytes) for s in (*self.sums, self.result)]
        planned = [
            part
            for plan in self.planned_at
            for name in sorted(plan)
            for part in (np.frombuffer(name.encode(), np.uint8), plan[name])
        ]
        return [
            self.words,
            self.rows_at,
            self.rows_times,
            self.scratch.units,
            self.scratch.fixed,
            self.scratch_at,
            self.scratch_slots,
            self.scratch_offsets,
            self.segments,
            shown,
            *self.given_at,
            *planned,
        ]


class Program:
    """Runs what was recorded, over scratch memory of its own."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self._words = code.words.copy()
        self._parts = [
            self._words[start:end]
            for start, end in zip([0, *code.segments[:-1]], code.segments, strict=True)
        ]
        self._rows = 0
        self._starts = code.scratch.starts(0)
        self._memory = np.empty(0, np.uint8)
        self._base = 0  # of the memory, the first multiple of ALIGNMENT

    def lay_out(self, rows: int) -> bool:
        """Make ready for so many rows. Returns whether results lie elsewhere than before."""
        if rows == self._rows:
            return False
        code = self.code
        self._rows, self._starts = rows, code.scratch.starts(rows)
        if len(self._memory) < self._starts[-1] + ALIGNMENT:
            self._memory = np.empty(int(self._starts[-1]) + ALIGNMENT, np.uint8)
            self._base = -self._memory.ctypes.data % ALIGNMENT
        starts = self._memory.ctypes.data + self._base + self._starts
        self._words[code.rows_at] = rows * code.rows_times
        self._words[code.scratch_at] = starts[code.scratch_slots] + code.scratch_offsets
        return True

    def memory_of(self, shown: Shown) -> NDArray[np.uint8]:
        """Return a result's bytes, [rows, bytes of a row], until another number of rows runs."""
        start = self._base + int(self._starts[shown.slot])
        size = shown.row_bytes * self._rows
        return self._memory[start : start + size].reshape(self._rows, shown.row_bytes)

    def fill(self, given: Sequence[int], plans: Sequence[dict[str, ctypes.Structure]]) -> None:
        """Put a step's addresses in their places.

        given: of the inputs. plans: of each plan its calls, by operation. What they point to must
        live until the step has run.
        """
        words = self._words
        for (places, offsets), address in zip(self.code.given_at, given, strict=True):
            words[places] = address + offsets
        for parts, plan in zip(self.code.planned_at, plans, strict=True):
            for name, places in parts.items():
                fields = np.frombuffer(memoryview(plan[name]), np.int64)
                words[places] = fields[_PLANNED_PLACES[name]]

    def run(self, part: int) -> None:
        """Run a part: up to the next sum of all ranks, or to the end."""
        kernels.replay(self._parts[part])


_PLANNED_PLACES = {
    name: operation.planned_places for name, operation in OPERATIONS.items() if operation.planned
}
