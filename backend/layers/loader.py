"""Where layers take their weights from, and the ledger of what each rank came to hold."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.tensors import Cut, TensorInfo, tensors_of
from backend.layers.compute_context import ComputeContext
from backend.linear.kernel import Embed
from backend.linear.method import PackedWeight, StackedWeight
from backend.placement.sharding import Shard
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.checkpoint import Checkpoint
from backend.weights.slices import ALL


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """A slice of a matrix of a shape."""

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

    @property
    def order(self) -> Tensor | None:
        return self.checkpoint.column_order(self.slice.name, self.slice.cols)

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
    Which slices those are config/tensors.py and the shard say.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        shard: Shard,
        context: ComputeContext,
        on_progress: Callable[[float], None],
    ) -> None:
        self.ledger = WeightLedger()
        self._checkpoint = checkpoint
        self._infos = tensors_of(config)
        self._shard = shard
        is_tied = config.tie_word_embeddings
        self._num_tensors = sum(
            shard.has(info) and shard.stage.has(name, is_tied=is_tied)
            for name, info in self._infos.items()
        )
        self._head_dim = config.head_dim
        self._context = context
        self._on_progress = on_progress
        self._prefix = ""

    def at(self, prefix: str) -> "WeightLoader":
        """Return what reads below `prefix`; its books are the same."""
        loader = copy.copy(self)
        loader._prefix = f"{self._prefix}{prefix}."
        return loader

    @property
    def experts(self) -> slice:
        """Which experts of a mixture this rank has, or shares with the others."""
        return self._shard.experts or ALL

    def has(self, name: str) -> bool:
        """Whether the model has a tensor of this name."""
        return self._prefix + name in self._infos

    def take(self, name: str) -> Tensor:
        """Return this rank's slice of a tensor, in the context's dtype unless it is kept wide."""
        name = self._prefix + name
        info = self._infos[name]
        rows, cols = self._shard.slices(info, self._head_dim)
        read = self._checkpoint.read(name, rows, cols)
        dtype = torch.float32 if info.is_wide else self._context.dtype
        tensor = read.to(self._context.device, dtype)
        size_bytes = tensor.numel() * tensor.element_size()
        self.ledger.weight_bytes += size_bytes
        is_shared = info.cut is not Cut.WHOLE or (info.expert is not None and self._shard.experts)
        self.ledger.replicated_bytes += 0 if is_shared else size_bytes
        self._note(name)
        return tensor

    def columns(self, name: str) -> slice:
        """Return which columns of a matrix this rank has."""
        info = self._infos[self._prefix + name]
        cols = self._shard.slices(info, self._head_dim)[1]
        return slice(*cols.indices(info.shape[1]))

    def num_rows(self, name: str) -> int:
        """Return how many rows of a matrix this rank has."""
        info = self._infos[self._prefix + name]
        rows = self._shard.slices(info, self._head_dim)[0]
        return len(range(info.shape[0])[rows])

    def stack(self, names: Sequence[str]) -> StackedWeight:
        """Return this rank's slices, one above the other, as their kernels take them."""
        return self.stacks([names])[0]

    def stacks(self, names: Sequence[Sequence[str]]) -> list[StackedWeight]:
        """Return several of one shape, such as experts' projections, all in parts alike."""
        stacks = self._context.method.stacks([[self._find(name) for name in own] for own in names])
        for own, stacked in zip(names, stacks, strict=True):
            self._enter(own, stacked.size_bytes)
            if all(self._infos[self._prefix + name].cut is Cut.WHOLE for name in own):
                self.ledger.replicated_bytes += stacked.size_bytes
        return stacks

    def pack(self, name: str) -> PackedWeight:
        """Return this rank's slice as its kernel takes it."""
        packed = self._context.method.pack(self._find(name))
        self._enter([name], packed.size_bytes)
        if self._infos[self._prefix + name].cut is Cut.WHOLE:
            self.ledger.replicated_bytes += packed.size_bytes
        return packed

    def pack_dense(self, name: str) -> PackedWeight:
        """Return a whole matrix in the context's dtype, whatever it is quantised to elsewhere."""
        packed = self._context.method.pack_dense(self._find(name))
        self._enter([name], packed.size_bytes)
        self.ledger.replicated_bytes += packed.size_bytes
        return packed

    def pack_head(self, name: str) -> PackedWeight:
        """Return this rank's tokens of a table, which may be the embedding's."""
        vocab = TensorInfo(self._infos[self._prefix + name].shape, Cut.VOCAB_ROWS)
        packed = self._context.method.pack(self._find(name, vocab))
        self._enter([name], packed.size_bytes)
        return packed

    def embedding(self, name: str) -> Embed:
        """Return what looks up this rank's rows of a tensor: all, unless ranks share them."""
        method, stored = self._context.method, self._find(name)
        if not method.embeds(stored.format, stored.shape[1]):
            return partial(_look_up, self.take(name))
        packed = method.pack(stored)
        self._enter([name], packed.size_bytes)
        if self._infos[self._prefix + name].cut is Cut.WHOLE:
            self.ledger.replicated_bytes += packed.size_bytes
        return packed.embed

    def _find(self, name: str, info: TensorInfo | None = None) -> _StoredSlice:
        name = self._prefix + name
        info = info or self._infos[name]
        rows, cols = self._shard.slices(info, self._head_dim)
        n, k = info.shape
        part = WeightSlice(name, (n, k), rows, cols)
        return _StoredSlice(self._checkpoint, part, self._context.dtype, self._context.device)

    def _enter(self, names: Sequence[str], size_bytes: int) -> None:
        self.ledger.weight_bytes += size_bytes
        for name in names:
            self._note(self._prefix + name)

    def _note(self, name: str) -> None:
        self.ledger.taken.add(name)
        self._on_progress(len(self.ledger.taken) / self._num_tensors)


def _look_up(table: Tensor, ids: Tensor) -> Tensor:
    return F.embedding(ids, table)
