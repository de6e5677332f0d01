"""The sampler against a plain one over the whole vocabulary, on one and several ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from backend.parallel import TensorParallel
from backend.philox import uniform
from backend.sampler import MAX_CANDIDATES, Sampler
from backend.shard import _even, _slices
from backend.step import Join
from backend.wire.sampling import SamplingParams
from tests.backend.ranks import run_ranks

VOCAB = 1000


def sample(
    logits: Tensor, params: list[SamplingParams], position: int = 0, size: int = 1,
    *, exact: bool = False,
) -> list[int]:  # fmt: skip
    """Draw one token a row with the vocabulary on `size` ranks; all must agree."""
    rows = np.arange(len(params), dtype=np.int32)
    parts = _slices(_even(logits.shape[1], size, 64))

    def work(tp: TensorParallel) -> list[int]:
        sampler = Sampler(len(params), parts[tp.rank], tp, exact=exact)
        for row, each in enumerate(params):
            sampler.join(Join(row, each))
        mine = logits[:, parts[tp.rank]].clone()
        tokens: list[int] = sampler.sample(mine, rows, np.full_like(rows, position)).tolist()
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


@pytest.mark.parametrize("size", [1, 3])
def test_frequencies_follow_the_probabilities(size: int) -> None:
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.05, 0.05]])).repeat(4000, 1)
    params = [SamplingParams(temperature=1.0, seed=seed) for seed in range(4000)]
    counts = np.bincount(sample(logits, params, size=size), minlength=5)
    expected = np.array([2000, 800, 800, 200, 200])
    # Chi-square, 4 degrees of freedom: 18.5 is the 0.1 % point; the draws never vary.
    assert ((counts - expected) ** 2 / expected).sum() < 18.5


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
    rows = np.zeros(1, np.int32)

    def work(tp: TensorParallel) -> tuple[list[int], int]:
        sampler = Sampler(1, parts[tp.rank], tp)
        drawn = []
        for seed in range(40):
            sampler.join(Join(0, SamplingParams(top_p=0.9, seed=seed)))
            drawn += sampler.sample(logits[:, parts[tp.rank]], rows, rows).tolist()
        return drawn, sampler.num_full_gathers

    for drawn, count in run_ranks(size, work):
        assert count == 40
        # Ninety of a hundred equal tokens are kept, the lowest ids, far beyond the candidates.
        assert max(drawn) > MAX_CANDIDATES and max(drawn) <= 0.9 * VOCAB


def test_a_row_samples_the_same_alone_and_among_others_in_exact_mode() -> None:
    logits = torch.randn(31, VOCAB, generator=torch.Generator().manual_seed(1))
    params = [SamplingParams(seed=i, top_p=(1.0, 0.9)[i % 2]) for i in range(31)]
    together = sample(logits, params, exact=True)
    alone = [sample(logits[i : i + 1], params[i : i + 1], exact=True)[0] for i in range(31)]
    assert together == alone
