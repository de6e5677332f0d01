"""What layouts would take and give: a start's own budget, asked without a device."""

import msgspec
import pytest

from backend.config.errors import ModelError
from backend.placement import batch_simulation, layouts
from backend.placement.batch_simulation import Load
from backend.placement.footprint import Footprint
from backend.placement.layouts import Layout, fit, predict
from backend.placement.memory_plan import MemoryPlan, RankDevice
from tests.backend.placement.planned_models import READER, served

LOAD = Load(prompt_tokens=16, output_tokens=16, concurrency=4)


def test_memory_is_what_a_start_would_plan() -> None:
    model = served()
    prediction = predict(model, READER, Layout(2), LOAD)
    (shard, footprint), _ = model.parts(2)
    device = RankDevice("cuda", "bfloat16", READER.memory_bytes)
    total = footprint.total
    plan = MemoryPlan.of(model.config, model.groups, shard, model.settings, total, device)
    memory = prediction.memory
    assert memory.weight_bytes == sum(total)
    assert memory.kv_bytes == plan.kv_bytes
    assert memory.activation_bytes == plan.rank_memory.activation_bytes
    assert memory.total_bytes <= memory.device_bytes == READER.memory_bytes


def test_sequences_that_fit_are_counted_in_whole_blocks() -> None:
    """32 tokens are one block of 32 in the only cache group; two groups have twice the room."""
    model = served(kv_cache_bytes=1 << 16)
    block_bytes = 32 * 2 * 2 * 2 * 16 * 2
    one, two = (predict(model, READER, Layout(1, dp), LOAD) for dp in (1, 2))
    assert one.fitting_seqs == (1 << 16) // block_bytes
    assert two.fitting_seqs == 2 * one.fitting_seqs
    assert predict(model, READER, Layout(1), Load(17, 16, 1)).fitting_seqs == one.fitting_seqs // 2


def test_groups_share_the_streams() -> None:
    """A step reads all weights whatever is in it: two groups of two streams are as fast as one."""
    one, two = (predict(served(), READER, Layout(1, dp), LOAD) for dp in (1, 2))
    assert two.tokens_per_s == pytest.approx(one.tokens_per_s, rel=0.01)
    uneven = predict(served(), READER, Layout(1, 2), Load(16, 16, 3))
    assert uneven.running_seqs == 3
    alone = predict(served(), READER, Layout(1, 4), Load(16, 16, 1))
    assert alone.running_seqs == 1


def test_time_of_a_request_is_that_of_its_tokens() -> None:
    prediction = predict(served(), READER, Layout(1), Load(16, 16, 1))
    assert prediction.bound == "reading"
    assert prediction.serial_share == 0
    assert prediction.request_s == pytest.approx(prediction.ttft_s + 15 * prediction.inter_token_s)
    assert prediction.tokens_per_s == pytest.approx(16 / prediction.request_s, rel=0.01)


@pytest.mark.parametrize(
    ("layout", "memory_bytes", "load", "message"),
    [
        (Layout(3), 1 << 24, LOAD, r"--tp 3 is more than tiny can be split into: it has 2 KV"),
        (Layout(1), 1 << 17, LOAD, "not enough memory: weights and activations need"),
        (Layout(1), 1 << 24, Load(1000, 100, 1), "are 1,100 tokens, tiny takes 1,024"),
        (Layout(1), 340_000 + 65_536, Load(500, 500, 1), "a sequence of 1,000 tokens takes"),
    ],
)
def test_layout_is_refused_in_a_starts_words(
    layout: Layout, memory_bytes: int, load: Load, message: str
) -> None:
    profile = msgspec.structs.replace(READER, memory_bytes=memory_bytes)
    with pytest.raises(ModelError, match=message):
        fit(served(), profile, layout, load)


def test_rank_with_more_kv_heads_has_room_for_less_of_a_cache() -> None:
    """Three ranks of four KV heads: the cache of the first is half of all, and was sized as a
    third of it."""
    model = served({"num_attention_heads": 8, "num_key_value_heads": 4})
    prediction = predict(model, READER, Layout(3), LOAD)
    assert prediction.memory.total_bytes <= READER.memory_bytes


def test_idle_groups_of_a_processor_leave_their_bandwidth() -> None:
    cpu = msgspec.structs.replace(READER, kind="cpu", threads=2, thread_read_bandwidth=0.8e6)
    alone = predict(served(), cpu, Layout(1, 2), Load(16, 16, 1))
    both = predict(served(), cpu, Layout(1, 2), Load(16, 16, 2))
    assert alone.inter_token_s == pytest.approx(both.inter_token_s * 0.5 / 0.8)


def test_fullest_rank_is_that_with_most_of_weights_and_cache() -> None:
    """Its weights alone may be the smallest: an MLP's columns even them out."""
    fitted = fit(
        served({"num_attention_heads": 8, "num_key_value_heads": 4}), READER, Layout(3), LOAD
    )
    assert 2 * fitted.plan.block_bytes == fitted.plan.group_block_bytes


def test_processor_is_shared_by_all_ranks() -> None:
    cpu = msgspec.structs.replace(READER, kind="cpu", threads=2)
    one, two = (fit(served(), cpu, layout, LOAD) for layout in (Layout(1), Layout(1, 2)))
    assert two.plan.free_bytes == one.plan.free_bytes // 2


@pytest.mark.parametrize(
    "fields",
    [
        {"num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 1024},
        {"num_attention_heads": 10, "num_key_value_heads": 5, "intermediate_size": 352},
        {"architectures": ["Gemma3ForCausalLM"], "num_key_value_heads": 2, "head_dim": 16},
        {
            "architectures": ["MixtralForCausalLM"],
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
    ],
)
@pytest.mark.parametrize("settings", [{}, {"quantization": "int4"}])
def test_ranks_that_keep_as_much_are_counted_once(
    fields: dict[str, object], settings: dict[str, str]
) -> None:
    """Each counted by itself has the same bytes."""
    model = served(fields, **settings)
    for tp in range(1, model.config.num_kv_heads + 1):
        parts = model.parts(tp)
        if fields.get("head_dim") == 256 and tp in (2, 4):
            assert len({id(footprint) for _, footprint in parts}) == 1
        for shard, footprint in parts:
            kinds = model.stored.kinds(model.config)
            alone = Footprint(
                model.stored, model.config, shard, model.kept, model.dtype, kinds=kinds
            )
            assert footprint.total == alone.total


def test_groups_of_many_streams_are_taken_as_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """130 streams of two groups, one more or less, in the same order and within 2 %."""
    model = served(max_num_seqs=128)
    loads = [Load(16, 16, streams) for streams in (129, 131)]
    together = [predict(model, READER, Layout(1, 2), load) for load in loads]
    monkeypatch.setattr(layouts, "_MANY_STREAMS", 1 << 20)
    for fast, load in zip(together, loads, strict=True):
        whole = predict(model, READER, Layout(1, 2), load)
        assert fast.tokens_per_s == pytest.approx(whole.tokens_per_s, rel=0.02)
        assert fast.running_seqs == whole.running_seqs


def test_fast_way_ranks_layouts_as_the_full_way_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 streams over eight devices: streams moved one by one, every group by itself."""
    profile = msgspec.structs.replace(
        READER, link_latency_s=1e-3, link_bandwidth=1e6, element_overhead_s=1e-7
    )
    model = served({"num_attention_heads": 8, "num_key_value_heads": 8}, max_num_seqs=64)
    load = Load(16, 16, 600)

    def speeds() -> dict[Layout, float]:
        shapes = [Layout(tp, 8 // tp) for tp in (1, 2, 3, 4, 8)]
        return {shape: predict(model, profile, shape, load).tokens_per_s for shape in shapes}

    fast = speeds()
    monkeypatch.setattr(layouts, "_MANY_STREAMS", 1 << 20)
    monkeypatch.setattr(batch_simulation, "MOST_MOVED", 1 << 20)
    monkeypatch.setattr(batch_simulation, "_BATCHES", 1 << 20)
    full = speeds()
    assert sorted(fast, key=fast.__getitem__) == sorted(full, key=full.__getitem__)
    for shape, speed in fast.items():
        assert speed == pytest.approx(full[shape], rel=0.05)
