"""Where layers take their weights from, and the ledger of what each rank came to hold."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.model_config import ModelError
from backend.layers.compute_context import ComputeContext
from backend.linear.kernel import Embed
from backend.linear.method import PackedWeight, StackedWeight
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
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
class _StoredSlice:
    """A StoredWeight: one slice of a checkpoint's tensor."""

    checkpoint: Checkpoint
    slice: WeightSlice
    dtype: torch.dtype
    device: torch.device

    @property
    def format(self) -> WeightFormat:
        return self.checkpoint.weight_format(self.slice.name, self.slice.cols)

    @property
    def shape(self) -> tuple[int, int]:
        whole = zip((self.slice.rows, self.slice.cols), self.slice.shape, strict=True)
        rows, cols = (len(range(size)[part]) for part, size in whole)
        return rows, cols

    def read(self) -> Tensor:
        part = self.slice
        return self.checkpoint.read(part.name, part.rows, part.cols).to(self.device, self.dtype)

    def read_quantized(self) -> QuantizedWeight:
        part = self.slice
        return self.checkpoint.read_quantized(part.name, part.rows, part.cols)


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

    def stack(self, slices: Sequence[WeightSlice]) -> StackedWeight:
        """Return slices, one above the other, as their kernels take them. Raises ModelError."""
        stacked = self._context.method.stack([self._find(part) for part in slices])
        self._enter(slices, stacked.size_bytes)
        return stacked

    def pack(self, part: WeightSlice) -> PackedWeight:
        """Return a slice as its kernel takes it. Raises ModelError."""
        packed = self._context.method.pack(self._find(part))
        self._enter([part], packed.size_bytes)
        return packed

    def embedding(self, name: str, shape: tuple[int, int]) -> Embed:
        """Return what looks up rows of a whole tensor, kept on every rank. Raises ModelError."""
        method, stored = self._context.method, self._find(WeightSlice(name, shape))
        if not method.embeds(stored.format, shape[1]):
            return partial(_look_up, self.take(name, shape, replicated=True))
        packed = method.pack(stored)
        self._enter([WeightSlice(name, shape)], packed.size_bytes)
        self.ledger.replicated_bytes += packed.size_bytes
        return packed.embed

    def _find(self, part: WeightSlice) -> _StoredSlice:
        part = replace(part, name=self._prefix + part.name)
        self._check(part.name, part.shape)
        context = self._context
        return _StoredSlice(self._checkpoint, part, context.dtype, context.device)

    def _enter(self, slices: Sequence[WeightSlice], size_bytes: int) -> None:
        self.ledger.weight_bytes += size_bytes
        for part in slices:
            self._note(self._prefix + part.name)

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


def _look_up(table: Tensor, ids: Tensor) -> Tensor:
    return F.embedding(ids, table)
