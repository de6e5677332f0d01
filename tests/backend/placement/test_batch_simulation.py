"""Continuous batching in numbers: steps that cost what is easy to add up."""

from dataclasses import replace

import pytest

from backend.placement import batch_simulation
from backend.placement.batch_simulation import ROUNDS, BatchLimits, BatchResult, Load, simulate
from backend.placement.cost_model import Rows, StepTime

LIMITS = BatchLimits(max_seqs=64, token_budget=512, inter_token_s=0.0)


def run(load: Load, limits: BatchLimits = LIMITS, token_s: float = 0.0) -> BatchResult:
    """Steps of a second, and so much for each token of a prompt."""
    return simulate(load, limits, lambda rows: StepTime(1.0 + token_s * rows.prompt_tokens))


def test_one_stream_takes_a_step_for_each_token() -> None:
    result = run(Load(100, 10, 1))
    assert result.busy_s == pytest.approx(ROUNDS * 10)
    assert result.output_tokens == ROUNDS * 10
    assert result.inter_token_s == pytest.approx(1.0)
    assert set(result.ttft_s) == {1.0}


def test_streams_share_steps() -> None:
    assert run(Load(8, 10, 32)).busy_s == pytest.approx(ROUNDS * 10)


def test_prompt_longer_than_a_step_takes_several() -> None:
    result = run(Load(1100, 2, 1))
    assert result.median_ttft_s == pytest.approx(3.0)


def test_sequences_beyond_the_limit_wait() -> None:
    limits = BatchLimits(max_seqs=2, token_budget=512, inter_token_s=0.0)
    together, waiting = (run(Load(8, 10, 4), each) for each in (LIMITS, limits))
    assert waiting.busy_s == pytest.approx(2 * together.busy_s, rel=0.1)
    assert max(waiting.ttft_s) > 10 > max(together.ttft_s)


def test_prompts_beside_decodes_are_cut_to_the_time_there_is() -> None:
    """0.1 s a token and 2 s a step leave 10 tokens; 32 at least are taken."""
    largest = 0.0

    def cost(rows: Rows) -> StepTime:
        nonlocal largest
        if rows.decodes and rows.prompt_tokens < 256:  # a probe is of 256
            largest = max(largest, rows.prompt_tokens)
        return StepTime(1.0 + 0.1 * rows.prompt_tokens)

    limits = BatchLimits(max_seqs=8, token_budget=512, inter_token_s=2.0)
    simulate(Load(200, 50, 4), limits, cost)
    assert largest == 32
    limits = BatchLimits(max_seqs=8, token_budget=512, inter_token_s=11.0)
    largest = 0.0
    simulate(Load(200, 50, 4), limits, cost)
    assert largest == 100


def test_first_of_several_requests_begins_alone() -> None:
    """Four prompts of 128 were taken to be in one step, again and again; a server's first one is
    alone, and the others come beside its tokens, a part in each step."""
    limits = BatchLimits(max_seqs=8, token_budget=512, inter_token_s=2.0)
    late = replace(limits, arrival_s=0.25)
    together, apart = (run(Load(128, 32, 4), each, 1 / 128) for each in (limits, late))
    assert set(together.ttft_s) == {5.0}
    assert sorted(apart.ttft_s)[:2] == [2.25, 3.0]
    assert apart.median_ttft_s == 4.0


def test_stream_waits_for_its_request_to_arrive() -> None:
    late = BatchLimits(max_seqs=8, token_budget=512, inter_token_s=0.0, arrival_s=0.25)
    result = run(Load(8, 10, 1), late)
    assert set(result.ttft_s) == {1.25}
    assert result.busy_s == ROUNDS * 10.25
    assert result.inter_token_s == 1.0


def test_texts_that_run_whole_are_not_cut() -> None:
    limits = BatchLimits(max_seqs=8, token_budget=64, inter_token_s=0.0, chunks=False)
    seen: set[float] = set()

    def cost(rows: Rows) -> StepTime:
        seen.add(rows.prompt_tokens)
        return StepTime(1.0)

    result = simulate(Load(40, 0, 4), limits, cost)
    assert seen == {40}
    assert result.prompt_tokens == ROUNDS * 4 * 40


def test_long_prompts_and_answers_are_few_steps_to_look_at() -> None:
    """Each of their chunks was looked at: minutes for a plan of what long contexts take."""
    looked_at = 0

    def cost(rows: Rows) -> StepTime:
        nonlocal looked_at
        looked_at += 1
        return StepTime(1e-6 * rows.prompt_tokens, attention=rows.prompt_tokens * rows.position)

    load = Load(200_000, 20_000, 4)
    result = simulate(load, LIMITS, cost)
    assert looked_at < 2_000
    tokens = ROUNDS * 4 * load.prompt_tokens
    attended = tokens * load.prompt_tokens / 2
    assert result.times.reading == pytest.approx(1e-6 * tokens)
    assert result.times.attention == pytest.approx(attended, rel=1e-3)


def test_streams_that_move_together_do_as_those_that_move_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as running at once, and ten times as many: rates within 3 %, waiting within 10 %."""

    def cost(rows: Rows) -> StepTime:
        return StepTime(0.01, 1e-5 * rows.prompt_tokens + 1e-5 * rows.decodes)

    limits = BatchLimits(max_seqs=256, token_budget=2048, inter_token_s=0.05)
    loads = [Load(128, 64, streams) for streams in (256, 2560)]
    few = [simulate(load, limits, cost) for load in loads]
    monkeypatch.setattr(batch_simulation, "MOST_MOVED", 1 << 20)
    monkeypatch.setattr(batch_simulation, "_BATCHES", 1 << 20)
    for moved, alone in zip(few, (simulate(load, limits, cost) for load in loads), strict=True):
        rates = [each.output_tokens / each.busy_s for each in (moved, alone)]
        assert rates[0] == pytest.approx(rates[1], rel=0.03)
        assert moved.inter_token_s == pytest.approx(alone.inter_token_s, rel=0.05)
        assert moved.median_ttft_s == pytest.approx(alone.median_ttft_s, rel=0.1)


def test_cost_of_looking_is_bounded() -> None:
    looked_at = 0

    def cost(rows: Rows) -> StepTime:
        nonlocal looked_at
        looked_at += 1
        return StepTime(0.01, 1e-5 * rows.prompt_tokens)

    simulate(Load(128, 128, 65_536), BatchLimits(4096, 8192, 0.05), cost)
    assert looked_at < 1_500
