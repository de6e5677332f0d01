"""Sees what a step does: calls of our kernels, what PyTorch allocates, that it computes nothing.

What PyTorch computes beside them is in no program of the kernels: it is named as the obstacle.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from backend.native import kernels
from backend.native.recording import SUM, Entry

_ALLOCATES = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
}


class StepRecording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, calls are noted as they run.

    entries: the calls, in order. allocated: what was allocated, which lives as long as this.
    obstacle: the first thing that PyTorch computed, "" for nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: list[Entry] = []
        self.allocated: list[Tensor] = []
        self.obstacle = ""
        self._is_summing = False

    def __enter__(self) -> "StepRecording":
        self.entries = kernels.start_recording()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        kernels.stop_recording()

    def sum(self, all_reduce: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Note that the ranks sum x here, and do it. x: contiguous bf16, in place."""
        if x.dtype != torch.bfloat16 or not x.is_contiguous():
            self.obstacle = self.obstacle or "a sum of other numbers than bf16"
        self.entries.append((SUM, x.data_ptr()))
        self._is_summing = True
        try:
            return all_reduce(x)
        finally:
            self._is_summing = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether PyTorch keeps its compiler out of here, for which it would import it: 150 MB."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._is_summing:
            return result
        if func in _ALLOCATES:
            self.allocated.append(result)
        elif func._schema.is_mutable or not _is_view(result, args):
            self.obstacle = self.obstacle or str(func)
        return result


def _is_view(result: Any, args: Sequence[Any]) -> bool:
    """Whether all that an op returned is the memory of its arguments."""
    tensors = result if isinstance(result, (tuple, list)) else [result]
    own = {_memory(arg) for arg in args if isinstance(arg, Tensor)}
    return all(isinstance(tensor, Tensor) and _memory(tensor) in own for tensor in tensors)


def _memory(tensor: Tensor) -> int:
    place: int = tensor.untyped_storage()._cdata
    return place
