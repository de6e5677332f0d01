"""The gated delta rule: against transformers', against the oracle, and the same bits in chunks."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from backend.native import kernels, levels
from backend.ops.cpu import CpuOps
from backend.ops.delta_rule import DeltaHeads, delta_chunks, delta_inputs, delta_tokens
from backend.ops.exact import ExactOps
from backend.ops.gated_norm import GatedNorm
from backend.ops.native import NativeOps
from backend.ops.op_table import Ops
from backend.ops.reference import ReferenceOps
from tests.backend.ops.state_batches import Segment, state_batch

pytestmark = pytest.mark.numerics

SLOTS = 7
# Two value heads a key head, and a rank's share that begins inside a key head.
KEY_HEADS, VALUE_HEADS, KEY_DIM, VALUE_DIM = 2, 3, 16, 48


def heads_of(key_dim: int = KEY_DIM, value_dim: int = VALUE_DIM) -> DeltaHeads:
    """Rates as a model has them: from hardly any decay to some e^-16 a token."""
    return DeltaHeads(
        KEY_HEADS,
        key_dim,
        value_dim,
        torch.tensor([0, 1, 1], dtype=torch.int32),
        -torch.tensor([0.01, 1.0, 16.0]),
        torch.tensor([1.0, -4.0, 0.3]),
        1e-6,
    )


class Inputs:
    """Numbers that bfloat16 holds; tokens of a and b lie apart, as parts of one product do."""

    def __init__(self, num_tokens: int, heads: DeltaHeads, dtype: torch.dtype) -> None:
        width = 2 * KEY_HEADS * heads.key_dim + VALUE_HEADS * heads.value_dim
        generator = torch.Generator().manual_seed(num_tokens)
        gates = 2 * torch.randn(num_tokens, 2 * VALUE_HEADS + 5, generator=generator)
        gates[0] = 30.0
        gates[-1] = -30.0
        gates = gates.bfloat16().to(dtype)
        x = torch.randn(num_tokens, width + 5, generator=generator).bfloat16().to(dtype)
        self.x = x[:, :width]
        self.a, self.b = gates[:, :VALUE_HEADS], gates[:, VALUE_HEADS : 2 * VALUE_HEADS]

    def part(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.x[start:end], self.a[start:end], self.b[start:end]


def slots(heads: DeltaHeads) -> Tensor:
    shape = (SLOTS, VALUE_HEADS, heads.key_dim, heads.value_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def in_panels(state: Tensor) -> Tensor:
    """The same states as native/delta_rule.h says that they lie."""
    *shape, columns = state.shape
    return state.reshape(*shape, columns // 16, 16).transpose(2, 3).reshape(state.shape)


def in_columns(state: Tensor) -> Tensor:
    """The states that lie so."""
    *shape, rows, columns = state.shape
    return state.reshape(*shape, columns // 16, rows, 16).transpose(2, 3).reshape(state.shape)


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
        self, inputs: tuple[Tensor, Tensor, Tensor], state: Tensor, *sequences: list[Segment]
    ) -> Tensor:
        heads = heads_of(state.shape[2], state.shape[3])
        lying = in_panels(state) if self.is_native else state
        out = self.ops.delta_rule(*inputs, heads, lying, state_batch(*sequences))
        if self.is_native:
            state.copy_(in_columns(lying))
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


@pytest.mark.parametrize(("key_dim", "value_dim"), [(16, 48), (32, 16), (48, 80)])
def test_rule_is_the_oracles(table: Table, key_dim: int, value_dim: int) -> None:
    """Sequences that begin, go on, fill more than a chunk, and are of several segments."""
    heads = heads_of(key_dim, value_dim)
    inputs = Inputs(80, heads, table.dtype).part(0, 80)
    expected_state, state = slots(heads), slots(heads)
    states = state_batch(*SEQUENCES)
    x, a, b = (each.float() for each in inputs)
    expected = ReferenceOps().delta_rule(x, a, b, heads, expected_state, states)
    found = table.run(inputs, state, *SEQUENCES)
    assert found.dtype == table.dtype
    tolerance = table.tolerance
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(state, expected_state, rtol=2e-5, atol=2e-5)


def test_rule_of_one_token_each_is_the_oracles(table: Table) -> None:
    heads = heads_of()
    inputs = Inputs(3, heads, table.dtype).part(0, 3)
    expected_state, state = slots(heads), slots(heads)
    sequences: list[list[Segment]] = [[(1, 2, 2)], [(1, -1, 0)], [(1, 3, 4)]]
    x, a, b = (each.float() for each in inputs)
    expected = ReferenceOps().delta_rule(x, a, b, heads, expected_state, state_batch(*sequences))
    found = table.run(inputs, state, *sequences)
    tolerance = table.tolerance
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(state, expected_state, rtol=2e-5, atol=2e-5)


def test_rule_in_any_chunks_gives_the_same_bits(table: Table) -> None:
    if isinstance(table.ops, CpuOps):
        pytest.skip("PyTorch's products of matrices round by their shapes")
    heads = heads_of()
    inputs = Inputs(140, heads, table.dtype)
    whole_state = slots(heads)
    whole = table.run(inputs.part(0, 140), whole_state, [(140, -1, 3)])
    for sizes in ([1] * 140, [2, 138], [63, 1, 1, 64, 11], [65, 75]):
        state, parts, start = slots(heads), [], 0
        for size in sizes:
            part = inputs.part(start, start + size)
            parts.append(table.run(part, state, [(size, 3 if start else -1, 3)]))
            start += size
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(state, whole_state)


def test_rule_is_batch_invariant(table: Table) -> None:
    if isinstance(table.ops, CpuOps):
        pytest.skip("PyTorch's products of matrices round by their shapes")
    heads = heads_of()
    inputs = Inputs(80, heads, table.dtype)
    state = slots(heads)
    crowd = table.run(inputs.part(0, 80), state, *SEQUENCES)
    alone_state = slots(heads)
    alone = table.run(inputs.part(2, 72), alone_state, SEQUENCES[2])
    assert torch.equal(crowd[2:72], alone)
    assert torch.equal(state[1], alone_state[1])


def test_rule_keeps_the_states_between_segments(table: Table) -> None:
    heads = heads_of()
    inputs = Inputs(100, heads, table.dtype)
    cut, whole = slots(heads), slots(heads)
    found = table.run(inputs.part(0, 100), cut, [(80, -1, 1), (1, 1, 2), (19, 2, 0)])
    expected = table.run(inputs.part(0, 100), whole, [(100, -1, 0)])
    tolerance = table.tolerance
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    front = slots(heads)
    table.run(inputs.part(0, 80), front, [(80, -1, 1)])
    torch.testing.assert_close(cut[1], front[1], rtol=2e-5, atol=2e-5)
    assert torch.equal(cut[3:], slots(heads)[3:])


def test_rule_begins_with_zeros_whatever_a_slot_holds(table: Table) -> None:
    heads = heads_of()
    state = torch.full_like(slots(heads), torch.nan)
    found = table.run(Inputs(5, heads, table.dtype).part(0, 5), state, [(5, -1, 2)])
    assert found.isfinite().all()
    assert state[2].isfinite().all()
    assert state[[0, 1, 3, 4, 5, 6]].isnan().all()


@pytest.mark.parametrize("num_tokens", [1, 63, 64, 65, 200])
def test_both_forms_are_those_of_transformers(num_tokens: int) -> None:
    from transformers.models.qwen3_next.modeling_qwen3_next import (
        torch_chunk_gated_delta_rule,
        torch_recurrent_gated_delta_rule,
    )

    heads = heads_of()
    x, a, b = Inputs(num_tokens, heads, torch.float32).part(0, num_tokens)
    first = slots(heads)[0]
    width = KEY_HEADS * KEY_DIM
    q, k, v = torch.split(x, [width, width, VALUE_HEADS * VALUE_DIM], 1)
    # transformers has as many value heads for each key head: the rank's are repeated by hand.
    q, k = (each.view(num_tokens, KEY_HEADS, -1)[:, heads.key_heads.long()] for each in (q, k))
    g = heads.rates * torch.nn.functional.softplus(a + heads.biases)
    arguments = [q, k, v.reshape(num_tokens, VALUE_HEADS, -1), g, b.sigmoid()]
    inputs = delta_inputs(x, a, b, heads)
    for theirs, ours in (
        (torch_chunk_gated_delta_rule, delta_chunks),
        (torch_recurrent_gated_delta_rule, delta_tokens),
    ):
        expected, expected_state = theirs(
            *(each[None] for each in arguments),
            initial_state=first[None].clone(),
            output_final_state=True,
            use_qk_l2norm_in_kernel=True,
        )
        found, state = ours(inputs, first)
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state, expected_state[0], rtol=1e-4, atol=1e-5)


def test_gated_norm_is_that_of_transformers(table: Table) -> None:
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated

    generator = torch.Generator().manual_seed(0)
    x, gate = torch.randn(2, 5, 3, 48, generator=generator).bfloat16().to(table.dtype)
    norm = Qwen3NextRMSNormGated(48, eps=1e-6)
    norm.weight.data = 1 + 0.3 * torch.randn(48, generator=generator)
    with torch.inference_mode():
        expected = norm(x.float(), gate.float()).flatten(1)
    apart = torch.cat((gate.flatten(1), gate.flatten(1)), 1)[:, : 3 * 48]
    found = table.ops.gated_norm(x, apart, GatedNorm(norm.weight.data, 1e-6))
    torch.testing.assert_close(found.float(), expected, rtol=table.tolerance, atol=table.tolerance)
