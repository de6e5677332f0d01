"""Tries a model of transformers before it serves: do its answers depend on how tokens are batched?

Its code was written for whole sequences with a cache of its own. A class that looks at the shape of
a batch, at positions nobody gave it or at a state it keeps would give wrong answers in silence: the
same tokens whole, and in two chunks behind another sequence, must give the same hidden states.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from backend.config.cache_groups import CacheGroup
from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import Shard

NUM_TOKENS = 24
FIRST_CHUNK = 15
BLOCK_SIZE = 16
# Of a state's length. Sums in another order, layer after layer: 1e-6 in float32, 0.02 in bfloat16
# with 16 layers; another position of every token is 0.3 and more.
TOLERANCES = {torch.float32: 1e-2}
TOLERANCE = 0.15


class Runs(Protocol):
    """What is tried."""

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor: ...


def check_batching(
    model: Runs,
    config: ModelConfig,
    shard: Shard,
    dtype: torch.dtype,
    device: torch.device,
    who: str,
) -> None:
    """Raise ModelError if a step's result depends on the steps that the tokens come in.

    Every rank of the group must call it.
    """
    # As the engine has it where nothing is saved by more groups: all layers see all blocks.
    attending = (n for n, layer in enumerate(config.spec.layers) if layer.attention is not None)
    groups = (CacheGroup(tuple(attending)),)
    kv_cache = KVCache(
        config, shard, groups=groups, num_blocks=8, block_size=BLOCK_SIZE, dtype=dtype,
        device=device,
    )  # fmt: skip
    tokens = [3 + 7 * i % (config.vocab_size - 3) for i in range(NUM_TOKENS)]
    other = [5 + 11 * i % (config.vocab_size - 5) for i in range(9)]
    whole = model.forward(_batch([(tokens, 0, [0, 1])], device), kv_cache)[-1]
    model.forward(_batch([(tokens[:FIRST_CHUNK], 0, [2, 3])], device), kv_cache)
    model.forward(_batch([(other[:8], 0, [4]), (tokens[:4], 0, [5])], device), kv_cache)
    # A decode, then the rest of the prompt.
    mixed = _batch([(other[8:], 8, [4]), (tokens[FIRST_CHUNK:], FIRST_CHUNK, [2, 3])], device)
    chunked = model.forward(mixed, kv_cache)[-1]
    error = float((whole - chunked).float().norm() / whole.float().norm().clamp_min(1e-9))
    if not error <= TOLERANCES.get(dtype, TOLERANCE):
        raise ModelError(
            f"{who} gives other states for the same tokens in chunks than for all at once "
            f"(by {error:.0%}): its code does not take tokens of several sequences in one step\n"
            "a GGUF file of the model in llama.cpp may serve it"
        )


def _batch(parts: Sequence[tuple[list[int], int, list[int]]], device: torch.device) -> Batch:
    """Make a batch of sequences: their tokens, how many came before them, their blocks."""
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    starts = [0]
    for tokens, num_computed, blocks in parts:
        places = range(num_computed, num_computed + len(tokens))
        ids += tokens
        positions += places
        slots += [blocks[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in places]
        starts.append(len(ids))
    width = max(len(blocks) for _, _, blocks in parts)
    tables = [blocks + [0] * (width - len(blocks)) for _, _, blocks in parts]

    def tensor(values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    slot_mapping, block_tables = tensor(slots), tensor(tables)
    lens = [computed + len(tokens) for tokens, computed, _ in parts]
    return Batch(
        input_ids=tensor(ids),
        positions=tensor(positions),
        slot_mapping=slot_mapping,
        block_tables=block_tables,
        output_tokens=torch.arange(len(ids), device=device),
        query_starts=starts,
        context_lens=lens,
        num_decodes=sum(len(tokens) == 1 and computed > 0 for tokens, computed, _ in parts),
        slot_mappings=slot_mapping[None],
        group_tables=block_tables[None],
        starts=tensor(starts),
        lens=tensor(lens),
    )
