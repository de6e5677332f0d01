"""The bytes of what ranks on different machines send each other."""

import torch
from torch import Tensor


def bytes_of(x: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU, which they are a view of."""
    return x.view(-1).view(torch.uint8).numpy().data
