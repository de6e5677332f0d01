"""What tokens are made of one by one does not depend on those beside them."""

import torch

from backend.ops.tokenwise import sigmoid


def test_sigmoid_of_a_number_is_the_same_beside_others() -> None:
    """PyTorch's is not: 64 of these numbers go through vectors, the others one by one."""
    numbers = torch.randn(64 + 17, generator=torch.Generator().manual_seed(0))
    together = sigmoid(numbers)
    assert torch.equal(torch.cat([sigmoid(number[None]) for number in numbers]), together)
    torch.testing.assert_close(together, numbers.sigmoid())
