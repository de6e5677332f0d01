"""Who holds which experts, and how their columns even out the bytes of ranks."""

import msgspec
import pytest

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, Experts
from backend.config.tensors import Cut, TensorInfo
from backend.placement.sharding import split_model
from tests.backend.factories import tiny_config


def mixture(*mlps: MLP | Experts, num_kv_heads: int = 3) -> ModelConfig:
    """A model of a layer for each of these."""
    config = tiny_config(num_heads=9, num_kv_heads=num_kv_heads, head_dim=64, hidden_size=576)
    [layer, *_] = config.spec.layers
    layers = tuple(msgspec.structs.replace(layer, mlp=mlp) for mlp in mlps)
    spec = msgspec.structs.replace(config.spec, layers=layers)
    return msgspec.structs.replace(config, spec=spec)


@pytest.mark.parametrize("tp", [1, 2, 3])
def test_every_expert_is_whole_on_one_rank(tp: int) -> None:
    shards = split_model(mixture(Experts(12, 2, 96)), tp, expert_parallel=True)
    for expert in range(12):
        info = TensorInfo((96, 576), Cut.MLP_ROWS, expert)
        holders = [shard for shard in shards if shard.has(info)]
        assert len(holders) == 1
        for shard in shards:
            rows, cols = shard.slices(info, 64)
            assert len(range(96)[rows]) == (96 if shard in holders else 0)
            assert cols == slice(None)


def test_shared_expert_is_cut_by_columns_even_so() -> None:
    config = mixture(Experts(12, 2, 96, shared_width=64))
    for shard in split_model(config, 2, expert_parallel=True):
        rows, _ = shard.slices(TensorInfo((64, 576), Cut.MLP_ROWS), 64)
        assert len(range(64)[rows]) == 32


def test_experts_are_cut_by_columns_otherwise() -> None:
    shards = split_model(mixture(Experts(12, 2, 96)), 3)
    parts = [shard.slices(TensorInfo((576, 96), Cut.MLP_COLUMNS, 5), 64)[1] for shard in shards]
    assert parts == [slice(0, 32), slice(32, 64), slice(64, 96)]


def test_attention_weighs_less_beside_many_experts() -> None:
    """Two KV groups and one: a single MLP makes up for it, of 64 all have nearly the same."""
    [alone, _] = split_model(mixture(MLP(1536)), 2)
    [among, _] = split_model(mixture(Experts(64, 2, 1536)), 2)
    assert alone.intermediate == slice(0, 672)
    assert among.intermediate == slice(0, 768)


@pytest.mark.parametrize(
    ("mlps", "words"),
    [
        ((MLP(96),), "tiny has no experts; serve it without"),
        ((Experts(7, 2, 96),), "the 7 experts of tiny cannot be shared out evenly over 2 ranks"),
        ((Experts(8, 2, 96), Experts(4, 2, 96)), "the 8 experts of tiny cannot be shared out"),
    ],
)
def test_experts_that_do_not_divide_are_refused(
    mlps: tuple[MLP | Experts, ...], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        split_model(mixture(*mlps), 2, expert_parallel=True)
