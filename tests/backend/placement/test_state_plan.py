"""How a budget is shared by states of running sequences, snapshots and blocks."""

from typing import Any

import msgspec
import pytest

from backend.config.cache_groups import CacheGroup
from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.spec import Layer, ShortConv
from backend.placement.memory import ModelFootprint
from backend.placement.memory_plan import MemoryPlan, RankDevice
from backend.placement.sharding import split_model
from backend.placement.state_plan import StatePlan, group_slot_bytes, rank_slot_bytes
from backend.settings import EngineSettings
from tests.backend.factories import tiny_config

# Two taps of 64 channels in float32, in one of two layers.
SLOT = 2 * 64 * 4


def hybrid() -> ModelConfig:
    config = tiny_config()
    conv = Layer(None, config.spec.layers[0].mlp, state=ShortConv(64, 3))
    layers = (conv, config.spec.layers[1])
    return msgspec.structs.replace(config, spec=msgspec.structs.replace(config.spec, layers=layers))


def plan_of(budget_bytes: int, *, has_blocks: bool = True, **settings: Any) -> StatePlan:
    told = EngineSettings(**{"max_num_seqs": 10, **settings})
    config = hybrid()
    [shard] = split_model(config, 1)
    return StatePlan.of(config, shard, told, budget_bytes, has_blocks=has_blocks)


def test_running_sequences_come_first_then_snapshots() -> None:
    plan = plan_of(110 * SLOT)
    assert (plan.num_seqs, plan.num_snapshots, plan.num_slots) == (10, 25, 35)
    assert plan.bytes == plan.group_bytes == 35 * SLOT
    assert plan.note(10) == ()


def test_fewer_sequences_run_where_half_the_budget_is_too_little() -> None:
    plan = plan_of(12 * SLOT)
    assert (plan.num_seqs, plan.num_snapshots) == (6, 1)
    [line] = plan.note(10)
    assert line.startswith(
        "--max-num-seqs 10 is lowered to 6: each sequence keeps states of 512 bytes;"
    )
    assert plan_of(12 * SLOT, has_blocks=False).num_seqs == 10


def test_snapshots_take_what_is_set_for_them_or_nothing() -> None:
    assert plan_of(110 * SLOT, state_cache_bytes=40 * SLOT).num_snapshots == 40
    assert plan_of(110 * SLOT, prefix_caching=False).num_snapshots == 0
    with pytest.raises(ModelError, match=r"--state-cache-bytes .* is too much"):
        plan_of(110 * SLOT, state_cache_bytes=101 * SLOT)


def test_budget_without_room_for_one_sequence_is_refused() -> None:
    with pytest.raises(ModelError, match=r"states of one sequence: they take 512 bytes, 1,000"):
        plan_of(1000)


def test_model_without_states_has_no_slots() -> None:
    config = tiny_config()
    [shard] = split_model(config, 1)
    plan = StatePlan.of(config, shard, EngineSettings(max_num_seqs=7), 10**6, has_blocks=True)
    assert (plan.num_seqs, plan.num_slots, plan.bytes) == (7, 0, 0)


def test_slots_of_all_ranks_make_one() -> None:
    config = hybrid()
    parts = [rank_slot_bytes(config, shard) for shard in split_model(config, 3)]
    assert sum(parts) == group_slot_bytes(config) == SLOT
    assert min(parts) > 0


def test_blocks_get_what_slots_leave() -> None:
    config = hybrid()
    [shard] = split_model(config, 1)
    device = RankDevice("cpu", "float32", 1 << 30)
    settings = EngineSettings(block_size=16, max_num_seqs=10, kv_cache_bytes=1 << 20)
    footprint = ModelFootprint(500_000, 0)
    plan = MemoryPlan.of(config, (CacheGroup((1,)),), shard, settings, footprint, device)
    left = (1 << 20) - plan.states.group_bytes
    assert plan.num_blocks == left // plan.group_block_bytes
    assert plan.room == (plan.num_blocks, 10, plan.states.num_snapshots)
    assert plan.agreed(5, 4, 3).states.num_slots == 7


def test_snapshots_are_as_far_apart_as_their_keys_are_large() -> None:
    """In all groups together: those with a window keep no more of a longer prefix."""
    config = hybrid()
    wide = Layer(None, config.spec.layers[0].mlp, state=ShortConv(1 << 18, 3))
    layers = (wide, *[config.spec.layers[1]] * 3)
    spec = msgspec.structs.replace(config.spec, layers=layers)
    config = msgspec.structs.replace(config, spec=spec)
    [shard] = split_model(config, 1)
    settings = EngineSettings(block_size=16, max_num_seqs=1, kv_cache_bytes=1 << 23)
    device = RankDevice("cpu", "float32", 1 << 30)
    footprint = ModelFootprint(500_000, 0)

    def interval(*windows: int) -> int:
        groups = [CacheGroup((place,), window) for place, window in enumerate(windows, 1)]
        plan = MemoryPlan.of(config, groups, shard, settings, footprint, device)
        return plan.snapshot_interval(16)

    one, two, three = interval(0, 8, 8), interval(0, 0, 8), interval(0, 0, 0)
    assert one > 512 and two in (one // 2, one // 2 + 8) and three < two
    assert interval(8, 8, 8) == three
