"""What a rank will hold of a model's weights, before any is read.

Start-up asks it with the header of a file, `unisono plan` with what is known of one elsewhere.
Knows how tensors are cut and in which format each is kept; no torch.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal, Protocol

from backend.config.model_config import ModelConfig
from backend.config.tensors import (
    EMBEDDING,
    ENCODER_LAYER_PREFIX,
    HEAD,
    LAYER_PREFIX,
    PER_LAYER_EMBEDDING,
    Cut,
    TensorInfo,
    TensorKind,
    tensors_of,
)
from backend.placement.memory import DTYPE_BYTES, ModelFootprint
from backend.placement.sharding import ALL, MLP_UNIT, Shard
from backend.placement.stages import LayerSizes, kinds_by_layer, layer_of, stage_kinds
from backend.quant.kept_weights import BlockColumns, KeptWeights, WeightFootprint
from backend.quant.weight_format import WeightFormat

# The types of files whose numbers stand by themselves.
_PLAIN_TYPES = frozenset({"F64", "F32", "F16", "BF16"})
_EXPERT = re.compile(r"experts\.\d+\.")
# Matrices that are looked up, of an encoder's score, and none of a linear layer.
_PLAIN_MATRICES = (
    "embed_positions.weight",
    "embed_token_types.weight",
    "relative_bias.weight",
    "pooler.dense.weight",
    "classifier.weight",
)
# Columns that are shared out in units of the blocks that a file quantises.
_MLP_CUTS = (Cut.MLP_COLUMNS, Cut.CHANNEL_COLUMNS, Cut.DELTA_VALUE_COLUMNS)
# What is taken apart by heads and multiplied dense.
_BY_HEAD = ("kv_b_proj.weight", "k_b_proj.weight", "v_b_proj.weight")
# Those that are never rounded to fewer bits.
_DENSE_MATRICES = ("router.weight",)


class StoredWeights(Protocol):
    """What is known of the weights of a file, by our names of tensors."""

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        """Return how columns of a tensor are stored: DENSE where they are in no blocks that are
        multiplied as they are, or begin or end inside one."""
        ...

    def stored_type(self, name: str) -> str:
        """Return what the file calls the type of a tensor."""
        ...

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        """Return what is known of columns that are stored in blocks."""
        ...


# What is done with a weight: rows of it are looked up; every token is multiplied by it, those alone
# that the next is drawn of, those that choose an expert, or an encoder's; or it is a vector, added
# or multiplied by.
Role = Literal["table", "linear", "head", "expert", "encoder", "vector"]


@dataclass(frozen=True, slots=True)
class KeptWeight:
    """What a rank keeps of one tensor.

    kept_as: its format. num_values: of what is kept. why_dense: why not in the file's few bits, if
    so. count: of tensors that are kept so.
    """

    name: str
    footprint: WeightFootprint
    role: Role
    kept_as: WeightFormat
    num_values: int
    why_dense: str = ""
    count: int = 1

    @property
    def total_bytes(self) -> int:
        return self.count * sum(self.footprint)


class Footprint:
    """Walks the tensors of a model, and what this rank takes of each."""

    def __init__(
        self,
        stored: StoredWeights,
        config: ModelConfig,
        shard: Shard,
        kept: KeptWeights,
        dtype: str,
        *,
        kinds: Iterable[TensorKind] | None = None,
    ) -> None:
        """dtype: of the forward pass. kinds: of tensors that are stored alike; None: each may be
        stored in its own way."""
        self._stored = stored
        self._config = config
        self._shard = shard
        self._kept_as = kept
        self._dtype = dtype
        self.kept = [
            kept
            for kind in stage_kinds(config, kinds or each_tensor(config), shard.stage)
            for kept in self._keep_kind(kind)
        ]

    @cached_property
    def total(self) -> ModelFootprint:
        return ModelFootprint(
            sum(kept.count * kept.footprint.dense_bytes for kept in self.kept),
            sum(kept.count * kept.footprint.packed_bytes for kept in self.kept),
        )

    def expanded(self) -> tuple[str, ...]:
        """Say which weights the file has in few bits and the rank has not, their size and why."""
        by_reason: dict[str, list[KeptWeight]] = defaultdict(list)
        for kept in self.kept:
            if kept.why_dense:
                by_reason[kept.why_dense].append(kept)
        return tuple(
            f"expanded to {self._dtype}: {_names(group)} "
            f"({sum(kept.footprint.dense_bytes for kept in group) / 1e6:,.1f} MB): {reason}"
            for reason, group in by_reason.items()
        )

    def _keep_kind(self, kind: TensorKind) -> Iterator[KeptWeight]:
        name, info, count = kind
        own = self._shard.experts
        if count > 1 and info.expert is not None and own is not None:  # whole ones
            count, info = count // self._shard.size, info._replace(expert=own.start)
        for kept in self._keep(name, info):
            yield replace(kept, count=count) if count > 1 else kept

    def _keep(self, name: str, info: TensorInfo) -> Iterator[KeptWeight]:
        rows, cols = self._shard.slices(info, self._config.head_dim)
        if len(info.shape) != 2 or info.is_plain or name.endswith(_PLAIN_MATRICES):
            if name != EMBEDDING or self._shard.stage.is_first:
                yield self._plain(name, info, rows)
            if name == EMBEDDING and self._is_tied_head:
                yield self._pack(
                    name, _length(info.shape[0], self._shard.vocab), info.shape[1], ALL, "head"
                )
            return
        n, k = info.shape
        if name.endswith(_DENSE_MATRICES):
            footprint = self._kept_as.dense_footprint(n, k)
            yield KeptWeight(name, footprint, "linear", WeightFormat.DENSE, n * k)
            return
        if name == PER_LAYER_EMBEDDING:
            yield self._table(name, _length(n, rows), k)
            return
        if name != EMBEDDING:
            yield self._pack(name, _length(n, rows), k, cols, _role(name, info))
            return
        if self._is_tied_head:
            yield self._pack(name, _length(n, self._shard.vocab), k, ALL, "head")
        is_both = self._is_tied_head and self._shard.size == 1 and self._kept_as.embeds
        if self._shard.stage.is_first and not is_both:
            yield self._table(name, n, k)

    @property
    def _is_tied_head(self) -> bool:
        """Whether the rank multiplies by the embedding's table to get logits."""
        return self._config.tie_word_embeddings and self._shard.stage.is_last

    def _plain(self, name: str, info: TensorInfo, rows: slice) -> KeptWeight:
        """Return what is kept of a tensor that no linear layer multiplies by."""
        size = prod(info.shape[1:]) * _length(info.shape[0], rows) if info.shape else 1
        dtype = "float32" if info.is_wide else self._dtype
        by_head = name.endswith(_BY_HEAD)
        footprint = WeightFootprint(size * DTYPE_BYTES[dtype])
        why = self._why_by_head(name) if by_head else ""
        role: Role = "linear" if by_head else "vector"
        return KeptWeight(name, footprint, role, WeightFormat.DENSE, size, why)

    def _pack(self, name: str, n: int, k: int, cols: slice, role: Role) -> KeptWeight:
        stored_as, width = self._stored.weight_format(name, cols), _length(k, cols)
        columns = self._stored.block_columns(name, cols)
        footprint = self._kept_as.footprint(stored_as, n, width, columns)
        kept_as = self._kept_as.kept_format(stored_as, width)
        why = self._why_dense(name, k, cols) if kept_as is WeightFormat.DENSE else ""
        return KeptWeight(name, footprint, role, kept_as, n * width, why)

    def _table(self, name: str, n: int, k: int) -> KeptWeight:
        """Return what is kept of an embedding that is not the head as well."""
        if self._kept_as.embeds:
            return self._pack(name, n, k, ALL, "table")
        footprint = WeightFootprint(n * k * DTYPE_BYTES[self._dtype])
        why = self._why_dense(name, k, ALL)
        return KeptWeight(name, footprint, "table", WeightFormat.DENSE, n * k, why)

    def _why_by_head(self, name: str) -> str:
        stored = self._stored.stored_type(name)
        is_plain = stored in _PLAIN_TYPES or self._kept_as.is_dense
        return "" if is_plain else f"{stored} is not multiplied head by head"

    def _why_dense(self, name: str, k: int, cols: slice) -> str:
        stored = self._stored.stored_type(name)
        if stored in _PLAIN_TYPES or self._kept_as.is_dense:
            return ""
        whole = self._stored.weight_format(name)
        if whole is WeightFormat.DENSE or whole.is_own:
            return f"there is no kernel for {stored}"
        start, stop, _ = cols.indices(k)
        if self._stored.block_columns(name, cols).ordered:
            return f"ranks have too few columns each of a group of {stored} in any order (desc_act)"
        for cut in (start, stop):
            if cut % whole.block_size:
                reason = f"a cut at {cut} is inside a block of {whole.block_size}"
                # What would serve.
                is_expert = _EXPERT.search(name) is not None
                return f"{reason}; --expert-parallel cuts none" if is_expert else reason
        return f"these kernels do not multiply {stored}"


def each_tensor(config: ModelConfig) -> Iterator[TensorKind]:
    """Return the tensors of a model, each a kind of its own."""
    for name, info in tensors_of(config).items():
        yield TensorKind(name, info)


def _role(name: str, info: TensorInfo) -> Role:
    if name == HEAD:
        return "head"
    if info.expert is not None:
        return "expert"
    # Keys and values of a prompt, that the decoder attends to, are made with the prompt.
    is_cross = ".cross_attn.k_proj" in name or ".cross_attn.v_proj" in name
    return "encoder" if name.startswith(ENCODER_LAYER_PREFIX) or is_cross else "linear"


def layer_sizes(
    stored: StoredWeights, config: ModelConfig, kinds: Iterable[TensorKind]
) -> LayerSizes:
    """Return what a file has of each layer, in bytes; what it has in no blocks counts two a value.

    kinds: as Footprint takes them.
    """

    def each() -> Iterator[tuple[str, TensorInfo, float]]:
        for (name, info, count), members in kinds_by_layer(config, kinds):
            size = count * prod(info.shape) * _value_bytes(stored.weight_format(name))
            if not members:
                yield name, info, size
                continue
            own = f"{LAYER_PREFIX}{layer_of(name)}."
            for layer in members:
                yield f"{LAYER_PREFIX}{layer}.{name.removeprefix(own)}", info, size

    return LayerSizes.of(config, each())


def _value_bytes(weight_format: WeightFormat) -> float:
    return weight_format.block_bytes / weight_format.block_size


def mlp_unit(stored: StoredWeights, kinds: Iterable[TensorKind]) -> int:
    """Return how many columns of the MLP the file quantises together, at most."""
    names = [name for name, info, _ in kinds if info.cut in _MLP_CUTS]
    formats = {stored.weight_format(name) for name in names} - {WeightFormat.DENSE}
    return max([MLP_UNIT, *(found.block_size for found in formats)])


def _names(group: Sequence[KeptWeight]) -> str:
    """Name weights, those of the same place in several layers, or of several experts, together."""
    layers: dict[str, set[str]] = defaultdict(set)
    for kept in group:
        name, layer = kept.name.removesuffix(".weight"), ""
        for prefix, whose in ((LAYER_PREFIX, ""), (ENCODER_LAYER_PREFIX, "encoder's ")):
            if name.startswith(prefix):
                layer, _, part = name.removeprefix(prefix).partition(".")
                name = whose + part
        layers[_EXPERT.sub("experts.*.", name)].add(layer)
    return ", ".join(
        name if len(found) == 1 else f"{name} of {len(found)} layers"
        for name, found in layers.items()
    )


def _length(size: int, part: slice) -> int:
    return len(range(size)[part])
