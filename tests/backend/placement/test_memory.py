import pytest

from backend.config.model_config import ModelError
from backend.placement.memory import (
    ModelFootprint,
    check_fits,
    check_kv_fits,
    default_kv_bytes,
    rank_need,
)
from backend.placement.sharding import split_model
from tests.backend.factories import tiny_config

DENSE = ModelFootprint(1.0, 0.0, has_dense_head=True, head_bits=0, has_table=True)


def test_ranks_together_need_the_weights_and_the_embedding_each() -> None:
    config = tiny_config()
    [whole] = split_model(config, 1)
    halves = split_model(config, 2)
    need = rank_need(config, whole, "float32", 4, 64, DENSE)
    # Per layer 64 x (8 + 4 + 4 + 8) x 8 of attention and 3 x 160 x 64 of the MLP.
    layers = 2 * (64 * 24 * 8 + 3 * 160 * 64)
    assert need.weight_bytes == 4 * (layers + 2 * 320 * 64)
    parts = [rank_need(config, half, "float32", 4, 64, DENSE).weight_bytes for half in halves]
    assert sum(parts) == need.weight_bytes + 4 * 320 * 64
    assert rank_need(config, whole, "bfloat16", 4, 64, DENSE).weight_bytes == need.weight_bytes // 2


def test_activations_grow_with_the_step() -> None:
    config = tiny_config()
    [shard] = split_model(config, 1)
    small, large = (rank_need(config, shard, "float32", 4, budget, DENSE) for budget in (64, 128))
    per_token = 4 * (4 * 64 + 3 * 160)
    assert large.activation_bytes - small.activation_bytes == 64 * per_token


def test_what_does_not_fit_says_how_much_is_missing() -> None:
    check_fits(10, 10)
    with pytest.raises(ModelError, match=r"need 26\.0 GB, 8\.0 GB are free\n.*--tp"):
        check_fits(26 * 10**9, 8 * 10**9)


def test_a_cpu_s_cache_takes_a_share_of_what_is_left() -> None:
    assert default_kv_bytes("cpu", 10**9) == 3 * 10**8
    assert default_kv_bytes("cpu", 10**12) == 4 << 30
    assert default_kv_bytes("cuda", 10**9) == 85 * 10**7


@pytest.mark.parametrize("has_dense", [True, False])
def test_weights_in_few_bits_count_beside_the_dense_or_instead(has_dense: bool) -> None:
    config = tiny_config()
    [shard] = split_model(config, 1)
    plain = rank_need(config, shard, "bfloat16", 4, 64, DENSE)
    forms = ModelFootprint(float(has_dense), 5.0, has_dense, 9, has_table=True)
    packed = rank_need(config, shard, "bfloat16", 4, 64, forms)
    words = config.vocab_size * config.hidden_size  # the embedding is looked up, not multiplied
    linears = plain.weight_bytes // 2 - 2 * words
    assert packed.packed_bytes == (linears * 5 + words * 9) // 8
    assert packed.weight_bytes == plain.weight_bytes - (0 if has_dense else 2 * (linears + words))
    assert packed.total_bytes == plain.total_bytes + packed.packed_bytes - (
        plain.weight_bytes - packed.weight_bytes
    )


def test_a_cache_of_set_size_is_refused_where_it_would_not_fit() -> None:
    """It was only reserved, and the kernel ended the rank once enough of it was written."""
    check_kv_fits(10, 20, 10)
    with pytest.raises(ModelError, match=r"450\.0 GB, 8\.0 GB are left for it\nfree"):
        check_kv_fits(450 * 10**9, 900 * 10**9, 8 * 10**9)
