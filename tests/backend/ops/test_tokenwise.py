"""What tokens are made of one by one does not depend on those beside them."""

import pytest
import torch
from torch import Tensor

from backend.config.spec import GateClamp
from backend.ops.exact import ExactOps
from backend.ops.tokenwise import sigmoid


def test_sigmoid_of_a_number_is_the_same_beside_others() -> None:
    """PyTorch's is not: 64 of these numbers go through vectors, the others one by one."""
    numbers = torch.randn(64 + 17, generator=torch.Generator().manual_seed(0))
    together = sigmoid(numbers)
    assert torch.equal(torch.cat([sigmoid(number[None]) for number in numbers]), together)
    torch.testing.assert_close(together, numbers.sigmoid())


@pytest.mark.parametrize("width", [37, 1000])
def test_exact_ops_of_a_token_are_the_same_beside_others(width: int) -> None:
    """Rows that are no multiple of a vector: where a number stands differs from token to token."""
    ops, generator = ExactOps(), torch.Generator().manual_seed(0)
    x, gate = (3 * torch.randn(33, width, generator=generator) for _ in range(2))
    both = torch.cat((gate, x), 1)

    def run(rows: slice) -> list[Tensor]:
        return [
            ops.silu_mul(both[rows]),
            ops.gate_mul(both[rows], "gelu"),
            ops.clamped_gate_mul(both[rows], GateClamp(7.0, 1.7, 1.0)),
            ops.activate(x[rows], "gelu_tanh"),
            ops.gate_by(gate[rows], x[rows], "sigmoid"),
        ]

    alone = [
        torch.cat(parts) for parts in zip(*(run(slice(t, t + 1)) for t in range(33)), strict=True)
    ]
    for together, each in zip(run(slice(None)), alone, strict=True):
        assert torch.equal(together, each)
