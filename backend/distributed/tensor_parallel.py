"""The group a rank computes in, as the model sees it: its sums and gathers.

This class is a group of one, which does nothing. Each way in which several ranks meet is a subclass
in a file of its own (`shm.py`: ranks of one machine, through shared memory).
"""

from torch import Tensor


class TensorParallel:
    """A group of tensor-parallel ranks; this one has a single rank."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x: contiguous, any shape and float dtype."""
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return what every rank passed, [size, *x.shape]. Shapes must agree."""
        return x.unsqueeze(0)
