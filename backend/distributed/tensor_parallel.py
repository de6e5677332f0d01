"""The group a rank computes in, as the model sees it: its sums and gathers.

This class is a group of one, which does nothing. Each way in which several ranks meet is a subclass
in a file of its own (`shm.py`: ranks of one machine, through shared memory; `device_group.py`:
ranks on devices; `nodes_parallel.py`: ranks of several machines).
"""

import torch
from torch import Tensor


class TensorParallel:
    """A group of tensor-parallel ranks; this one has a single rank."""

    # How its ranks sum, in words for the operator; empty where there is nothing to say.
    description = ""
    # Whether a sum waits for the host, so that no step with one in it is captured.
    waits_for_host = False

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x: contiguous, any shape and float dtype."""
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return what every rank passed, [size, *x.shape]. Shapes must agree."""
        return x.unsqueeze(0)

    def hand_out(self, x: Tensor) -> Tensor:
        """Make x what it is on the first rank, in place. x: contiguous. Not every kind has it."""
        return x

    def agrees(self, claim: bool) -> bool:
        """Whether all ranks claim it. All must call it."""
        return bool(self.all_gather(torch.tensor([claim])).all())

    def check(self) -> None:
        """Raise RuntimeError if the group has broken up: sums since then are not sums.

        To be asked before anyone is told what was computed without the host.
        """

    def abort(self) -> None:
        """Have nothing of this rank wait for the others any more; the group is over."""
