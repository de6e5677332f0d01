"""What a rank takes of its memory, by the model's shape."""

import pytest

from backend.placement.memory import ModelFootprint, RankMemory
from backend.placement.sharding import Shard, split_model
from tests.backend.factories import tiny_config

DENSE = ModelFootprint(1.0, 0.0, has_dense_head=True, head_bits=0, has_table=True)


def estimate(
    shard: Shard, dtype: str, token_budget: int = 64, footprint: ModelFootprint = DENSE
) -> RankMemory:
    return RankMemory.estimate(
        tiny_config(), shard, dtype, footprint, max_num_seqs=4, token_budget=token_budget
    )


def test_rank_memory_sums_to_weights_and_an_embedding_each() -> None:
    [whole] = split_model(tiny_config(), 1)
    halves = split_model(tiny_config(), 2)
    needed = estimate(whole, "float32")
    # Per layer 64 x (8 + 4 + 4 + 8) x 8 of attention and 3 x 160 x 64 of the MLP.
    layers = 2 * (64 * 24 * 8 + 3 * 160 * 64)
    assert needed.weight_bytes == 4 * (layers + 2 * 320 * 64)
    parts = [estimate(half, "float32").weight_bytes for half in halves]
    assert sum(parts) == needed.weight_bytes + 4 * 320 * 64
    assert estimate(whole, "bfloat16").weight_bytes == needed.weight_bytes // 2


def test_rank_memory_of_activations_grows_with_the_step() -> None:
    [shard] = split_model(tiny_config(), 1)
    small, large = (estimate(shard, "float32", budget) for budget in (64, 128))
    per_token = 4 * (4 * 64 + 3 * 160)
    assert large.activation_bytes - small.activation_bytes == 64 * per_token


@pytest.mark.parametrize("has_dense", [True, False])
def test_rank_memory_counts_few_bits_beside_the_dense_or_instead(has_dense: bool) -> None:
    config = tiny_config()
    [shard] = split_model(config, 1)
    plain = estimate(shard, "bfloat16")
    footprint = ModelFootprint(float(has_dense), 5.0, has_dense, 9, has_table=True)
    packed = estimate(shard, "bfloat16", footprint=footprint)
    table = config.vocab_size * config.hidden_size  # the embedding is looked up, not multiplied
    linears = plain.weight_bytes // 2 - 2 * table
    assert packed.packed_bytes == (linears * 5 + table * 9) // 8
    assert packed.weight_bytes == plain.weight_bytes - (0 if has_dense else 2 * (linears + table))
    assert packed.total_bytes == plain.total_bytes + packed.packed_bytes - (
        plain.weight_bytes - packed.weight_bytes
    )
