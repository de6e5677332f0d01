"""The causal convolution in C, at every level: as the oracle, the same bits in any chunks."""

import pytest
import torch
from torch import Tensor

from backend.config.spec import Activation
from backend.native import absence, kernels, levels
from backend.ops.native import NativeOps
from backend.ops.reference import ReferenceOps
from tests.backend.ops.state_batches import state_batch

pytestmark = pytest.mark.skipif(kernels is None, reason=absence)

SLOTS = 7


@pytest.fixture
def ops(level: str) -> NativeOps:
    return NativeOps()


def inputs(num_tokens: int, channels: int, taps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, whose tokens lie apart, weight, bias and slots of states."""
    generator = torch.Generator().manual_seed(num_tokens)
    x = torch.randn(num_tokens, channels + 5, generator=generator).bfloat16()[:, :channels]
    weight = torch.randn(taps, channels, generator=generator)
    bias = torch.randn(channels, generator=generator)
    return x, weight, bias, torch.randn(SLOTS, taps - 1, channels, generator=generator)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize(("channels", "taps"), [(24, 4), (600, 3), (16, 2), (40, 8)])
def test_convolution_is_the_oracles(
    ops: NativeOps, channels: int, taps: int, activation: Activation | None
) -> None:
    """bfloat16 rounds a result to 2^-9 of it; states are the inputs, to the bit."""
    states = state_batch(
        [(1, 5, 5)], [(1, 3, 0)], [(6, -1, 1)], [(2, 2, 3), (1, 3, 4), (5, 4, 2)], [(2, -1, 6)]
    )
    x, weight, bias, slots = inputs(18, channels, taps)
    for given in (bias, None):
        expected_state, state = slots.clone(), slots.clone()
        expected = ReferenceOps().causal_conv(
            x.float(), weight, given, expected_state, states, activation
        )
        found = ops.causal_conv(x, weight, given, state, states, activation)
        torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-5)
        assert torch.equal(state, expected_state)


def test_convolution_in_any_chunks_gives_the_same_bits(ops: NativeOps) -> None:
    x, weight, bias, slots = inputs(90, 600, 4)
    whole_state = slots.clone()
    whole = ops.causal_conv(x, weight, bias, whole_state, state_batch([(90, -1, 3)]), "silu")
    for sizes in ([1] * 90, [2, 88], [13, 1, 1, 70, 5]):
        state, parts, start = slots.clone(), [], 0
        for size in sizes:
            alone = state_batch([(size, 3 if start else -1, 3)])
            part = x[start : start + size]
            parts.append(ops.causal_conv(part, weight, bias, state, alone, "silu"))
            start += size
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(state, whole_state)


def test_convolution_has_the_same_bits_at_every_level() -> None:
    found = []
    for level in reversed(levels()):
        kernels.use(level)
        x, weight, bias, state = inputs(20, 600, 4)
        found.append(
            NativeOps().causal_conv(x, weight, bias, state, state_batch([(20, 1, 2)]), "silu")
        )
    assert all(torch.equal(each, found[0]) for each in found)


def test_convolution_of_nan_spoils_its_own_channels_alone(ops: NativeOps) -> None:
    x, weight, bias, state = inputs(4, 64, 3)
    state[1] = torch.nan  # left by another; a sequence that begins does not read it
    x[0, 7] = torch.nan
    found = ops.causal_conv(x, weight, bias, state, state_batch([(4, -1, 0)]), None)
    assert found.isnan().nonzero().tolist() == [[0, 7], [1, 7], [2, 7]]
