"""Where layers take their weights from, and the ledger of what each rank came to hold."""

from collections.abc import Callable

import torch
from torch import Tensor

from backend.config import ModelError
from backend.quant.groups import Groups
from backend.weights import Checkpoint

ALL = slice(None)


class WeightSource:
    """Reads this rank's slices of a checkpoint in the dtype of the forward pass.

    weight_bytes counts what was taken, in the forward pass's dtype; replicated_bytes the part of
    it that every rank holds.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: torch.dtype,
        device: torch.device,
        on_progress: Callable[[float], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._device = device
        self._on_progress = on_progress
        self._taken: set[str] = set()
        self.weight_bytes = 0
        self.replicated_bytes = 0

    def has(self, name: str) -> bool:
        return name in self._checkpoint.names()

    def take(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rows: slice = ALL,
        cols: slice = ALL,
        replicated: bool = False,
    ) -> Tensor:
        """Return a slice of a tensor whose whole shape must be `shape`. Raises ModelError."""
        if not self.has(name):
            raise ModelError(f"the model has no tensor {name}")
        found = tuple(self._checkpoint.shape(name))
        if found != shape:
            raise ModelError(f"{name} has shape {found}, the configuration says {shape}")
        tensor = self._checkpoint.read(name, rows, cols).to(self._device, self._dtype)
        size_bytes = tensor.numel() * tensor.element_size()
        self.weight_bytes += size_bytes
        self.replicated_bytes += size_bytes if replicated else 0
        self._taken.add(name)
        self._on_progress(len(self._taken) / len(self._checkpoint.names()))
        return tensor

    def groups(self, name: str, *, rows: slice = ALL, cols: slice = ALL) -> Groups | None:
        """Return a slice of a matrix as the groups it is stored in, if it is."""
        return self._checkpoint.read_groups(name, rows, cols)

    def finish(self, ignorable: Callable[[str], bool]) -> None:
        """Raise ModelError if the checkpoint holds tensors that no layer has taken."""
        left = sorted(n for n in self._checkpoint.names() - self._taken if not ignorable(n))
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise ModelError(
                f"the model has tensors that its architecture does not use: "
                f"{', '.join(left[:3])}{more}"
            )
