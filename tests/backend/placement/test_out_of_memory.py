"""What a start says whose device had no room left."""

import msgspec

from backend.config.cache_groups import FULL_GROUPS
from backend.placement.memory import ModelFootprint
from backend.placement.memory_plan import MemoryPlan, RankDevice
from backend.placement.out_of_memory import out_of_memory
from backend.placement.sharding import split_model
from backend.settings import EngineSettings
from tests.backend.factories import tiny_config

SETTINGS = EngineSettings(max_num_seqs=64, kv_cache_bytes=500 << 20)


def plan_of(settings: EngineSettings, step_bytes: int = 0) -> MemoryPlan:
    config = tiny_config()
    [shard] = split_model(config, 1)
    footprint = ModelFootprint(10 << 20, 0)
    device = RankDevice("cuda", "bfloat16", 2 << 30)
    return MemoryPlan.of(config, FULL_GROUPS, shard, settings, footprint, device, step_bytes)


def test_every_way_out_is_less_than_what_failed() -> None:
    plan = plan_of(SETTINGS)
    words = str(out_of_memory(plan, SETTINGS, "cuda:1", "the KV cache was made"))
    assert words.startswith("cuda:1 ran out of memory while the KV cache was made: planned were")
    assert "KV cache 0.5 GB" in words
    assert (
        f"--kv-cache-bytes {400 << 20}, --max-num-batched-tokens 1024, --max-num-seqs 32" in words
    )
    assert "--enforce-eager" in words and len(words.splitlines()) == 3


def test_ways_that_are_taken_are_not_named_again() -> None:
    settings = msgspec.structs.replace(SETTINGS, enforce_eager=True, max_num_seqs=1)
    words = str(out_of_memory(plan_of(settings), settings, "cuda:0", "weights were loaded"))
    assert "enforce-eager" not in words and "max-num-seqs" not in words


def test_measured_steps_and_graphs_count() -> None:
    estimated, measured = plan_of(SETTINGS), plan_of(SETTINGS, 300 << 20)
    eager = plan_of(msgspec.structs.replace(SETTINGS, enforce_eager=True), 300 << 20)
    graphs = measured.rank_memory.activation_bytes - eager.rank_memory.activation_bytes
    assert graphs > 0
    assert eager.rank_memory.activation_bytes >= 300 << 20
    assert estimated.rank_memory.activation_bytes != measured.rank_memory.activation_bytes
