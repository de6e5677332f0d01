"""What one rank is given of its memory, and what is refused before anything is loaded."""

import subprocess
import sys
from typing import Any

import pytest

from backend.config.cache_groups import CacheGroup
from backend.config.errors import ModelError
from backend.config.huggingface import config_of_fields
from backend.config.pooling import Pooling
from backend.placement.memory import ModelFootprint
from backend.placement.memory_plan import (
    CPU_TOKEN_BUDGET,
    GPU_TOKEN_BUDGET,
    POOLED_TOKEN_BUDGET,
    MemoryPlan,
    RankDevice,
    check_fits,
    check_kv_fits,
    default_kv_bytes,
    graph_bytes,
    token_budget,
)
from backend.placement.sharding import split_model
from backend.settings import EngineSettings
from gateway.planning.catalogue import find_entry
from tests.backend.factories import tiny_config
from tests.backend.placement.planned_models import served

FOOTPRINT = ModelFootprint(dense_bytes=500_000, packed_bytes=0)
# Two layers, keys and values, eight numbers a head, in float32.
HEAD_BYTES = 2 * 2 * 8 * 4
ALL_LAYERS = (CacheGroup((0, 1)),)


def plan_of(
    free_bytes: int = 1 << 30,
    *,
    kind: str = "cpu",
    tp: int = 1,
    rank: int = 0,
    groups: tuple[CacheGroup, ...] = ALL_LAYERS,
    **settings: Any,
) -> MemoryPlan:
    config = tiny_config()
    return MemoryPlan.of(
        config,
        groups,
        split_model(config, tp)[rank],
        EngineSettings(tp=tp, **{"block_size": 16, **settings}),
        FOOTPRINT,
        RankDevice(kind, "float32", free_bytes),
    )


def test_plan_gives_the_kv_cache_a_share_of_what_is_left() -> None:
    plan = plan_of(10**9)
    assert plan.block_bytes == 16 * 4 * HEAD_BYTES
    left = 10**9 - plan.rank_memory.total_bytes
    assert plan.kv_budget_bytes == int(left * 0.3)
    assert plan.num_blocks == plan.kv_budget_bytes // plan.block_bytes
    assert plan.kv_bytes == plan.num_blocks * plan.block_bytes
    plan.check_kv_fits()


def test_plan_cuts_a_kv_cache_of_set_size_over_the_ranks() -> None:
    block_bytes = 16 * 4 * HEAD_BYTES
    plans = [plan_of(tp=3, rank=rank, kv_cache_bytes=block_bytes * 10) for rank in range(3)]
    assert [plan.num_blocks for plan in plans] == [10] * 3
    assert sum(plan.kv_bytes for plan in plans) == block_bytes * 10
    assert [plan.block_bytes for plan in plans] == [16 * heads * HEAD_BYTES for heads in (2, 1, 1)]


def test_plan_takes_over_the_blocks_that_all_ranks_have_room_for() -> None:
    plan = plan_of()
    fewer = plan.agreed(7, 5, 0)
    assert (fewer.num_blocks, fewer.kv_bytes) == (7, 7 * plan.block_bytes)
    assert fewer.rank_memory == plan.rank_memory


def test_plan_refuses_a_model_that_does_not_fit() -> None:
    with pytest.raises(ModelError, match=r"weights and activations need 0\.0 GB, 0\.0 GB are free"):
        plan_of(1000)


def test_plan_refuses_a_cache_without_a_block() -> None:
    with pytest.raises(ModelError, match="one block of 16 tokens needs 8,192 bytes, 100 are free"):
        plan_of(kv_cache_bytes=100)


def test_plan_counts_blocks_of_the_groups_layers() -> None:
    split = (CacheGroup((0,)), CacheGroup((1,), 32))
    whole, halves = (plan_of(10**9, groups=groups) for groups in (ALL_LAYERS, split))
    assert 2 * halves.block_bytes == whole.block_bytes
    assert halves.num_blocks // 2 == whole.num_blocks
    with pytest.raises(
        ModelError, match="of 16 tokens, in each of 2 groups of layers needs 8,192 bytes, 8,000 are"
    ):
        plan_of(kv_cache_bytes=8000, groups=split)
    assert plan_of(kv_cache_bytes=8192, groups=split).num_blocks == 2


def test_plan_of_a_model_without_a_cache_has_no_blocks() -> None:
    plan = plan_of(groups=())
    assert (plan.num_blocks, plan.kv_bytes) == (0, 0)
    plan.check_kv_fits()


def test_plan_refuses_a_cache_beyond_what_is_left() -> None:
    plan = plan_of(1 << 30, kv_cache_bytes=1 << 31)
    with pytest.raises(ModelError, match=f"--kv-cache-bytes {1 << 31} is too much"):
        plan.check_kv_fits()


@pytest.mark.parametrize(
    ("kind", "default"), [("cpu", CPU_TOKEN_BUDGET), ("cuda", GPU_TOKEN_BUDGET)]
)
def test_token_budget_has_room_for_every_sequence_and_a_block(kind: str, default: int) -> None:
    assert plan_of(kind=kind).token_budget == default
    assert token_budget(EngineSettings(max_num_batched_tokens=300), kind, tiny_config()) == 300
    many = EngineSettings(max_num_batched_tokens=300, max_num_seqs=4000, block_size=32)
    assert token_budget(many, kind, tiny_config()) == 4032


def test_token_budget_has_room_for_a_text_that_is_not_cut() -> None:
    config = tiny_config(max_model_len=5000).pooled(Pooling("embed", ("mean",)))
    assert token_budget(EngineSettings(), "cpu", config) == 5000
    assert token_budget(EngineSettings(max_model_len=300), "cpu", config) == POOLED_TOKEN_BUDGET
    few = EngineSettings(max_model_len=300, max_num_batched_tokens=16, max_num_seqs=8)
    assert token_budget(few, "cpu", config) == 300


def test_default_kv_bytes_are_a_share_of_what_is_left() -> None:
    assert default_kv_bytes("cpu", 10**9) == 3 * 10**8
    assert default_kv_bytes("cpu", 10**12) == 4 << 30
    assert default_kv_bytes("cuda", 10**9) == 85 * 10**7


def test_check_fits_says_how_much_is_missing() -> None:
    check_fits(10, 10)
    with pytest.raises(ModelError, match=r"need 26\.0 GB, 8\.0 GB are free\n.*--tp"):
        check_fits(26 * 10**9, 8 * 10**9)


def test_check_kv_fits_refuses_a_set_size_that_would_not_fit() -> None:
    """It was only reserved, and the kernel ended the rank once enough of it was written."""
    check_kv_fits(10, 20, 10)
    with pytest.raises(ModelError, match=r"450\.0 GB, 8\.0 GB are left for it\nfree"):
        check_kv_fits(450 * 10**9, 900 * 10**9, 8 * 10**9)


def test_plan_is_made_without_torch() -> None:
    program = "import sys, backend.placement.memory_plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_graphs_take_memory_where_some_are_captured() -> None:
    """They were counted for models that get none: --enforce-eager, encoders, vectors."""
    settings = EngineSettings(max_num_seqs=8)
    config = served().config
    assert graph_bytes(settings, config, "cuda") > 0
    assert graph_bytes(settings, config, "cpu") == 0
    eager = EngineSettings(max_num_seqs=8, enforce_eager=True)
    assert graph_bytes(eager, config, "cuda") == 0
    for name in ("Flan-T5-L", "BERT-L"):
        entry = find_entry(name)
        assert entry is not None
        other = config_of_fields(entry.config, name)
        assert graph_bytes(settings, other, "cuda") == 0
