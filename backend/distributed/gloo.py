"""Ranks that share a device, or have none that a library of its own sums on: gloo, over loopback.

NCCL refuses two ranks on one card. Numbers go through the host's memory and the host waits for
them, so no step runs ahead and none is captured: for correctness, not for speed. Sums are of
float32, rounded once.
"""

from typing import Any

import torch
from torch import Tensor
from torch._C import _distributed_c10d as c10d
from torch._C._distributed_c10d import Store

from backend.distributed.process_group import SUM_TIMEOUT, ProcessGroupParallel

LOOPBACK = "127.0.0.1"


class GlooParallel(ProcessGroupParallel):
    """Sums through the host, whatever device tensors lie on."""

    waits_for_host = True
    description = "sums over {size} ranks by gloo, through the host: they share a device"

    def __init__(self, rank: int, size: int, store: Store) -> None:
        """All ranks of the group must call it."""
        gloo: Any = c10d.ProcessGroupGloo
        options = gloo._Options()
        options._devices = [gloo.create_device(hostname=LOOPBACK)]
        options._timeout = SUM_TIMEOUT
        options._threads = 1
        super().__init__(rank, size, gloo(store, rank, size, options))
        self.description = self.description.format(size=size)

    def all_reduce(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        if x.numel() == 0:
            return x
        total = x.to("cpu", torch.float32, copy=True)
        return x.copy_(super().all_reduce(total))

    def all_gather(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        return super().all_gather(x.cpu()).to(x.device)
