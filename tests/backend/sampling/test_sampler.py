"""The sampler against a plain one over the whole vocabulary, on one and several ranks."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.topk import argmax
from backend.placement.sharding import _even, _slices
from backend.sampling.philox import uniform
from backend.sampling.sampler import MAX_CANDIDATES, Sampled, Sampler
from backend.step import FAULTY, NO_TOKEN, Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import Grammar, SamplingParams, Thought
from tests.backend.tp_ranks import run_ranks

VOCAB = 1000


def plan_of(count: int, position: int = 0) -> StepPlan:
    """A step that samples `count` rows, each at the same output position."""
    return build_plan(1, [PlannedSequence([0], 0, [0], n, position) for n in range(count)], [], 4)


def sample(
    logits: Tensor, params: list[SamplingParams], position: int = 0, size: int = 1
) -> list[int]:
    """Draw one token a row with the vocabulary on `size` ranks; all must agree."""
    parts = _slices(_even(logits.shape[1], size, 64))

    def work(tp: TensorParallel) -> list[int]:
        sampler = Sampler(len(params), parts[tp.rank], tp)
        for row, each in enumerate(params):
            sampler.join(Join(row, each))
        mine = logits[:, parts[tp.rank]].clone()
        tokens: list[int] = sampler.sample(
            mine, plan_of(len(params), position), mine.clone
        ).token_ids.tolist()
        return tokens

    results = run_ranks(size, work)
    assert all(result == results[0] for result in results)
    return results[0]


def plain_sample(logits: NDArray[np.float64], params: SamplingParams, position: int) -> set[int]:
    """The tokens that the definition allows: one, or two where the draw meets a border."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    if params.temperature == 0:
        return {int(order[0])}
    scaled = logits / params.temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    if params.top_k > 0 or params.top_p < 1 or params.min_p > 0:
        kept = weights[order]
        if params.top_k > 0:
            kept = kept[: params.top_k] / kept[: params.top_k].sum()
        before = np.cumsum(kept) - kept
        alive = (before < params.top_p) & (kept >= params.min_p * kept[0])
        alive[0] = True
        kept = kept * alive
    else:
        order, kept = np.arange(len(logits)), weights
    one = np.array([0])
    draw = uniform(one + params.seed, one + params.choice, one + position)[0]
    cumulative = np.cumsum(kept) / kept.sum()
    near = [np.searchsorted(cumulative, draw + e, side="right") for e in (-1e-6, 0, 1e-6)]
    return {int(order[min(int(place), len(order) - 1)]) for place in near}


param_sets = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, -1, 1, 5, 50, 400]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    seed=st.integers(-(2**63), 2**63 - 1),
    choice=st.integers(0, 3),
)


@pytest.mark.numerics
@pytest.mark.parametrize("size", [1, 2, 3])
@given(
    params=st.lists(param_sets, min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    position=st.integers(0, 100),
    spread=st.sampled_from([0.1, 1.0, 5.0]),
)
@settings(max_examples=40, deadline=None)
def test_tokens_are_those_of_the_definition(
    size: int, params: list[SamplingParams], seed: int, position: int, spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # bfloat16 makes equal logits common, as the model's own rounding does.
    logits = (torch.randn(len(params), VOCAB, generator=generator) * spread).bfloat16().float()
    tokens = sample(logits, params, position, size)
    for token, row, each in zip(tokens, logits.double().numpy(), params, strict=True):
        assert token in plain_sample(row, each, position)


@pytest.mark.numerics
@pytest.mark.parametrize("size", [1, 3])
def test_frequencies_follow_the_probabilities(size: int) -> None:
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.05, 0.05]])).repeat(4000, 1)
    params = [SamplingParams(temperature=1.0, seed=seed) for seed in range(4000)]
    counts = np.bincount(sample(logits, params, size=size), minlength=5)
    expected = np.array([2000, 800, 800, 200, 200])
    # Chi-square, 4 degrees of freedom: 18.5 is the 0.1 % point; the draws never vary.
    assert ((counts - expected) ** 2 / expected).sum() < 18.5


# What may draw another token than the best, or tells of the others.
ASKS_FOR_MORE: dict[str, Any] = {
    "temperature": 0.5,
    "min_tokens": 1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "no_repeat_ngram_size": 3,
    "logit_bias": ((7, 1.0),),
    "allowed_token_ids": (7,),
    "bad_words": ((7,),),
    "logprobs": 0,
    "grammar": Grammar("regex", "a"),
    "thought": Thought((7,), "b"),
}
ASKS_FOR_NOTHING: dict[str, Any] = {
    "top_p": 0.5, "top_k": 3, "min_p": 0.5, "seed": 5, "choice": 1, "max_tokens": 9,
    "ignore_eos": True, "stop_token_ids": (7,), "prompt_logprobs": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", SamplingParams.__struct_fields__)
def test_argmax_is_enough_for_plain_greedy_rows(name: str) -> None:
    asked = {**ASKS_FOR_MORE, **ASKS_FOR_NOTHING}[name]
    params = SamplingParams(**{"temperature": 0.0, name: asked})
    sampler = Sampler(2, slice(0, VOCAB), TensorParallel())
    sampler.join(Join(0, SamplingParams(temperature=0.0)))
    assert sampler.is_greedy(plan_of(1))
    sampler.join(Join(1, params))
    assert sampler.is_greedy(plan_of(2)) == (name in ASKS_FOR_NOTHING)
    masked = plan_of(1).with_masks([0], np.zeros((1, 4), np.int32))
    assert not sampler.is_greedy(masked)


@pytest.mark.parametrize("size", [1, 3])
def test_argmax_over_ranks_takes_the_lowest_id_of_equals(size: int) -> None:
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(3))
    logits[1, [700, 20, 400]] = 9.0
    logits[2] = -torch.inf
    logits[3, 500] = torch.nan
    parts = _slices(_even(VOCAB, size, 64))

    def work(tp: TensorParallel) -> list[int]:
        mine = logits[:, parts[tp.rank]]
        sampler = Sampler(4, parts[tp.rank], tp)
        tokens: list[int] = sampler.choose(*argmax(mine)).token_ids.tolist()
        return tokens

    for tokens in run_ranks(size, work):
        assert tokens == [int(logits[0].argmax()), 20, NO_TOKEN, FAULTY]


def test_equal_logits_prefer_the_lowest_id() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, [700, 20, 400]] = 1.0
    assert sample(logits, [SamplingParams(temperature=0.0)], size=3) == [20]
    top_two = [SamplingParams(top_k=2, seed=seed) for seed in range(50)]
    assert set(sample(logits.repeat(50, 1), top_two, size=3)) == {20, 400}


@pytest.mark.parametrize("size", [1, 2])
def test_flat_logits_are_gathered_in_full_and_counted(size: int) -> None:
    logits = torch.zeros(1, VOCAB)
    parts = _slices(_even(VOCAB, size, 64))

    def work(tp: TensorParallel) -> tuple[list[int], int]:
        sampler = Sampler(1, parts[tp.rank], tp)
        drawn = []
        for seed in range(40):
            sampler.join(Join(0, SamplingParams(top_p=0.9, seed=seed)))
            mine = logits[:, parts[tp.rank]].clone()
            drawn += sampler.sample(mine, plan_of(1), mine.clone).token_ids.tolist()
        return drawn, sampler.num_full_gathers

    for drawn, count in run_ranks(size, work):
        assert count == 40
        # Ninety of a hundred equal tokens are kept, the lowest ids, far beyond the candidates.
        assert max(drawn) > MAX_CANDIDATES and max(drawn) <= 0.9 * VOCAB


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_k", [0, 5])
def test_row_whose_rules_leave_nothing_gets_no_token(temperature: float, top_k: int) -> None:
    params = [
        SamplingParams(temperature=temperature, top_k=top_k, allowed_token_ids=()),
        SamplingParams(temperature=temperature, top_k=top_k, allowed_token_ids=(7,)),
    ]
    assert sample(torch.zeros(2, VOCAB), params, size=2) == [NO_TOKEN, 7]


@pytest.mark.parametrize("size", [1, 3])
def test_scores_are_log_softmax_of_raw_logits(size: int) -> None:
    """fp32 against fp64: 1e-5."""
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(2)) * 3
    params = [
        SamplingParams(seed=1, logprobs=4, logit_bias=((9, 100.0),)),
        SamplingParams(seed=2),
        SamplingParams(seed=3, logprobs=0, temperature=0.0),
    ]
    parts = _slices(_even(VOCAB, size, 64))

    def work(tp: TensorParallel) -> Sampled:
        sampler = Sampler(3, parts[tp.rank], tp)
        for row, each in enumerate(params):
            sampler.join(Join(row, each))
        mine = logits[:, parts[tp.rank]].clone()
        return sampler.sample(mine, plan_of(3), mine.clone)

    expected = logits.double().log_softmax(-1)
    for sampled in run_ranks(size, work):
        first, second, third = sampled.logprobs
        assert second is None and first is not None and third is not None
        token = int(sampled.token_ids[0])
        assert token == 9, "the bias decides what is drawn, not what is scored"
        assert first.logprob == pytest.approx(float(expected[0, 9]), abs=1e-5)
        assert first.rank == int((logits[0] > logits[0, 9]).sum())
        values, ids = expected[0].topk(4)
        assert [t for t, _ in first.top] == ids.tolist()
        assert [p for _, p in first.top] == pytest.approx(values.tolist(), abs=1e-5)
        assert third.rank == 0 and third.top == []
