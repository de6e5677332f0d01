"""What a rank takes of its memory beside its weights, by the model's shape."""

import msgspec

from backend.config.cache_groups import CacheGroup
from backend.config.spec import Attention, Latent
from backend.placement.memory import (
    ModelFootprint,
    RankMemory,
    kv_block_bytes,
    kv_bytes_per_head,
    rotary_bytes,
)
from backend.placement.sharding import split_model
from tests.backend.factories import tiny_config

FOOTPRINT = ModelFootprint(dense_bytes=700, packed_bytes=300)


def estimate(dtype: str, token_budget: int = 64) -> RankMemory:
    [shard] = split_model(tiny_config(), 1)
    return RankMemory.estimate(
        tiny_config(), shard, dtype, FOOTPRINT, max_num_seqs=4, token_budget=token_budget
    )


def test_rank_memory_is_weights_in_either_form_and_activations() -> None:
    needed = estimate("float32")
    assert (needed.weight_bytes, needed.packed_bytes) == FOOTPRINT
    assert needed.total_bytes == 1000 + needed.activation_bytes


def test_rank_memory_of_activations_grows_with_the_step() -> None:
    small, large = (estimate("float32", budget) for budget in (64, 128))
    per_token = 4 * (4 * 64 + 3 * 160)
    assert large.activation_bytes - small.activation_bytes == 64 * per_token


def test_rank_memory_has_two_rows_of_logits_a_sequence() -> None:
    assert estimate("bfloat16", 0).activation_bytes == 2 * 4 * 320 * 4


def test_kv_of_8_bits_has_a_scale_each() -> None:
    assert kv_bytes_per_head(64, "bfloat16") == 2 * 2 * 64
    assert kv_bytes_per_head(64, "int8") == kv_bytes_per_head(64, "fp8") == 2 * (64 + 4)


def test_block_has_the_places_of_the_largest_group() -> None:
    config = tiny_config(num_layers=6)
    groups = (CacheGroup((1, 3, 5)), CacheGroup((0, 2), 8))
    each = kv_bytes_per_head(config.head_dim, "float32")
    assert kv_block_bytes(config, groups, 1, 16, "float32") == [16 * 3 * 4 * each]
    assert kv_block_bytes(config, groups, 3, 16, "float32") == [
        16 * 3 * num_heads * each for num_heads in (2, 1, 1)
    ]
    assert kv_block_bytes(config, (), 1, 16, "float32") == [0]


def test_compressed_rows_are_kept_by_every_rank() -> None:
    """A row of 32 + 8 numbers for all heads, and no value beside it."""
    config = tiny_config(num_layers=2)
    latent = Latent(kv_rank=32, rope_dim=8, nope_dim=16, v_dim=16)
    layers = tuple(
        msgspec.structs.replace(layer, attention=Attention(None, latent=latent))
        for layer in config.spec.layers
    )
    spec = msgspec.structs.replace(config.spec, layers=layers)
    config = msgspec.structs.replace(config, spec=spec)
    groups = (CacheGroup((0, 1)),)
    assert kv_block_bytes(config, groups, 2, 16, "bfloat16") == [16 * 2 * 40 * 2] * 2


def test_tables_of_rotations_are_counted_once_a_kind() -> None:
    """2 tables of 100 positions and 16 numbers of two bytes; layers that turn alike share them."""
    config = tiny_config(head_dim=16, num_layers=3)
    assert rotary_bytes(config, 100, "bfloat16") == 2 * 100 * 16 * 2
