"""What a model keeps of each token and each sequence, by group of layers."""

import msgspec

from backend.config.cache_groups import blocks_of_sequence
from backend.config.cache_shapes import kv_shapes
from backend.placement.batch_simulation import Load
from backend.placement.memory import DTYPE_BYTES, kv_bytes_per_head
from backend.placement.memory_plan import kv_dtype
from backend.placement.served_model import ServedModel
from backend.placement.state_plan import group_slot_bytes

# github.com/ray-project/llm-numbers, which the article quotes: 1 MB a token for 13 billion.
RULE_BYTES, RULE_PARAMETERS = 1 << 20, 13e9


class CacheGroupRow(msgspec.Struct, frozen=True):
    """Layers that see the same: all keys (window 0) or so many. kind: "grouped" where several query
    heads share a key, "latent" where rows are compressed. bytes_per_token: of all of them."""

    layers: int
    window: int
    kind: str
    bytes_per_token: int
    bytes_per_sequence: int


class CacheTable(msgspec.Struct, frozen=True):
    """bytes_per_token: of one whose keys nobody has let go of. bytes_per_sequence: of the load's
    prompt and completion, in whole blocks, states included; state_bytes: of these alone.
    rule_bytes: what the rule of thumb says of a token."""

    dtype: str
    groups: list[CacheGroupRow]
    bytes_per_token: int
    bytes_per_sequence: int
    state_bytes: int
    rule_bytes: float


def cache_table(
    model: ServedModel, load: Load, num_parameters: int, token_budget: int
) -> CacheTable:
    """Return what is kept of the load's sequences, over all ranks of a group. num_parameters: for
    the rule of thumb. token_budget: tokens a step, which windows keep beside what they see."""
    config, dtype = model.config, kv_dtype(model.settings, model.dtype)
    length = load.prompt_tokens + load.output_tokens
    rows = _rows(model, dtype, length)
    states = group_slot_bytes(config)
    block_size = model.settings.block_size
    per_token = sum(row.bytes_per_token for row in rows)
    sizes = _layer_bytes(model, dtype)
    place = max((sum(sizes[layer] for layer in group.layers) for group in model.groups), default=0)
    blocks = blocks_of_sequence(model.groups, length, block_size, token_budget)
    rule = RULE_BYTES * num_parameters / RULE_PARAMETERS
    return CacheTable(
        dtype,
        rows,
        per_token,
        blocks * block_size * place + states,
        states,
        0.0 if config.sees_ahead else rule,
    )


def _rows(model: ServedModel, dtype: str, length: int) -> list[CacheGroupRow]:
    config, sizes = model.config, _layer_bytes(model, dtype)
    found: dict[tuple[int, str], list[int]] = {}
    for index, layer in enumerate(config.spec.layers):
        if not sizes[index] or layer.attention is None:
            continue
        window = layer.attention.window
        window = window if window < model.max_model_len else 0
        is_grouped = config.num_kv_heads_of(layer.attention) < config.num_heads
        kind = "latent" if layer.attention.latent else "grouped" if is_grouped else "full"
        found.setdefault((window, kind), []).append(sizes[index])
    return [
        CacheGroupRow(len(each), window, kind, sum(each), sum(each) * min(length, window or length))
        for (window, kind), each in sorted(found.items())
    ]


def _layer_bytes(model: ServedModel, dtype: str) -> list[int]:
    """Return what each layer keeps of a token, over all ranks of one."""
    return [
        0
        if shape is None
        else shape.head_dim * DTYPE_BYTES[model.dtype]
        if shape.is_latent
        else shape.num_kv_heads * kv_bytes_per_head(shape.head_dim, dtype)
        for shape in kv_shapes(model.config)
    ]
