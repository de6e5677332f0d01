"""Where layers take their weights from, and the ledger of what each rank came to hold."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from backend.config.model_config import ModelError
from backend.linear.method import LinearMethod
from backend.quant.groups import Groups, concatenate
from backend.weights.checkpoint import Checkpoint

ALL = slice(None)


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """A slice of a matrix whose whole shape must be `shape`."""

    name: str
    shape: tuple[int, int]
    rows: slice = field(default_factory=lambda: ALL)
    cols: slice = field(default_factory=lambda: ALL)


@dataclass(frozen=True, slots=True)
class _Stacked:
    """A StoredWeight: pieces one above the other."""

    checkpoint: Checkpoint
    pieces: list[WeightSlice]
    dtype: torch.dtype
    device: torch.device

    def read(self) -> Tensor:
        parts = [
            self.checkpoint.read(piece.name, piece.rows, piece.cols).to(self.device, self.dtype)
            for piece in self.pieces
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def read_groups(self) -> Groups | None:
        parts = [self.checkpoint.read_groups(p.name, p.rows, p.cols) for p in self.pieces]
        present = [part for part in parts if part is not None]
        return concatenate(present) if len(present) == len(parts) else None


class WeightLoader:
    """Reads this rank's slices of a checkpoint.

    weight_bytes counts what the rank came to hold; replicated_bytes the part of it that every rank
    holds.
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
        """Return a slice of a tensor whose whole shape must be `shape`, in the arithmetic's dtype.

        Raises ModelError.
        """
        self._check(name, shape)
        tensor = self._checkpoint.read(name, rows, cols).to(self._device, self._dtype)
        size_bytes = tensor.numel() * tensor.element_size()
        self.weight_bytes += size_bytes
        self.replicated_bytes += size_bytes if replicated else 0
        self._note(name)
        return tensor

    def pack(self, method: LinearMethod, pieces: list[WeightSlice]) -> Any:
        """Return pieces, one above the other, in the method's form. Raises ModelError."""
        for piece in pieces:
            self._check(piece.name, piece.shape)
        packed = method.pack(_Stacked(self._checkpoint, pieces, self._dtype, self._device))
        self.weight_bytes += method.size_bytes(packed)
        for piece in pieces:
            self._note(piece.name)
        return packed

    def finish(self, ignorable: Callable[[str], bool]) -> None:
        """Raise ModelError if the checkpoint holds tensors that no layer has taken."""
        left = sorted(n for n in self._checkpoint.names() - self._taken if not ignorable(n))
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise ModelError(
                f"the model has tensors that its architecture does not use: "
                f"{', '.join(left[:3])}{more}"
            )

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if not self.has(name):
            raise ModelError(f"the model has no tensor {name}")
        found = tuple(self._checkpoint.shape(name))
        if found != shape:
            raise ModelError(f"{name} has shape {found}, the configuration says {shape}")

    def _note(self, name: str) -> None:
        self._taken.add(name)
        self._on_progress(len(self._taken) / len(self._checkpoint.names()))
