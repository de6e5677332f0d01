"""What layouts would take and give: a start's own budget, asked without a device."""

import msgspec
import pytest

from backend.placement import batch_simulation, prediction
from backend.placement.batch_simulation import Load
from backend.placement.hop import Hop
from backend.placement.layout import Layout
from backend.placement.memory_plan import MemoryPlan, RankDevice
from backend.placement.prediction import predict
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


def test_groups_of_many_streams_are_taken_as_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """130 streams of two groups, one more or less, in the same order and within 2 %."""
    model = served(max_num_seqs=128)
    loads = [Load(16, 16, streams) for streams in (129, 131)]
    together = [predict(model, READER, Layout(1, 2), load) for load in loads]
    monkeypatch.setattr(prediction, "_MANY_STREAMS", 1 << 20)
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
    monkeypatch.setattr(prediction, "_MANY_STREAMS", 1 << 20)
    monkeypatch.setattr(batch_simulation, "MOST_MOVED", 1 << 20)
    monkeypatch.setattr(batch_simulation, "_BATCHES", 1 << 20)
    full = speeds()
    assert sorted(fast, key=fast.__getitem__) == sorted(full, key=full.__getitem__)
    for shape, speed in fast.items():
        assert speed == pytest.approx(full[shape], rel=0.05)


@pytest.mark.parametrize(
    ("layout", "ways"),
    [
        # Two sums a layer, the plan before and the draw after: SmolLM2's 30 layers were measured
        # at 69 ways a token (tests/bench/over_nodes.py), 62 so.
        (Layout(2, nodes=2), 2 * 2 + 2),
        # There and back.
        (Layout(1, pp=2, nodes=2), 2),
        # Each stage on two nodes: two sums and its plan, and the last one's draw.
        (Layout(2, pp=2, nodes=4), 2 + 2 * (2 + 1) + 1),
        (Layout(2), 0),
        (Layout(1, pp=2), 0),
    ],
)
def test_token_takes_ways_between_nodes(layout: Layout, ways: int) -> None:
    near, far = (
        predict(served(), READER, layout, Load(16, 16, 1), Hop(0, latency_s)).inter_token_s
        for latency_s in (0.0, 10.0)
    )
    assert far - near == pytest.approx(10 * ways)
