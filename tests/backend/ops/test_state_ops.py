"""Ops of layers that keep states: against the oracle, and the same bits in any chunks."""

import pytest
import torch
from torch import Tensor

from backend.config.spec import Activation
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps
from backend.ops.op_table import Ops
from backend.ops.reference import ReferenceOps
from tests.backend.ops.state_batches import state_batch

# A width of whole vectors: PyTorch rounds silu of what is left over differently.
TAPS, CHANNELS, SLOTS = 4, 32, 7
TABLES: list[Ops] = [CpuOps(), ExactOps()]


def inputs(num_tokens: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_tokens)
    x = torch.randn(num_tokens, CHANNELS, generator=generator).to(dtype)
    weight = torch.randn(TAPS, CHANNELS, generator=generator)
    bias = torch.randn(CHANNELS, generator=generator)
    return x, weight, bias


def slots() -> Tensor:
    return torch.randn(SLOTS, TAPS - 1, CHANNELS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("ops", TABLES)
def test_convolution_is_the_oracles(
    ops: Ops, has_bias: bool, activation: Activation | None
) -> None:
    """Sequences that begin, go on, are shorter than the taps, and of several segments."""
    states = state_batch(
        [(1, 2, 2)], [(1, 3, 0)], [(6, -1, 1)], [(2, 2, 3), (1, 3, 4), (5, 4, 5)], [(2, -1, 6)]
    )
    # The third sequence would read slot 2 before the first writes it, were it not in order: it
    # never happens that two read and write one slot in a step, but for the segments of a sequence.
    states.reads[3] = 5
    x, weight, bias = inputs(18)
    expected_state, state = slots(), slots()
    expected = ReferenceOps().causal_conv(
        x, weight, bias if has_bias else None, expected_state, states, activation
    )
    found = ops.causal_conv(x, weight, bias if has_bias else None, state, states, activation)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(state, expected_state)


@pytest.mark.parametrize("ops", TABLES)
def test_convolution_begins_with_zeros_whatever_a_slot_holds(ops: Ops) -> None:
    x, weight, _ = inputs(3)
    state = torch.full((SLOTS, TAPS - 1, CHANNELS), torch.nan)
    found = ops.causal_conv(x, weight, None, state, state_batch([(3, -1, 0)]), None)
    torch.testing.assert_close(found[0], x[0] * weight[-1])
    assert torch.equal(state[0], x)
    assert state[1:].isnan().all()


@pytest.mark.parametrize("ops", TABLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_in_any_chunks_gives_the_same_bits(ops: Ops, dtype: torch.dtype) -> None:
    x, weight, bias = inputs(40, dtype)
    whole_state = slots()
    whole = ops.causal_conv(x, weight, bias, whole_state, state_batch([(40, -1, 3)]), "silu")
    for sizes in ([1] * 40, [2, 38], [13, 1, 1, 20, 5], [39, 1]):
        state, parts, start = slots(), [], 0
        for n, size in enumerate(sizes):
            alone = state_batch([(size, n - 1 if n == 0 else 3, 3)])
            part = x[start : start + size]
            parts.append(ops.causal_conv(part, weight, bias, state, alone, "silu"))
            start += size
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(state, whole_state)


@pytest.mark.parametrize("ops", TABLES)
def test_convolution_keeps_the_states_between_segments(ops: Ops) -> None:
    x, weight, bias = inputs(20)
    cut, whole = slots(), slots()
    in_segments = state_batch([(8, -1, 1), (1, 1, 2), (11, 2, 0)])
    found = ops.causal_conv(x, weight, bias, cut, in_segments, "silu")
    assert torch.equal(
        found, ops.causal_conv(x, weight, bias, whole, state_batch([(20, -1, 0)]), "silu")
    )
    assert torch.equal(cut[0], whole[0])
    assert torch.equal(cut[1], x[5:8])
    assert torch.equal(cut[2], x[6:9])
    assert torch.equal(cut[3:], slots()[3:])


@pytest.mark.parametrize("ops", TABLES)
def test_convolution_takes_tokens_that_lie_apart(ops: Ops) -> None:
    x, weight, bias = inputs(6)
    wide = torch.cat((x, x + 1), 1)[:, :CHANNELS]
    states = state_batch([(6, -1, 0)])
    expected = ops.causal_conv(x, weight, bias, slots(), states, None)
    assert torch.equal(ops.causal_conv(wide, weight, bias, slots(), states, None), expected)
