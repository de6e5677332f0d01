"""Which part of the model each rank of a group holds. Pure arithmetic, no torch.

Attention is cut by KV-head groups (a KV head with its query heads), unevenly where they do not
divide; the MLP's columns then even out the weight bytes, in units of the blocks that the file
quantises, so that a row-parallel cut splits none. Where heads are cut inside a block, or there are
fewer blocks than ranks, that weight cannot stay in the file's bits. Experts are cut as other MLPs
are, or, expert parallel, whole ones go to ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.spec import DeltaNet, Experts, Mamba2, ShortConv, StateMixer
from backend.config.states import StateShape, state_shapes
from backend.config.tensors import Cut, TensorInfo
from backend.placement.delta_heads import key_heads_of, split_value_heads
from backend.placement.mamba_heads import groups_of, split_mamba_heads
from backend.placement.stages import Stage, whole_model

ALL = slice(None)
NOTHING = slice(0, 0)
MLP_UNIT = 32
VOCAB_UNIT = 64


class HeadShare(NamedTuple):
    """One rank's query heads and KV heads of a layer."""

    heads: slice
    kv_heads: slice

    @property
    def num_heads(self) -> int:
        return _length(self.heads)

    @property
    def num_kv_heads(self) -> int:
        return _length(self.kv_heads)


@dataclass(frozen=True, slots=True)
class Shard:
    """One rank's slices of heads, MLP columns and vocabulary.

    heads, kv_heads: of layers that have as many KV heads as the model; heads_of() has those of
    others. all_heads: query heads of a layer, of all ranks. intermediate: columns of an MLP of
    mlp_width. mlp_unit: columns of others that stay together.
    experts: those of a mixture that this rank has whole; None: its columns of each. delta, mamba:
    what the layers have that are delta nets, or Mamba-2. stage: which layers it has of them all.
    """

    rank: int
    size: int
    heads: slice
    kv_heads: slice
    intermediate: slice
    vocab: slice
    mlp_width: int
    mlp_unit: int
    all_heads: int
    stage: Stage
    experts: slice | None = None
    delta: DeltaNet | None = None
    mamba: Mamba2 | None = None

    @property
    def num_heads(self) -> int:
        return _length(self.heads)

    @property
    def num_kv_heads(self) -> int:
        return _length(self.kv_heads)

    def heads_of(self, num_kv_heads: int = 0) -> HeadShare:
        """Return this rank's heads of a layer with so many KV heads; 0: as many as the model."""
        if not num_kv_heads:
            return HeadShare(self.heads, self.kv_heads)
        counts = kv_heads_of_ranks(num_kv_heads, self.size)
        kv_heads = _slices(counts)[self.rank]
        return HeadShare(_scaled(kv_heads, self.all_heads // num_kv_heads), kv_heads)

    def columns(self, width: int) -> slice:
        """Return this rank's columns of an MLP of a width, or channels of a convolution."""
        if width == self.mlp_width:
            return self.intermediate
        return _slices(_even_units(width, self.size, self.mlp_unit))[self.rank]

    def state_units(self, state: StateMixer) -> int:
        """Return this rank's share of what ranks divide of a state mixer."""
        match state:
            case ShortConv():
                return _length(self.columns(state.width))
            case DeltaNet():
                return _length(self.delta_heads(state)[1])
            case Mamba2():
                return _length(self.mamba_heads(state)[1])

    def state_shapes(self, state: StateMixer | None) -> tuple[StateShape, ...]:
        """Return what this rank keeps of each sequence in a layer."""
        if state is None:
            return ()
        groups = _length(self.mamba_heads(state)[0]) if isinstance(state, Mamba2) else 0
        return state_shapes(state, self.state_units(state), groups)

    def delta_heads(self, delta: DeltaNet) -> tuple[slice, slice]:
        """Return this rank's key heads and value heads of a delta net."""
        values = split_value_heads(delta, self.size, self.mlp_unit)[self.rank]
        return key_heads_of(delta, values), values

    def mamba_heads(self, mamba: Mamba2) -> tuple[slice, slice]:
        """Return this rank's groups and heads of a Mamba-2 layer."""
        heads = split_mamba_heads(mamba, self.size, self.mlp_unit)[self.rank]
        return groups_of(mamba, heads), heads

    def has(self, info: TensorInfo) -> bool:
        """Whether any of a tensor is this rank's, of its stage's: experts may be another's."""
        if info.expert is None or self.experts is None:
            return True
        return info.expert in range(self.experts.start, self.experts.stop)

    def slices(self, info: TensorInfo, head_dim: int) -> tuple[slice, slice]:
        """Return this rank's rows and columns of a tensor; no rows where it is another's."""
        if info.expert is not None and self.experts is not None:
            return ALL if self.has(info) else NOTHING, ALL
        own, dim = self.heads_of(info.num_kv_heads), info.head_dim or head_dim
        match info.cut:
            case Cut.QUERY_ROWS:
                return _scaled(own.heads, dim), ALL
            case Cut.KV_ROWS:
                return _scaled(own.kv_heads, dim), ALL
            case Cut.QUERY_COLUMNS:
                return ALL, _scaled(own.heads, dim)
            case Cut.MLP_ROWS | Cut.CHANNEL_ROWS:
                return self.columns(info.shape[0]), ALL
            case Cut.MLP_COLUMNS | Cut.CHANNEL_COLUMNS:
                return ALL, self.columns(info.shape[1])
            case Cut.VOCAB_ROWS:
                return self.vocab, ALL
            case Cut.DELTA_KEY_ROWS | Cut.DELTA_VALUE_ROWS | Cut.DELTA_VALUE_COLUMNS:
                return self._delta_slices(info)
            case Cut.SSM_HEAD_ROWS | Cut.SSM_GROUP_ROWS | Cut.SSM_HEAD_COLUMNS:
                return self._mamba_slices(info)
            case Cut.WHOLE:
                return ALL, ALL

    def _delta_slices(self, info: TensorInfo) -> tuple[slice, slice]:
        assert self.delta is not None, "a layer has its tensors"
        keys, values = self.delta_heads(self.delta)
        match info.cut:
            case Cut.DELTA_KEY_ROWS:
                return _scaled(keys, info.shape[0] // self.delta.num_key_heads), ALL
            case Cut.DELTA_VALUE_ROWS:
                return _scaled(values, info.shape[0] // self.delta.num_value_heads), ALL
            case _:
                return ALL, _scaled(values, info.shape[1] // self.delta.num_value_heads)

    def _mamba_slices(self, info: TensorInfo) -> tuple[slice, slice]:
        assert self.mamba is not None, "a layer has its tensors"
        groups, heads = self.mamba_heads(self.mamba)
        match info.cut:
            case Cut.SSM_GROUP_ROWS:
                return _scaled(groups, info.shape[0] // self.mamba.num_groups), ALL
            case Cut.SSM_HEAD_ROWS:
                return _scaled(heads, info.shape[0] // self.mamba.num_heads), ALL
            case _:
                return ALL, _scaled(heads, info.shape[1] // self.mamba.num_heads)


def split_model(
    config: ModelConfig,
    tp: int,
    mlp_unit: int = MLP_UNIT,
    *,
    expert_parallel: bool = False,
    stage: Stage | None = None,
) -> list[Shard]:
    """Cut a model for `tp` ranks.

    mlp_unit: columns of the MLP that stay together, if every rank can have some. expert_parallel:
    whether experts stay whole. stage: whose ranks these are; None: they have all layers. Raises
    ModelError if there are not that many KV groups, or if the experts cannot be shared out.
    """
    fewest = min(map(config.num_kv_heads_of, config.attentions), default=config.num_kv_heads)
    if tp > fewest:
        raise ModelError(
            f"--tp {tp} is more than {config.name} can be split into: it has "
            f"{fewest} KV heads, so use 1 to {fewest}"
        )
    groups = kv_heads_of_ranks(config.num_kv_heads, tp)
    per_group = config.num_heads // config.num_kv_heads
    experts = _split_experts(config, tp) if expert_parallel else [None] * tp
    columns = _balance_mlp(config, groups, mlp_unit)
    states = [layer.state for layer in config.spec.layers]
    delta = next((state for state in states if isinstance(state, DeltaNet)), None)
    mamba = next((state for state in states if isinstance(state, Mamba2)), None)
    vocabs = split_vocab(config.vocab_size, tp)
    parts = zip(_slices(groups), _slices(columns), vocabs, experts, strict=True)
    return [
        Shard(
            rank,
            tp,
            _scaled(kv_heads, per_group),
            kv_heads,
            intermediate,
            vocab,
            config.intermediate_size,
            mlp_unit,
            config.num_heads,
            stage or whole_model(config),
            own_experts,
            delta,
            mamba,
        )
        for rank, (kv_heads, intermediate, vocab, own_experts) in enumerate(parts)
    ]


def kv_heads_of_ranks(num_kv_heads: int, tp: int) -> list[int]:
    """Return how many of a layer's KV heads each rank has."""
    return [num_kv_heads // tp + (rank < num_kv_heads % tp) for rank in range(tp)]


def _split_experts(config: ModelConfig, tp: int) -> Sequence[slice | None]:
    """Return which experts each rank has, the same in all layers."""
    counts = {layer.experts.num for layer in config.spec.layers if layer.experts}
    if not counts:
        raise ModelError(f"--expert-parallel: {config.name} has no experts; serve it without")
    num = max(counts)
    if len(counts) > 1 or num % tp:
        raise ModelError(
            f"--expert-parallel: the {num} experts of {config.name} cannot be shared out evenly "
            f"over {tp} ranks\nuse a --tp that divides {num}, or leave --expert-parallel out: "
            "every rank then has some columns of each"
        )
    return _slices([num // tp] * tp)


def split_vocab(vocab_size: int, tp: int) -> list[slice]:
    """Cut a vocabulary for `tp` ranks, all but the last part a multiple of VOCAB_UNIT."""
    return _slices(_even(vocab_size, tp, VOCAB_UNIT))


def _balance_mlp(config: ModelConfig, groups: list[int], wanted_unit: int) -> list[int]:
    """Return how many columns each rank gets: attention and MLP together come out even."""
    per_group = config.num_heads // config.num_kv_heads
    # Rows of q, k, v and columns of o for one group; rows of gate and up, columns of down.
    group_cost = (2 * per_group + 2) * config.head_dim
    size = config.intermediate_size
    if not size:
        return [0] * len(groups)
    unit = _unit(size, len(groups), wanted_unit)
    costs = [group_cost * count for count in groups]
    column_cost = 3 * _mlps_a_layer(config)
    columns = [unit] * len(groups)  # no rank goes without
    for _ in range(size // unit - len(groups)):
        rank = min(range(len(groups)), key=lambda r: costs[r] + column_cost * columns[r])
        columns[rank] += unit
    return columns


def _mlps_a_layer(config: ModelConfig) -> int:
    """Return how many MLPs of the width that is balanced a layer has: one, or its experts."""
    mlps = [
        mlp
        for layer in config.spec.layers
        if (mlp := layer.mlp) is not None and mlp.width == config.intermediate_size
    ]
    return max(mlp.num if isinstance(mlp, Experts) else 1 for mlp in mlps)


def _unit(size: int, parts: int, wanted: int) -> int:
    """Return how many columns stay together, so that every part can have some."""
    units = [unit for unit in (wanted, MLP_UNIT, 1) if size % unit == 0 and size // unit >= parts]
    if not units:
        raise ModelError(f"--tp {parts} is more than an MLP of {size} columns can be cut into")
    return units[0]


def _even_units(size: int, parts: int, wanted: int) -> list[int]:
    """Return the columns of each part, in units, as even as they come."""
    unit = _unit(size, parts, wanted)
    units = size // unit
    return [unit * (units // parts + (part < units % parts)) for part in range(parts)]


def _even(total: int, parts: int, unit: int) -> list[int]:
    """Return `total` in `parts`, all but the last a multiple of `unit`."""
    each = -(-total // (parts * unit)) * unit
    counts = [max(0, min(each, total - each * part)) for part in range(parts)]
    return (
        counts if counts[-1] > 0 else [total // parts + (p < total % parts) for p in range(parts)]
    )


def _slices(counts: list[int]) -> list[slice]:
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _scaled(part: slice, by: int) -> slice:
    return slice(part.start * by, part.stop * by)


def _length(part: slice) -> int:
    return int(part.stop - part.start)
