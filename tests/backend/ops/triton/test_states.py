"""State ops in Triton against the oracle: segments, chains, states between, and padding."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from backend.ops.batch import StateBatch
from backend.ops.reference import ReferenceOps
from backend.ops.triton.state_plan import CHUNK
from backend.ops.triton.triton_ops import TritonOps
from tests.backend.ops import test_delta_rule as delta
from tests.backend.ops import test_ssm_scan as ssm
from tests.backend.ops.state_batches import Segment, state_batch

# The interpreter computes with numpy, which warns where an exp overflows on its way to 0 or 1.
pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPS, ORACLE = TritonOps(), ReferenceOps()
# Ragged, from zeros and from states, in a chain of segments, and of one token.
SEQUENCES: list[list[Segment]] = [
    [(5, 1, 2), (1, 2, 3), (3, 3, 3)],
    [(1, 4, 4)],
    [(4, -1, 5)],
    [(2, 0, 6), (2, 6, 0)],
]
# Whole chunks, parts of some, after what decodes.
LONG: list[list[Segment]] = [[(1, 1, 1)], [(CHUNK + 3, 2, 3), (CHUNK, 3, 2)], [(2, -1, 4)]]
ONE_EACH: list[list[Segment]] = [[(1, 1, 1)], [(1, -1, 2)], [(1, 3, 4)]]
# fp32 sums in another order; bfloat16 results are cut in the interpreter where a GPU rounds.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6}
DTYPES = [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]


def count(sequences: list[list[Segment]]) -> int:
    return sum(tokens for segments in sequences for tokens, _, _ in segments)


def check(results: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    """Results, in what they are rounded to, and states, in float32."""
    own, expected = results
    tolerance = TOLERANCE[dtype]
    # Of some tens of products of numbers up to 20, which cancel.
    atol = max(tolerance, 2e-6 * float(expected[0].abs().max()))
    torch.testing.assert_close(own[0].cpu(), expected[0], rtol=tolerance, atol=atol)
    torch.testing.assert_close(own[1].cpu(), expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sequences", [SEQUENCES, LONG, ONE_EACH])
@pytest.mark.parametrize("taps", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_convolution_is_the_oracles(
    sequences: list[list[Segment]], taps: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(taps)
    num_tokens, channels = count(sequences), 300
    x = torch.randn(num_tokens, channels + 5, generator=generator).to(dtype)[:, :channels]
    weight = torch.randn(taps, channels, generator=generator)
    slots = torch.randn(7, taps - 1, channels, generator=generator)
    states = state_batch(*sequences)
    for bias, activation in ((None, None), (weight[0] / 2, "silu")):
        results = []
        for ops in (OPS, ORACLE):
            state = slots.clone()
            out = ops.causal_conv(x, weight, bias, state, states, activation)  # type: ignore[arg-type]
            results.append((out, state))
        check(results, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("key_dim", "value_dim"), [(16, 48), (20, 16)])
@pytest.mark.parametrize("sequences", [SEQUENCES, LONG, ONE_EACH])
def test_delta_rule_is_the_oracles(
    sequences: list[list[Segment]], key_dim: int, value_dim: int, dtype: torch.dtype
) -> None:
    heads = delta.heads_of(key_dim, value_dim)
    inputs, states = delta.Inputs(count(sequences), heads, dtype), state_batch(*sequences)
    results = []
    for ops in (OPS, ORACLE):
        state = delta.slots(heads)
        out = ops.delta_rule(inputs.x, inputs.a, inputs.b, heads, state, states)
        results.append((out, state))
    check(results, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "state_dim"), [(48, 16), (10, 20)])
@pytest.mark.parametrize("sequences", [SEQUENCES, LONG, ONE_EACH])
def test_scan_is_the_oracles(
    sequences: list[list[Segment]], head_dim: int, state_dim: int, dtype: torch.dtype
) -> None:
    heads = ssm.heads_of(head_dim, state_dim)
    inputs, states = ssm.Inputs(count(sequences), heads, dtype), state_batch(*sequences)
    results = []
    for ops in (OPS, ORACLE):
        state = ssm.slots(heads)
        results.append((ops.ssm_scan(inputs.x, inputs.steps, heads, state, states), state))
    check(results, dtype)


def padded(states: StateBatch) -> StateBatch:
    """One more sequence of one token, that neither reads nor writes."""
    last = states.starts[-1:]
    none = torch.tensor([-1], dtype=torch.int32)
    return replace(
        states,
        starts=torch.cat((states.starts, last + 1)),
        reads=torch.cat((states.reads, none)),
        writes=torch.cat((states.writes, none)),
        chains=torch.cat((states.chains, states.chains[-1:] + 1)),
        start_list=[*states.start_list, states.start_list[-1] + 1],
        chain_list=[*states.chain_list, states.chain_list[-1] + 1],
    )


def test_padding_touches_no_state_and_no_row() -> None:
    states, more = state_batch(*ONE_EACH), padded(state_batch(*ONE_EACH))
    heads, scanned = delta.heads_of(), ssm.heads_of()
    one, other = delta.Inputs(4, heads, torch.float32), ssm.Inputs(4, scanned, torch.float32)
    weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    for rows, batch in ((3, states), (4, more)):
        kept = [delta.slots(heads), ssm.slots(scanned), torch.ones(7, 2, 16)]
        found = [
            OPS.delta_rule(*one.part(0, rows), heads, kept[0], batch),
            OPS.ssm_scan(*other.part(0, rows), scanned, kept[1], batch),
            OPS.causal_conv(one.x[:rows, :16], weight, None, kept[2], batch, None),
        ]
        if rows == 3:
            expected, before = found, kept
    for mine, theirs in zip((*found, *kept), (*expected, *before), strict=True):
        assert torch.equal(mine[: len(theirs)], theirs) and bool(mine.isfinite().all())
