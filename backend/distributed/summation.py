"""In which order the parts of a sum are added, wherever their ranks are.

Neighbours are added in pairs, then neighbouring pairs, and so on: (0 + 1) + (2 + 3). Ranks of a
machine that are a power of two have a whole branch of that tree, so a sum by machines first, and
then over machines, has the bits of the sum in one place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def sum_in_pairs(parts: Sequence[Tensor], out: Tensor) -> None:
    """Add two or more parts in float32, and round once. parts: not changed; out: may be one."""
    if len(parts) == 2 and out.is_cpu:
        # PyTorch adds in float32 and rounds once.
        torch.add(*parts, out=out)
        return
    sums = [a.float() + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
    sums += parts[2 * len(sums) :]
    while len(sums) > 1:  # what is first of a pair was made here
        pairs = [a.add_(b) for a, b in zip(sums[::2], sums[1::2], strict=False)]
        sums = pairs + sums[2 * len(pairs) :]
    out.copy_(sums[0])
