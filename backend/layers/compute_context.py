"""What a forward pass computes with; every layer is given it."""

import torch

from backend.linear.method import LinearMethod
from backend.ops.op_table import Ops


class ComputeContext:
    """What a forward pass computes with: dtype, device, ops and linear method."""

    def __init__(
        self, dtype: torch.dtype, device: torch.device, ops: Ops, method: LinearMethod
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.ops = ops
        self.method = method
