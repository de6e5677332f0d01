"""The stages of a group, as one of its ranks sees them: who comes before it, and who after.

Ranks of the same place in two neighbouring stages have a link. Forward goes the residual stream of
each step, of which all ranks of a stage have the same: over a network each sends a share, and those
who receive put the shares together in their machine's memory. When a group starts, numbers that all
must know go both ways. Knows no layers.
"""

import msgspec
import torch
from torch import Tensor

from backend.distributed.tensor_bytes import bytes_of
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.link import Link

# A stream is sent in pieces, so that no link need hold one at a time.
PIECE_BYTES = 4 << 20

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[int]]).decode


class Pipeline:
    """This rank's place among the stages: `index` of `size`. Without links it is the only one."""

    def __init__(
        self,
        index: int = 0,
        size: int = 1,
        before: Link | None = None,
        after: Link | None = None,
        shares_before: TensorParallel | None = None,
        shares_after: TensorParallel | None = None,
    ) -> None:
        """before, after: to the ranks of the neighbouring stages; theirs to close. shares_before,
        shares_after: the ranks of this stage, where each receives or sends a share alone."""
        self.index = index
        self.size = size
        self._before = before
        self._after = after
        self._shares_before = shares_before or TensorParallel()
        self._shares_after = shares_after or TensorParallel()

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == self.size - 1

    def send(self, x: Tensor) -> None:
        """Send a step's residual stream to the next stage."""
        assert self._after is not None, "there is a stage after this one"
        flat = x.contiguous().cpu().view(-1)
        each = _share(flat.numel(), self._shares_after.size)
        data = bytes_of(flat[self._shares_after.rank * each :][:each])
        for start in range(0, len(data), PIECE_BYTES):
            self._after.send(data[start : start + PIECE_BYTES])

    def receive(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the stream of the stage before, of a shape that the plan tells."""
        assert self._before is not None, "there is a stage before this one"
        numel = shape[0] * shape[1]
        each = _share(numel, self._shares_before.size)
        share = torch.zeros(each, dtype=dtype)
        data = bytes_of(share[: max(0, numel - self._shares_before.rank * each)])
        start = 0
        while start < len(data):
            piece = self._before.receive()
            if start + len(piece) > len(data):
                raise RuntimeError("the stage before runs another plan: its stream is longer")
            data[start : start + len(piece)] = piece
            start += len(piece)
        return self._shares_before.all_gather(share).view(-1)[:numel].view(shape).to(device)

    def gather(self, numbers: list[int]) -> list[list[int]]:
        """Return the numbers of each stage, in order. Every stage must call it."""
        everyone = [numbers]
        if self._before is not None:
            everyone = [*_decode(self._before.receive()), numbers]
        if self._after is not None:
            self._after.send(_encode(everyone))
            everyone = _decode(self._after.receive())
        if self._before is not None:
            self._before.send(_encode(everyone))
        return everyone


def _share(numel: int, size: int) -> int:
    """Return how many numbers a rank of several has; the last ones may have fewer."""
    return -(-numel // size)
