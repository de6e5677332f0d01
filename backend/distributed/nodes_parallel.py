"""Ranks of several machines: their sums go through shared memory, then over the network.

The ranks of a machine add what they have; the first of each exchanges that with the others', adds
again, and hands the total out on its machine. What goes over the network is in float32 where it is
a sum of several ranks, and one rounding ends it. The order is summation.py's: with one, two, four
or eight ranks a machine the bits are those of as many ranks on one.

Tensors of devices go through the host, which waits: for correctness, not for speed.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from backend.distributed.summation import sum_in_pairs
from backend.distributed.tensor_bytes import bytes_of
from backend.distributed.tensor_parallel import TensorParallel

# Up to so much everyone sends all of it to everyone, for one way's delay. Beyond, with more than
# two machines, each adds a piece for all, for two ways' delay and 2 (N - 1) / N of the bytes,
# not N - 1: at 10 Gb/s 64 KiB take 52 us, as much as a way within a building.
ONE_WAY_BYTES = 64 << 10


class Exchange(Protocol):
    """How the first ranks of all machines reach each other; wire/tcp/node_exchange.py does it."""

    def exchange(self, out: Mapping[int, memoryview], into: Mapping[int, memoryview]) -> None:
        """Send each of the others a message, and fill `into` with theirs."""

    def close(self) -> None:
        """Release it."""


class NodesParallel(TensorParallel):
    """Several tensor-parallel ranks on several machines, as many on each, machine after machine."""

    waits_for_host = True

    def __init__(
        self, near: TensorParallel, num_nodes: int, node: int, far: Exchange | None
    ) -> None:
        """near: the ranks of this machine, which is number `node`. far: of its first rank alone."""
        super().__init__(node * near.size + near.rank, num_nodes * near.size)
        self._near = near
        self._node, self._num_nodes = node, num_nodes
        self._far = far
        self.description = f"sums over {self.size} ranks on {num_nodes} nodes, over TCP"

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x: contiguous, any shape and float dtype.

        Raises ChannelBroken where another machine's ranks are gone.
        """
        if x.numel() == 0:
            return x
        if self._near.size == 1 and x.is_cpu:
            self._sum_far(x.view(-1))
            return x
        total = x.to("cpu", torch.float32, copy=True)
        self._near.all_reduce(total)
        if self._far is not None:
            self._sum_far(total.view(-1))
        return x.copy_(self._near.hand_out(total))

    def all_gather(self, x: Tensor) -> Tensor:
        """Return what every rank passed, [size, *x.shape]. Shapes must agree."""
        if x.numel() == 0:
            return x.new_empty(self.size, *x.shape)
        near = self._near.all_gather(x.contiguous().cpu())
        gathered = near.new_empty(self._num_nodes, near.numel())
        if self._far is not None:
            gathered[self._node] = near.view(-1)
            self._exchange(dict.fromkeys(self._others, near.view(-1)), gathered)
        return self._near.hand_out(gathered).view(self.size, *x.shape).to(x.device)

    def abort(self) -> None:
        """See TensorParallel."""
        if self._far is not None:
            self._far.close()

    @property
    def _others(self) -> list[int]:
        return [node for node in range(self._num_nodes) if node != self._node]

    def _sum_far(self, flat: Tensor) -> None:
        """Sum a flat tensor over the machines, in place."""
        if self._num_nodes == 2 or flat.nbytes <= ONE_WAY_BYTES:
            self._sum_piece(flat, dict.fromkeys(self._others, flat))
            return
        pieces = dict(enumerate(torch.tensor_split(flat, self._num_nodes)))
        own = pieces.pop(self._node)
        self._sum_piece(own, pieces)
        self._exchange(dict.fromkeys(self._others, own), pieces)

    def _sum_piece(self, own: Tensor, of_others: Mapping[int, Tensor]) -> None:
        """Add to a piece what the others have of it, and send them ours of theirs."""
        parts = own.new_empty(self._num_nodes, own.numel())
        parts[self._node] = own
        self._exchange(of_others, parts)
        sum_in_pairs(parts.unbind(0), own)

    def _exchange(self, out: Mapping[int, Tensor], into: Mapping[int, Tensor] | Tensor) -> None:
        """Send each of the others a tensor, and fill theirs. All contiguous, on the CPU."""
        assert self._far is not None, "the first rank of a machine speaks with the others"
        self._far.exchange(
            {node: bytes_of(out[node]) for node in self._others},
            {node: bytes_of(into[node]) for node in self._others},
        )
