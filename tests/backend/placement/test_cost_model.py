"""What steps cost, part by part, on devices that are good at all but one thing."""

from typing import Any

import msgspec
import pytest

from backend.placement.batch_simulation import Load
from backend.placement.cost_model import RankSpeed, Rows, StepCost, StepTime
from backend.placement.device_profile import DeviceProfile, MultiplyRate, Serving
from backend.placement.fit import fit
from backend.placement.layout import Layout
from backend.placement.prediction import step_cost
from backend.placement.rank_work import chosen_experts
from backend.quant.weight_format import WeightFormat
from tests.backend.placement.planned_models import READER, served

DECODE = Rows(decodes=1, context=16, sampled=1)
# q, k, v, o, gate, up and down of two layers, and the head, in numbers.
LINEARS = 2 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 128)
HEAD = 256 * 64


def cost_of(profile: DeviceProfile, tp: int = 1, **settings: Any) -> StepCost:
    model = served(settings.pop("fields", None), **settings)
    layout = Layout(tp)
    return step_cost(model, profile, layout, fit(model, profile, layout, Load(8, 8, 1)))


def test_weights_are_read_once_a_step() -> None:
    cost = cost_of(READER)
    assert cost.of(DECODE).total == pytest.approx(2 * (LINEARS + HEAD) / 1e6)
    assert cost.of(Rows(decodes=8, context=16, sampled=8)).reading == cost.of(DECODE).reading
    # A prompt's chunk that draws no token needs no head.
    chunk = cost.of(Rows(0, 0, prompt_tokens=32))
    assert chunk.total == pytest.approx(2 * LINEARS / 1e6)


def test_products_take_two_operations_a_number_and_row() -> None:
    profile = msgspec.structs.replace(
        READER, read_bandwidth=1e30, multiply={"bf16": MultiplyRate(1e6, ((1, 0.5), (2, 1.0)))}
    )
    cost = cost_of(profile)
    assert cost.of(DECODE).multiplying == pytest.approx(2 * (LINEARS + HEAD) / 0.5e6)
    two = cost.of(Rows(decodes=2, context=16, sampled=2))
    assert two.multiplying == pytest.approx(2 * 2 * (LINEARS + HEAD) / 1e6)


def test_reading_and_multiplying_hide_each_other_in_part() -> None:
    profile = msgspec.structs.replace(READER, multiply={"bf16": MultiplyRate(1e6)})
    each_s = 2 * (LINEARS + HEAD) / 1e6
    assert cost_of(profile).of(DECODE).total == pytest.approx(2**0.5 * each_s)


def test_attention_reads_what_a_token_sees() -> None:
    """A token's keys and values: 2 layers of 2 heads of 16 numbers, twice, in bfloat16."""
    profile = msgspec.structs.replace(READER, read_bandwidth=1e30, attention_bandwidth=1e6)
    cost = cost_of(profile)
    assert cost.of(DECODE).attention == pytest.approx(16 * 2 * 2 * 16 * 2 * 2 / 1e6)
    windowed = cost_of(
        profile,
        fields={"architectures": ["MistralForCausalLM"], "sliding_window": 4},
    )
    assert windowed.of(DECODE).attention == pytest.approx(4 * 2 * 2 * 16 * 2 * 2 / 1e6)


def test_ranks_share_products_and_pay_for_sums() -> None:
    """Two sums a layer, of 64 numbers in bfloat16."""
    profile = msgspec.structs.replace(READER, link_bandwidth=1e3, link_latency_s=0.25)
    one, two = (cost_of(profile, tp).of(DECODE) for tp in (1, 2))
    assert two.reading == pytest.approx(one.reading / 2)
    assert one.sums == 0.0
    assert two.sums == pytest.approx(4 * (0.25 + 64 * 2 / 1e3))


def test_serial_part_is_that_of_step_layers_rows_and_units() -> None:
    profile = msgspec.structs.replace(
        READER,
        step_overhead_s=1.0,
        layer_overhead_s=0.25,
        token_overhead_s=0.5,
        element_overhead_s=1 / 128,
    )
    rows = Rows(decodes=1, context=1, prompt_tokens=2, sampled=1)
    for tp in (1, 2):
        assert cost_of(profile, tp).of(rows).serial == pytest.approx(1 + 2 * 0.25 + 0.5 + 3)


def test_experts_that_nobody_chose_are_not_read() -> None:
    assert chosen_experts(8, 0.25, 1) == pytest.approx(0.25)
    assert chosen_experts(8, 0.25, 2) == pytest.approx(1 - 0.75**2)
    fields = {
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    cost = cost_of(READER, fields=fields)
    dense = 2 * (LINEARS - 2 * 3 * 64 * 128 + HEAD) + 2 * 2 * 8 * 64  # and a router
    experts = 2 * 2 * 8 * 3 * 64 * 128
    assert cost.of(DECODE).reading == pytest.approx((dense + experts / 4) / 1e6)


def test_ranks_of_a_processor_share_its_threads() -> None:
    cpu = msgspec.structs.replace(
        READER, kind="cpu", threads=4, read_bandwidth=4e6, thread_read_bandwidth=2e6
    )

    def speed(threads: int, active: int) -> RankSpeed:
        return RankSpeed(cpu, "int16", "bf16", threads, active)

    assert speed(4, 1).read_bandwidth(1e6) == 4e6
    assert speed(1, 1).read_bandwidth(1e6) == 2e6, "one thread reads no faster"
    assert speed(1, 4).read_bandwidth(1e6) == 1e6
    assert (speed(4, 1).share(), speed(2, 2).share(), speed(4, 4).share()) == (1.0, 0.5, 0.25)


def test_thread_alone_multiplies_more_than_its_share() -> None:
    """One of two makes 3/5 of what both do: it was taken to make half, and predicted so slow."""
    cpu = msgspec.structs.replace(READER, kind="cpu", threads=3, thread_shares=((1, 0.6), (9, 0.4)))

    def share(threads: int, active: int, rows: int = 1) -> float:
        return RankSpeed(cpu, "int16", "bf16", threads, active).share(rows)

    assert (share(1, 1), share(1, 1, 5), share(1, 1, 64)) == pytest.approx((0.6, 0.5, 0.4))
    assert (share(3, 1), share(1, 3), share(3, 2)) == pytest.approx((1.0, 1 / 3, 1 / 2))
    assert share(1, 2) == pytest.approx((0.6 + 1 / 3) / 2), "halfway between one and all"


def test_threads_meet_in_every_product_and_the_head() -> None:
    """Four products a layer: qkv, out, gate and up, down. One thread meets none."""
    cpu = msgspec.structs.replace(READER, kind="cpu", threads=2, meetings=((1, 0.5), (3, 1.0)))
    model = served(None)
    work = step_cost(model, cpu, Layout(1), fit(model, cpu, Layout(1), Load(8, 8, 1))).work

    def serial_s(threads: int, rows: Rows) -> float:
        return StepCost(work, RankSpeed(cpu, "int16", "bf16", threads, 1), 1).of(rows).serial

    assert serial_s(2, Rows(decodes=1, context=4, sampled=1)) == pytest.approx(9 * 0.5)
    assert serial_s(2, Rows(decodes=2, context=4, prompt_tokens=1, sampled=1)) == 8 * 1.0 + 0.5
    assert serial_s(1, Rows(decodes=1, context=4, sampled=1)) == 0.0


def test_thread_reads_a_small_model_at_a_rate_of_its_own() -> None:
    """A cache helps all threads together: one was taken to gain as much, and is twice as slow."""
    cpu = msgspec.structs.replace(
        READER,
        kind="cpu",
        threads=2,
        read_by_bytes=((1_000, 6e6), (4_000, 2e6)),
        thread_read_by_bytes=((1_000, 1.5e6), (4_000, 1e6)),
    )
    assert RankSpeed(cpu, "int16", "bf16", 1, 1).read_bandwidth(1_000) == 1.5e6
    assert RankSpeed(cpu, "int16", "bf16", 2, 1).read_bandwidth(1_000) == 3e6
    assert RankSpeed(cpu, "int16", "bf16", 1, 2).read_bandwidth(2_000) == 1e6


def test_keys_and_values_pass_through_the_same_caches_as_weights() -> None:
    fields = {"kind": "cpu", "read_bandwidth": 1e6, "attention_bandwidth": 1e6}
    profile = msgspec.structs.replace(READER, **fields)
    read_s = 16 * 2 * 2 * 16 * 2 * 2 / 1e6
    assert cost_of(profile).of(DECODE).attention == pytest.approx(2**0.5 * read_s)


def test_serving_costs_by_whom_it_takes_cores_from() -> None:
    cpu = msgspec.structs.replace(
        READER,
        kind="cpu",
        threads=2,
        beside_free_core=Serving(1.0, 0.5),
        on_all_cores=Serving(2.0, 0.5),
        on_each_core=Serving(4.0, 0.25),
    )
    model = served(None)
    fitted = fit(model, cpu, Layout(1), Load(8, 8, 1))
    work = step_cost(model, cpu, Layout(1), fitted).work
    rows = Rows(decodes=2, context=1, sampled=2)

    def serial_s(threads: int, active: int) -> float:
        return StepCost(work, RankSpeed(cpu, "int16", "bf16", threads, active), 1).of(rows).serial

    assert (serial_s(2, 1), serial_s(1, 2), serial_s(1, 1)) == (3.0, 4.5, 2.0)
    chunk = Rows(0, 0, prompt_tokens=4)
    assert StepCost(work, RankSpeed(cpu, "int16", "bf16", 1, 2), 1).of(chunk).serial == 0.0


def test_arithmetic_that_was_not_measured_falls_back() -> None:
    profile = msgspec.structs.replace(READER, multiply={"fp32": MultiplyRate(7.0)})
    assert RankSpeed(profile, "int16", "bf16").rate(WeightFormat.Q4_1) == MultiplyRate(7.0)


def test_times_add_up() -> None:
    time = StepTime(1.0, 2.0, 3.0, 4.0, 5.0)
    assert (time + time).total == time.times(2).total == 30.0


def test_layers_own_cost_differs_in_steps_with_prompts() -> None:
    profile = msgspec.structs.replace(READER, layer_overhead_s=1.0, prompt_layer_overhead_s=3.0)
    cost = cost_of(profile)
    assert cost.of(DECODE).serial == 2.0
    assert cost_of(profile, tp=2).of(DECODE).serial == 6.0, "sums are called, nothing is replayed"
    assert cost.of(Rows(1, 16, prompt_tokens=4, sampled=1)).serial == 6.0
