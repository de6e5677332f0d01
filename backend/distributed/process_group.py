"""Ranks that meet in a process group of PyTorch's, whatever it goes through.

`nccl.py` and `gloo.py` make the groups. What they need to find each other lies in memory that the
supervisor made and handed to the ranks (wire/local/wiring.py), so no port is opened for it, and
nothing is left behind. No group is registered as torch.distributed's default.
"""

import threading
from datetime import timedelta
from typing import Any, Protocol

from torch import Tensor
from torch._C._distributed_c10d import AllgatherOptions, AllreduceOptions, FileStore

from backend.distributed.tensor_parallel import TensorParallel

# Communicators form within seconds; ranks come to it within what a slow disk lets them differ by.
MEETING_TIMEOUT = timedelta(seconds=120)
# No sum takes so long, nor does whoever comes late to one because it compiles; a rank that hangs is
# found by the supervisor long before.
SUM_TIMEOUT = timedelta(minutes=30)
# What is given up must end soon: a library that waits for a graph to be freed does so behind us.
ABORT_S = 2.0


def open_store(fd: int, size: int) -> FileStore:
    """Return where the ranks of a group find each other. fd: of the group's memory; kept open."""
    # A path of this very process, so the file behind it need not have a name.
    store = FileStore(f"/proc/self/fd/{fd}", size)
    store.set_timeout(MEETING_TIMEOUT)
    return store


class Collectives(Protocol):
    """What is used of a process group: torch's stubs leave it out."""

    def allreduce(self, tensors: list[Tensor], options: AllreduceOptions) -> Any: ...

    def _allgather_base(self, gathered: Tensor, x: Tensor, options: AllgatherOptions) -> Any: ...

    def abort(self) -> None: ...

    def name(self) -> str: ...


class ProcessGroupParallel(TensorParallel):
    """Sums and gathers of tensors on the ranks' devices."""

    def __init__(self, rank: int, size: int, group: Collectives) -> None:
        super().__init__(rank, size)
        self._group = group
        self._reduces, self._gathers = _reduces_in_turn(), _gathers_in_turn()

    def all_reduce(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        if x.numel():
            _join(self._group.allreduce([x], self._reduces))
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        flat = x.contiguous().view(-1)
        gathered = flat.new_empty(self.size * flat.numel())
        if flat.numel():
            _join(self._group._allgather_base(gathered, flat, self._gathers))
        return gathered.view(self.size, *x.shape)

    def abort(self) -> None:
        """End what is under way; kernels that wait for another rank return.

        The call may be kept waiting by graphs that hold the communicator, or by a lock of whoever
        is stuck, so it has a thread of its own.
        """
        thread = threading.Thread(target=self._group.abort, name="abort", daemon=True)
        thread.start()
        thread.join(ABORT_S)


def _join(work: Any) -> None:
    """Have what comes after see the result. Some groups give no work back for one in turn."""
    if work is not None:
        work.wait()


def _reduces_in_turn() -> AllreduceOptions:
    """Sums on the current stream: without a stream and two events of its own for each call."""
    options = AllreduceOptions()
    options.asyncOp = False
    return options


def _gathers_in_turn() -> AllgatherOptions:
    options = AllgatherOptions()
    options.asyncOp = False
    return options
