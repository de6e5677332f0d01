"""Where layers take their weights from, and the ledger of what each rank came to hold."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from backend.config.model_config import ModelError
from backend.layers.compute_context import ComputeContext
from backend.linear.method import PackedWeight
from backend.quant.quantized_weight import QuantizedWeight, concatenate
from backend.weights.checkpoint import Checkpoint
from backend.weights.slices import ALL


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """A slice of a matrix whose whole shape must be `shape`."""

    name: str
    shape: tuple[int, int]
    rows: slice = field(default_factory=lambda: ALL)
    cols: slice = field(default_factory=lambda: ALL)


@dataclass(frozen=True, slots=True)
class _Stacked:
    """A StoredWeight: slices one above the other."""

    checkpoint: Checkpoint
    slices: list[WeightSlice]
    dtype: torch.dtype
    device: torch.device

    def read(self) -> Tensor:
        parts = [
            self.checkpoint.read(part.name, part.rows, part.cols).to(self.device, self.dtype)
            for part in self.slices
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def read_quantized(self) -> QuantizedWeight | None:
        parts = [self.checkpoint.read_quantized(p.name, p.rows, p.cols) for p in self.slices]
        present = [part for part in parts if part is not None]
        return concatenate(present) if len(present) == len(parts) else None


@dataclass(slots=True)
class WeightLedger:
    """weight_bytes: what the rank came to hold; replicated_bytes: the part of it that every rank
    holds. taken: names of the tensors that a layer has read."""

    weight_bytes: int = 0
    replicated_bytes: int = 0
    taken: set[str] = field(default_factory=set)


class WeightLoader:
    """Reads this rank's slices of a checkpoint, below a prefix, and packs them.

    loader.at("self_attn") reads below a longer prefix; ledger counts what all of them came to hold.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: ComputeContext,
        on_progress: Callable[[float], None],
    ) -> None:
        self.ledger = WeightLedger()
        self._checkpoint = checkpoint
        self._context = context
        self._on_progress = on_progress
        self._prefix = ""

    def at(self, prefix: str) -> "WeightLoader":
        """Return what reads below `prefix`; its books are the same."""
        loader = copy.copy(self)
        loader._prefix = f"{self._prefix}{prefix}."
        return loader

    def take(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        rows: slice = ALL,
        cols: slice = ALL,
        replicated: bool = False,
    ) -> Tensor:
        """Return a slice of a tensor whose whole shape must be `shape`, in the context's dtype.

        Raises ModelError.
        """
        name = self._prefix + name
        self._check(name, shape)
        read = self._checkpoint.read(name, rows, cols)
        tensor = read.to(self._context.device, self._context.dtype)
        size_bytes = tensor.numel() * tensor.element_size()
        self.ledger.weight_bytes += size_bytes
        self.ledger.replicated_bytes += size_bytes if replicated else 0
        self._note(name)
        return tensor

    def pack(self, slices: Sequence[WeightSlice]) -> PackedWeight:
        """Return slices, one above the other, as their kernel takes them. Raises ModelError."""
        slices = [replace(part, name=self._prefix + part.name) for part in slices]
        for part in slices:
            self._check(part.name, part.shape)
        context = self._context
        stacked = _Stacked(self._checkpoint, slices, context.dtype, context.device)
        packed = context.method.pack(stacked)
        self.ledger.weight_bytes += packed.size_bytes
        for part in slices:
            self._note(part.name)
        return packed

    def finish(self, ignorable: Callable[[str], bool]) -> None:
        """Raise ModelError if the checkpoint holds tensors that no layer has taken."""
        names = self._checkpoint.names()
        left = sorted(name for name in names - self.ledger.taken if not ignorable(name))
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise ModelError(
                f"the model has tensors that its architecture does not use: "
                f"{', '.join(left[:3])}{more}"
            )

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._checkpoint.names():
            raise ModelError(f"the model has no tensor {name}")
        found = tuple(self._checkpoint.shape(name))
        if found != shape:
            raise ModelError(f"{name} has shape {found}, the configuration says {shape}")

    def _note(self, name: str) -> None:
        self.ledger.taken.add(name)
        self._on_progress(len(self.ledger.taken) / len(self._checkpoint.names()))
