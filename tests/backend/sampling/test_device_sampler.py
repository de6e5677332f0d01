"""The sampler of a GPU against the CPU's: the same tokens and scores for the same seeds and logits.

Sums of masses differ by less than 1e-6, so tokens would only where a draw or a filter's border
falls so near to a token's; none of the examples here does.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.topk import argmax
from backend.ops.triton.rules import StepTokens
from backend.placement.sharding import _even, _slices
from backend.sampling.device_sampler import DeviceSampler, SampledRows
from backend.sampling.sampler import Sampled, Sampler
from backend.step import FAULTY, NO_TOKEN, Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.tp_ranks import run_ranks

# The interpreter computes with numpy, which warns where a GPU goes on.
pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCAB = 300
EOS = [2]

draws: dict[str, Any] = {
    "temperature": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    "top_k": st.sampled_from([0, -1, 1, 5, 50, 280]),
    "top_p": st.sampled_from([1.0, 0.9, 0.5, 0.0]),
    "min_p": st.sampled_from([0.0, 0.05, 0.5]),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "choice": st.integers(0, 3),
}
tokens = st.integers(0, 9)
rules: dict[str, Any] = {
    "min_tokens": st.sampled_from([0, 3]),
    "stop_token_ids": st.sampled_from([(), (5, 6)]),
    "ignore_eos": st.booleans(),
    "presence_penalty": st.sampled_from([0.0, 0.7]),
    "frequency_penalty": st.sampled_from([0.0, -0.3, 1.1]),
    "repetition_penalty": st.sampled_from([1.0, 0.6, 2.0]),
    "no_repeat_ngram_size": st.sampled_from([0, 1, 2, 3]),
    "logit_bias": st.dictionaries(tokens, st.floats(-9, 9, width=32), max_size=3).map(
        lambda biases: tuple(biases.items())
    ),
    "allowed_token_ids": st.none() | st.lists(tokens, min_size=4).map(tuple),
    "bad_words": st.lists(st.lists(tokens, min_size=1, max_size=3).map(tuple), max_size=3).map(
        tuple
    ),
    "logprobs": st.sampled_from([None, None, 0, 4]),
}


def logits_of(count: int, seed: int, spread: float, width: int = VOCAB) -> Tensor:
    """bfloat16 makes equal logits common, as the model's own rounding does."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, width, generator=generator) * spread).bfloat16().float()


def plan_of(lasts: list[int], positions: list[int], places: list[int]) -> StepPlan:
    """A step that runs one token of each row and samples it."""
    planned = [
        PlannedSequence([last], place, [0] * (place // 64 + 1), n, position)
        for n, (last, position, place) in enumerate(zip(lasts, positions, places, strict=True))
    ]
    return build_plan(1, planned, [], 64)


def pair_of(joins: list[Join], width: int = VOCAB) -> tuple[Sampler, DeviceSampler]:
    cpu = Sampler(len(joins), slice(0, width), TensorParallel(), EOS)
    device = DeviceSampler(len(joins), slice(0, width), TensorParallel(), EOS, device=DEVICE)
    for join in joins:
        cpu.join(join)
        device.join(join)
    return cpu, device


def check(own: Sampled, expected: Sampled) -> None:
    assert own.token_ids.tolist() == expected.token_ids.tolist()
    assert len(own.logprobs) == len(expected.logprobs)
    for mine, theirs in zip(own.logprobs, expected.logprobs, strict=True):
        assert (mine is None) == (theirs is None)
        if mine and theirs:
            assert mine.rank == theirs.rank
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)
            assert [token for token, _ in mine.top] == [token for token, _ in theirs.top]
            assert [p for _, p in mine.top] == pytest.approx([p for _, p in theirs.top], abs=1e-5)


@given(
    params=st.lists(st.builds(SamplingParams, **draws), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.1, 1.0, 5.0]),
    position=st.integers(0, 100),
)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_draws_are_those_of_the_cpu(
    params: list[SamplingParams], seed: int, spread: float, position: int
) -> None:
    cpu, device = pair_of([Join(n, each) for n, each in enumerate(params)])
    logits, count = logits_of(len(params), seed, spread), len(params)
    plan = plan_of([0] * count, [position] * count, [0] * count)
    expected = cpu.sample(logits.clone(), plan, logits.clone)
    check(device.sample(logits.to(DEVICE), plan, logits.clone), expected)


@given(data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=4, deadline=None, derandomize=True)
def test_processors_are_those_of_the_cpu(data: st.DataObject, seed: int) -> None:
    """Some steps over histories of few tokens, that grow by what the plan says was drawn."""
    count = 4
    joins = []
    for row in range(count):
        history = data.draw(st.lists(tokens, min_size=1, max_size=12))
        params = data.draw(st.builds(SamplingParams, **draws, **rules))
        kept = history if params.looks_back else []
        joins.append((Join(row, params, kept, data.draw(st.integers(1, len(history)))), history))
    cpu, device = pair_of([join for join, _ in joins])
    places = [len(history) - 1 for _, history in joins]
    positions = [len(history) - join.num_prompt_tokens for join, history in joins]
    lasts = [history[-1] for _, history in joins]
    for step in range(3):
        logits = logits_of(count, seed + step, 2.0)
        plan = plan_of(lasts, positions, places)
        if data.draw(st.booleans()):
            mask = np.random.default_rng(seed).integers(-(2**31), 2**31, (2, 9), dtype=np.int32)
            plan = plan.with_masks([1, 3], mask)
        expected = cpu.sample(logits.clone(), plan, logits.clone)
        check(device.sample(logits.to(DEVICE), plan, logits.clone), expected)
        # The plan decides what comes next, not what was drawn.
        lasts = [data.draw(tokens) for _ in range(count)]
        places = [place + 1 for place in places]
        positions = [position + 1 for position in positions]


@pytest.mark.parametrize(
    "top_k", [20, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 600))]
)
def test_large_vocabularies_are_drawn_in_pieces(top_k: int) -> None:
    """Three pieces, whose best are merged; flat rows are drawn by level, among many equals."""
    width = 9000
    params = [
        SamplingParams(top_k=top_k, top_p=top_p, seed=seed)
        for seed, top_p in enumerate((1.0, 0.9, 0.05))
    ]
    cpu, device = pair_of([Join(n, each) for n, each in enumerate(params)], width)
    logits = logits_of(3, 1, 0.5, width)
    plan = plan_of([0] * 3, [4] * 3, [0] * 3)
    expected = cpu.sample(logits.clone(), plan, logits.clone)
    check(device.sample(logits.to(DEVICE), plan, logits.clone), expected)


def test_equal_logits_are_drawn_in_the_order_of_tokens() -> None:
    """Ninety of a hundred equal tokens are kept, the lowest ids, far beyond the candidates."""
    width = 1000
    params = [SamplingParams(top_p=0.9, seed=seed) for seed in range(6)]
    params += [SamplingParams(top_k=600, seed=seed) for seed in range(3)]
    _, device = pair_of([Join(n, each) for n, each in enumerate(params)], width)
    plan = plan_of([0] * 9, [0] * 9, [0] * 9)
    logits = torch.zeros(9, width, device=DEVICE)
    drawn = device.sample(logits, plan, logits.clone).token_ids
    fractions = device._draws.at(np.arange(9), np.zeros(9, np.int64))
    assert np.abs(drawn[:6] - fractions[:6] * 900).max() < 2
    assert drawn[6:].tolist() == [int(fraction * 600) for fraction in fractions[6:]]


@pytest.mark.parametrize("params", [
    {"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.99},
])  # fmt: skip
def test_rows_without_token_are_told(params: dict[str, Any]) -> None:
    joins = [Join(n, SamplingParams(**params)) for n in range(4)]
    _, device = pair_of([*joins[:3], Join(3, SamplingParams(**params, allowed_token_ids=()))])
    logits = torch.zeros(4, VOCAB, device=DEVICE)
    logits[0] = -torch.inf
    logits[1, 7] = torch.nan
    logits[2, 7] = torch.inf
    plan = plan_of([0] * 4, [0] * 4, [0] * 4)
    found = device.sample(logits, plan, logits.clone).token_ids.tolist()
    assert found == [NO_TOKEN, FAULTY, FAULTY, NO_TOKEN]


def test_row_whose_history_is_unreadable_fails_alone() -> None:
    broken = Join(1, SamplingParams(repetition_penalty=2.0), ["no token"], 1)  # type: ignore[list-item]
    _, device = pair_of([Join(0, SamplingParams(temperature=0.0)), Join(1, SamplingParams())])
    device.join(broken)
    logits = logits_of(2, 3, 1.0).to(DEVICE)
    plan = plan_of([0, 0], [0, 0], [0, 0])
    tokens = device.sample(logits.clone(), plan, logits.clone).token_ids.tolist()
    assert tokens == [int(logits[0].argmax()), FAULTY]


def test_padding_changes_no_row_and_none_its_neighbours() -> None:
    """A row's bits are those that it has alone, beside padding and beside others."""
    params = [SamplingParams(top_p=0.9, seed=4), SamplingParams(top_k=3, repetition_penalty=2.0)]
    joins = [Join(n, each, [5, 6, 5][: 3 * n], n) for n, each in enumerate(params)]
    _, together = pair_of(joins)
    logits, plan = logits_of(2, 5, 1.0).to(DEVICE), plan_of([0, 5], [1, 2], [0, 2])
    needs = together.needs(plan.sample_rows)
    drawn = together.draw(logits.clone(), SampledRows.from_plan(plan, DEVICE), needs).tokens
    rows, positions, last, input_ids, places = (
        torch.tensor(each, dtype=torch.int32, device=DEVICE)
        for each in ([-1, 1, 0, -1], [0, 2, 1, 0], [0, 2, 1, 0], [0, 0, 5, 0], [0, 0, 2, 0])
    )
    _, padded = pair_of(joins)
    step = SampledRows(rows, positions, StepTokens(last, input_ids, places))
    before = logits[[0, 1, 0, 0]]
    after = before.clone()
    tokens = padded.draw(after, step, needs).tokens
    assert tokens.tolist() == [0, int(drawn[1]), int(drawn[0]), 0]
    assert torch.equal(after[0], before[0]) and torch.equal(after[3], before[3])


def test_ranks_gather_what_they_draw_from() -> None:
    """They are threads here, in which kernels are not interpreted."""
    logits = logits_of(3, 2, 1.0)
    parts = _slices(_even(VOCAB, 3, 64))

    def work(tp: TensorParallel) -> Tensor:
        sampler = DeviceSampler(3, parts[tp.rank], tp, EOS, device=torch.device("cpu"))
        return sampler._gather_whole(logits[:, parts[tp.rank]])

    for whole in run_ranks(3, work):
        assert torch.equal(whole, logits)


@pytest.mark.parametrize("size", [1, 3])
def test_best_of_ranks_is_the_lowest_id_of_equals(size: int) -> None:
    logits = logits_of(4, 3, 1.0)
    logits[1, [270, 20, 140]] = 9.0
    logits[2] = -torch.inf
    logits[3, 200] = torch.nan
    parts = _slices(_even(VOCAB, size, 64))

    def work(tp: TensorParallel) -> list[int]:
        sampler = DeviceSampler(4, parts[tp.rank], tp, device=torch.device("cpu"))
        tokens: list[int] = sampler.choose(*argmax(logits[:, parts[tp.rank]])).token_ids.tolist()
        return tokens

    for found in run_ranks(size, work):
        assert found == [int(logits[0].argmax()), 20, NO_TOKEN, FAULTY]


def test_prompts_are_scored_as_on_the_cpu() -> None:
    cpu, device = pair_of([Join(0, SamplingParams())])
    logits = logits_of(3, 6, 2.0)
    expected = cpu.token_logprobs(logits, [5, 299, 0], [0, 3, 20])
    own = device.token_logprobs(logits.to(DEVICE), [5, 299, 0], [0, 3, 20])
    check(Sampled(np.zeros(3, np.int64), [*own]), Sampled(np.zeros(3, np.int64), [*expected]))
