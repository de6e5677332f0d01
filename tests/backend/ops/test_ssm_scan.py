"""Mamba-2's state space: against transformers', against the oracle, the same bits in chunks."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from backend.native import kernels, levels
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps
from backend.ops.native import NativeOps
from backend.ops.op_table import Ops
from backend.ops.reference import ReferenceOps
from backend.ops.ssm_scan import SsmHeads, ssm_chunks, ssm_inputs, ssm_tokens
from tests.backend.ops.state_batches import Segment, state_batch

pytestmark = pytest.mark.numerics

SLOTS = 7
# A rank's share that begins inside a group.
GROUPS, HEADS, HEAD_DIM, STATE_DIM = 2, 3, 48, 16


def heads_of(head_dim: int = HEAD_DIM, state_dim: int = STATE_DIM) -> SsmHeads:
    """Rates as a model has them: from hardly any decay to some e^-16 a token."""
    return SsmHeads(
        GROUPS,
        head_dim,
        state_dim,
        torch.tensor([0, 1, 1], dtype=torch.int32),
        -torch.tensor([0.01, 1.0, 16.0]),
        torch.tensor([1.0, -4.0, 0.3]),
        torch.tensor([1.0, 0.5, -2.0]),
        0.01,
        3.0,
        0.75,
    )


class Inputs:
    """Numbers that bfloat16 holds; tokens lie apart, as parts of one product do."""

    def __init__(self, num_tokens: int, heads: SsmHeads, dtype: torch.dtype) -> None:
        width = HEADS * heads.head_dim + 2 * GROUPS * heads.state_dim
        generator = torch.Generator().manual_seed(num_tokens)
        steps = 2 * torch.randn(num_tokens, HEADS + 5, generator=generator)
        steps[0] = 30.0
        steps[-1] = -30.0
        self.steps = steps.bfloat16().to(dtype)[:, :HEADS]
        x = torch.randn(num_tokens, width + 5, generator=generator).bfloat16().to(dtype)
        self.x = x[:, :width]

    def part(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        return self.x[start:end], self.steps[start:end]


def slots(heads: SsmHeads) -> Tensor:
    shape = (SLOTS, HEADS, heads.head_dim, heads.state_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def in_panels(state: Tensor) -> Tensor:
    """The same states as native/ssm_scan.h says that they lie."""
    *shape, rows, columns = state.shape
    return state.reshape(*shape, rows // 16, 16, columns).transpose(-1, -2).reshape(state.shape)


def in_rows(state: Tensor) -> Tensor:
    """The states that lie so."""
    *shape, rows, columns = state.shape
    return state.reshape(*shape, rows // 16, columns, 16).transpose(-1, -2).reshape(state.shape)


class Table:
    """Ops, the dtype they take, and how they lay out a state."""

    def __init__(self, name: str) -> None:
        self.is_native = name not in ("cpu", "exact")
        if self.is_native:
            kernels.use(name)
        tables: dict[str, type[Ops]] = {"cpu": CpuOps, "exact": ExactOps}
        self.ops = tables.get(name, NativeOps)()
        self.dtype = torch.bfloat16 if self.is_native else torch.float32
        self.tolerance = 2**-7 if self.is_native else 2e-5

    def run(
        self, inputs: tuple[Tensor, Tensor], state: Tensor, *sequences: list[Segment]
    ) -> Tensor:
        heads = heads_of(state.shape[2], state.shape[3])
        lying = in_panels(state) if self.is_native else state
        out = self.ops.ssm_scan(*inputs, heads, lying, state_batch(*sequences))
        if self.is_native:
            state.copy_(in_rows(lying))
        return out


@pytest.fixture(params=["cpu", "exact", *levels()])
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    yield Table(request.param)
    if kernels is not None:
        kernels.use(levels()[0])


SEQUENCES: list[list[Segment]] = [
    [(1, 2, 2)],
    [(1, 3, 0)],
    [(70, -1, 1)],
    [(2, 5, 3), (1, 3, 4), (5, 4, 5)],
]
ONE_EACH: list[list[Segment]] = [[(1, 2, 2)], [(1, -1, 0)], [(1, 3, 4)]]


@pytest.mark.parametrize(("head_dim", "state_dim"), [(48, 16), (16, 32), (80, 48)])
@pytest.mark.parametrize("sequences", [SEQUENCES, ONE_EACH])
def test_scan_is_the_oracles(
    table: Table, head_dim: int, state_dim: int, sequences: list[list[Segment]]
) -> None:
    """Sequences that begin, go on, fill more than a chunk, are of several segments, or decode."""
    heads = heads_of(head_dim, state_dim)
    num_tokens = sum(count for segments in sequences for count, _, _ in segments)
    inputs = Inputs(num_tokens, heads, table.dtype).part(0, num_tokens)
    expected_state, state = slots(heads), slots(heads)
    x, steps = (each.float() for each in inputs)
    batch = state_batch(*sequences)
    expected = ReferenceOps().ssm_scan(x, steps, heads, expected_state, batch)
    found = table.run(inputs, state, *sequences)
    assert found.dtype == table.dtype
    # Sums of 48 products of up to 60.
    atol = max(2 * table.tolerance, 3e-4)
    torch.testing.assert_close(found.float(), expected, rtol=table.tolerance, atol=atol)
    torch.testing.assert_close(state, expected_state, rtol=2e-5, atol=2e-5)


def test_scan_in_any_chunks_gives_the_same_bits(table: Table) -> None:
    if isinstance(table.ops, CpuOps):
        pytest.skip("PyTorch's products of matrices round by their shapes")
    heads = heads_of()
    inputs = Inputs(80, heads, table.dtype)
    whole_state = slots(heads)
    whole = table.run(inputs.part(0, 80), whole_state, [(80, -1, 3)])
    for sizes in ([1] * 80, [2, 78], [15, 1, 1, 52, 11], [17, 63]):
        state, parts, start = slots(heads), [], 0
        for size in sizes:
            part = inputs.part(start, start + size)
            parts.append(table.run(part, state, [(size, 3 if start else -1, 3)]))
            start += size
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(state, whole_state)


def test_scan_is_batch_invariant(table: Table) -> None:
    if isinstance(table.ops, CpuOps):
        pytest.skip("PyTorch's products of matrices round by their shapes")
    heads = heads_of()
    inputs = Inputs(80, heads, table.dtype)
    state, alone_state = slots(heads), slots(heads)
    crowd = table.run(inputs.part(0, 80), state, *SEQUENCES)
    alone = table.run(inputs.part(2, 72), alone_state, SEQUENCES[2])
    assert torch.equal(crowd[2:72], alone)
    assert torch.equal(state[1], alone_state[1])


def test_scan_begins_with_zeros_whatever_a_slot_holds(table: Table) -> None:
    heads = heads_of()
    state = torch.full_like(slots(heads), torch.nan)
    found = table.run(Inputs(5, heads, table.dtype).part(0, 5), state, [(5, -1, 2)])
    assert found.isfinite().all()
    assert state[2].isfinite().all()
    assert state[[0, 1, 3, 4, 5, 6]].isnan().all()


@pytest.mark.parametrize("num_tokens", [1, 63, 64, 65, 200])
def test_both_forms_are_those_of_transformers(num_tokens: int) -> None:
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    heads = heads_of()
    x, steps = Inputs(num_tokens, heads, torch.float32).part(0, num_tokens)
    first = slots(heads)[0]
    inputs = ssm_inputs(x, steps, heads)
    # transformers has as many heads in each group: each of the rank's is a group by itself.
    expected, expected_state = mamba2_chunk_scan(
        inputs.x[None],
        (steps * heads.step_scale)[None],
        heads.rates,
        inputs.keys[None],
        inputs.queries[None],
        chunk_size=32,
        D=heads.skips,
        dt_bias=heads.biases,
        initial_states=first[None].clone(),
        dt_softplus=True,
        dt_limit=(heads.steps_from, heads.steps_to),
        return_final_states=True,
    )
    for form in (ssm_chunks, ssm_tokens):
        found, state = form(inputs, first)
        found = found + inputs.x * heads.skips[:, None]
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=3e-4)
        torch.testing.assert_close(state, expected_state[0], rtol=1e-4, atol=3e-5)
