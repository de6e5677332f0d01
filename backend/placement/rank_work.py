"""What one rank does in a step of a model, in bytes and operations; how long that takes on a device
is cost_model.py's to say.

Read off the same Footprint that a start counts its weights with. Knows no device, no tensor.
"""

from collections import defaultdict
from dataclasses import dataclass

from backend.config.model_config import ModelConfig
from backend.config.spec import Attention, EncoderSpec, Layer
from backend.config.states import STATE_BYTES
from backend.placement.footprint import Footprint, Role
from backend.placement.memory import DTYPE_BYTES, kv_bytes_per_head
from backend.placement.sharding import Shard
from backend.placement.state_plan import rank_slot_bytes
from backend.quant.weight_format import WeightFormat

# A score and a weighted value are a multiply-add each: two operations a number.
_PAIR_OPERATIONS = 4
# A delta rule decays a state, reads, writes and reads it again: a multiply-add for each number.
_STATE_OPERATIONS = 8
# Into a part of a layer and out of it: queries, keys and values are one product, a gate and what it
# gates are one.
_PRODUCTS_A_PART = 2


@dataclass(frozen=True, slots=True)
class Products:
    """All weights of one format that the same rows are multiplied by. count: how many there are."""

    role: Role
    kept_as: WeightFormat
    num_bytes: int
    num_values: int
    count: int


@dataclass(frozen=True, slots=True)
class Windowed:
    """What layers of one window do: all that see all keys have window 0.

    kv_bytes: of a token's keys and values. operations: of a query and one key.
    """

    window: int
    kv_bytes: int
    operations: int

    def seen(self, context: float) -> float:
        """Return how many keys a token sees that has so many before it, itself included."""
        return min(context, self.window) if self.window else context


@dataclass(frozen=True, slots=True)
class RankWork:
    """A rank's share of a model.

    num_experts: of a layer; experts_share: of these, how many a token chooses. state_bytes: of a
    sequence's states. num_products: that rows pass through one after the other, beside the head's.
    num_sums: over ranks, in a step; sum_bytes: of a row, in all of them. hidden:
    numbers of a row in all layers. vocab: rows of this rank's head. is_causal: whether a prompt's
    token sees those before it alone. reads_prompt_first: an encoder does.
    """

    products: tuple[Products, ...]
    windows: tuple[Windowed, ...]
    num_experts: int
    experts_share: float
    state_bytes: int
    num_products: int
    num_sums: int
    sum_bytes: int
    num_layers: int
    hidden: int
    vocab: int
    is_causal: bool
    reads_prompt_first: bool

    @property
    def state_operations(self) -> int:
        """What a token does to its sequence's states, beside products."""
        return _STATE_OPERATIONS * self.state_bytes // STATE_BYTES

    @property
    def read_bytes(self) -> int:
        """Weights that a step reads if all experts are chosen."""
        return sum(products.num_bytes for products in self.products)

    @classmethod
    def of(
        cls, config: ModelConfig, shard: Shard, footprint: Footprint, dtype: str, kv_dtype: str
    ) -> "RankWork":
        """dtype: of the forward pass; kv_dtype: what keys and values are stored as."""
        spec = config.spec
        encoder = config.encoder
        own = [spec.layers[index] for index in shard.stage.layers]
        layers = (*own, *(encoder.layers if encoder else ()))
        experts = [layer.experts for layer in layers if layer.experts]
        num_sums = sum(_num_sums(layer) for layer in own)
        is_decoder = not isinstance(spec, EncoderSpec)
        return cls(
            products=_products(footprint),
            windows=_windows(config, shard, kv_dtype),
            num_experts=max((each.num for each in experts), default=0),
            experts_share=max((each.top_k / each.num for each in experts), default=0.0),
            state_bytes=rank_slot_bytes(config, shard) if is_decoder else 0,
            num_products=_PRODUCTS_A_PART * sum(_num_sums(layer) for layer in layers),
            num_sums=num_sums,
            sum_bytes=num_sums * config.hidden_size * DTYPE_BYTES[dtype],
            num_layers=len(layers),
            hidden=len(layers) * config.hidden_size,
            vocab=shard.vocab.stop - shard.vocab.start,
            is_causal=is_decoder,
            reads_prompt_first=encoder is not None,
        )


def _products(footprint: Footprint) -> tuple[Products, ...]:
    sums: dict[tuple[Role, WeightFormat], list[int]] = defaultdict(lambda: [0, 0, 0])
    for kept in footprint.kept:
        if kept.role not in ("vector", "table"):
            total = sums[kept.role, kept.kept_as]
            total[0] += kept.total_bytes
            total[1] += kept.count * kept.num_values
            total[2] += kept.count
    return tuple(Products(*key, *total) for key, total in sums.items())


def _windows(config: ModelConfig, shard: Shard, kv_dtype: str) -> tuple[Windowed, ...]:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for index in shard.stage.layers:
        attention = config.spec.layers[index].attention
        if attention is None:
            continue
        total = sums[attention.window]
        kv_bytes, operations = _attention(config, attention, shard, kv_dtype)
        total[0] += kv_bytes
        total[1] += operations
    return tuple(Windowed(window, *total) for window, total in sorted(sums.items()))


def _attention(
    config: ModelConfig, attention: Attention, shard: Shard, kv_dtype: str
) -> tuple[int, int]:
    """Return the bytes that a layer reads of a token's keys and values, and its operations."""
    heads = shard.heads_of(config.num_kv_heads_of(attention))
    if latent := attention.latent:
        # Scores are taken in the compressed rows, and so are values.
        width = 2 * latent.kv_rank + latent.rope_dim
        return latent.width * DTYPE_BYTES[kv_dtype], 2 * heads.num_heads * width
    dim = config.head_dim_of(attention)
    kv_bytes = heads.num_kv_heads * kv_bytes_per_head(dim, kv_dtype)
    return kv_bytes, _PAIR_OPERATIONS * heads.num_heads * dim


def _num_sums(layer: Layer) -> int:
    """Return how many sums over ranks a layer has: one behind each part."""
    mixers = (layer.attention is not None) + (layer.state is not None)
    return mixers + (layer.mlp is not None) + (layer.beside is not None)


def chosen_experts(num: int, share: float, rows: float) -> float:
    """Return what part of a layer's experts is chosen by any of so many rows, if all are equally
    likely."""
    return 1 - (1 - share) ** rows if num else 0.0
