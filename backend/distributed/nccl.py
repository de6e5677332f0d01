"""Ranks with a device each: NCCL, and for short messages memory that every rank can read.

Both are launched on the current stream and need no host, so steps may be captured with the sums in
them. NCCL adds in the tensors' dtype as a message passes from rank to rank: with two ranks that is
one rounding, with R ranks up to R - 1. What is short enough (`one_shot.py`) is added in float32 in
the order of the ranks and rounded once. Either way all ranks get the same bits.
"""

import os
from typing import Any

import torch
from torch import Tensor
from torch._C import _distributed_c10d as c10d
from torch._C._distributed_c10d import Store

from backend.distributed.one_shot import OneShotSum, can_read_each_other, make_one_shot
from backend.distributed.process_group import SUM_TIMEOUT, ProcessGroupParallel
from backend.distributed.tensor_parallel import TensorParallel


class NcclParallel(ProcessGroupParallel):
    """Sums and gathers on the ranks' devices."""

    def __init__(self, host: TensorParallel, store: Store, device: torch.device) -> None:
        """host: through which the ranks agree about what each of them can do. All ranks of the
        group must call it, each with a device of its own, in the order of their ranks."""
        # Ranks of one machine have nothing to say to its networks. Read when NCCL is first used.
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        nccl: Any = c10d.ProcessGroupNCCL  # absent from builds for CPUs
        options = nccl.Options()
        options._timeout = SUM_TIMEOUT
        group = nccl(store, host.rank, host.size, options)
        super().__init__(host.rank, host.size, group)
        self._one_shot: OneShotSum | None = None
        # Communicators form with the first sum: now, and not while a step is captured.
        super().all_reduce(torch.ones(1, device=device))
        torch.cuda.synchronize(device)
        if can_read_each_other(host, device):
            self._one_shot = make_one_shot(host, store, group, device)
        limit = self._one_shot.limit_bytes if self._one_shot else 0
        short = f", of up to {limit >> 10} KiB in one go" if limit else ""
        self.description = f"sums over {host.size} ranks by NCCL{short}"

    def all_reduce(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        if self._one_shot is not None and self._one_shot.takes(x):
            return self._one_shot.all_reduce(x)
        return super().all_reduce(x)
