"""What a forward pass computes with; every layer is given it."""

import torch

from backend.distributed.tensor_parallel import TensorParallel
from backend.linear.method import LinearMethod
from backend.ops.op_table import Ops


class ComputeContext:
    """What a forward pass computes with: dtype, device, ops, linear method, and the other ranks.

    records_decodes: whether they are replayed in C where that can be (ops/recorded_steps.py).
    """

    def __init__(
        self,
        dtype: torch.dtype,
        device: torch.device,
        ops: Ops,
        method: LinearMethod,
        tp: TensorParallel,
        *,
        records_decodes: bool = False,
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.ops = ops
        self.method = method
        self.tp = tp
        self.records_decodes = records_decodes
