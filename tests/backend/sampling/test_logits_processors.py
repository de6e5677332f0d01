"""Each rule against transformers' logits processor of the same name, whole and in shards."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from backend.sampling.logits_processors import RowState, apply_logits_processors
from backend.wire.sampling import SamplingParams

VOCAB = 40
EOS = 2

tokens = st.integers(0, VOCAB - 1)
histories = st.lists(tokens, min_size=1, max_size=30)


def apply(
    logits: Tensor, params: SamplingParams, history: list[int], num_prompt: int, shards: int = 1
) -> Tensor:
    """Apply all rules to one row among two that use none, cut into shards, grown step by step."""
    state = RowState.begin(params, history[:num_prompt], num_prompt)
    for token in history[num_prompt:]:
        state.append(token)
    others = [RowState.begin(SamplingParams(), [], 0) for _ in range(2)]
    rows = [others[0], state, others[1]]
    batch = torch.stack([logits, logits, logits])
    positions = [5, len(history) - num_prompt, 5]
    parts = []
    for part in torch.tensor_split(torch.arange(VOCAB), shards):
        own = batch[:, part].clone()
        apply_logits_processors(own, rows, positions, int(part[0]), [EOS], None)
        parts.append(own)
    result = torch.cat(parts, dim=1)
    assert torch.equal(result[0], logits) and torch.equal(result[2], logits), "free for others"
    return result[1]


def random_logits(seed: int) -> Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def processed(processor: Any, history: list[int], logits: Tensor) -> Tensor:
    out: Tensor = processor(torch.tensor([history]), logits[None].clone())[0]
    return out


@given(history=histories, seed=st.integers(0, 99), penalty=st.sampled_from([0.5, 1.3, 2.0]),
       shards=st.integers(1, 3))  # fmt: skip
@settings(deadline=None)
def test_repetition_penalty(history: list[int], seed: int, penalty: float, shards: int) -> None:
    logits = random_logits(seed)
    got = apply(
        logits, SamplingParams(repetition_penalty=penalty), history, len(history) // 2, shards
    )
    expected = processed(RepetitionPenaltyLogitsProcessor(penalty), history, logits)
    torch.testing.assert_close(got, expected)


@given(history=st.lists(st.integers(0, 3), min_size=1, max_size=30), size=st.integers(1, 4),
       cut=st.integers(0, 30), shards=st.integers(1, 3))  # fmt: skip
@settings(deadline=None)
def test_no_repeat_ngram(history: list[int], size: int, cut: int, shards: int) -> None:
    logits = random_logits(1)
    params = SamplingParams(no_repeat_ngram_size=size)
    got = apply(logits, params, history, min(cut, len(history)), shards)
    assert torch.equal(got, processed(NoRepeatNGramLogitsProcessor(size), history, logits))


@given(history=st.lists(st.integers(0, 4), min_size=1, max_size=10), shards=st.integers(1, 3),
       words=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=1,
                      max_size=4))  # fmt: skip
@settings(deadline=None)
def test_bad_words(history: list[int], words: list[list[int]], shards: int) -> None:
    logits = random_logits(2)
    params = SamplingParams(bad_words=tuple(tuple(word) for word in words))
    got = apply(logits, params, history, len(history), shards)
    assert torch.equal(got, processed(NoBadWordsLogitsProcessor(words), history, logits))


@given(num_output=st.integers(0, 6), minimum=st.integers(0, 6))
@settings(deadline=None)
def test_min_tokens(num_output: int, minimum: int) -> None:
    logits, history = random_logits(3), [5] * (4 + num_output)
    params = SamplingParams(min_tokens=minimum, stop_token_ids=(11,))
    got = apply(logits, params, history, 4)
    processor = MinNewTokensLengthLogitsProcessor(4, minimum, [EOS, 11])
    assert torch.equal(got, processed(processor, history, logits))


def test_ignored_ends_may_come_at_any_time() -> None:
    logits = random_logits(3)
    params = SamplingParams(min_tokens=9, ignore_eos=True, stop_token_ids=(11,))
    got = apply(logits, params, [5], 1)
    assert got[EOS] == logits[EOS] and got[11] == -torch.inf


@given(history=histories, seed=st.integers(0, 99), frequency=st.floats(-2, 2),
       presence=st.floats(-2, 2), shards=st.integers(1, 3))  # fmt: skip
@settings(deadline=None)
def test_penalties_of_the_output(
    history: list[int], seed: int, frequency: float, presence: float, shards: int
) -> None:
    """OpenAI's formula, written out: transformers has no processor for it."""
    logits = random_logits(seed)
    num_prompt = len(history) // 2
    params = SamplingParams(frequency_penalty=frequency, presence_penalty=presence)
    got = apply(logits, params, history, num_prompt, shards)
    counts = np.bincount(history[num_prompt:], minlength=VOCAB)
    expected = logits.double().numpy() - counts * frequency - (counts > 0) * presence
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5)


@given(bias=st.dictionaries(tokens, st.floats(-100, 100), max_size=5), shards=st.integers(1, 3),
       allowed=st.none() | st.sets(tokens, max_size=5))  # fmt: skip
@settings(deadline=None)
def test_bias_and_allowed_tokens(
    bias: dict[int, float], allowed: set[int] | None, shards: int
) -> None:
    logits = random_logits(4)
    params = SamplingParams(
        logit_bias=tuple(bias.items()),
        allowed_token_ids=None if allowed is None else tuple(allowed),
    )
    expected = logits.clone()
    for token, value in bias.items():
        expected[token] += value
    for token in range(VOCAB):
        if allowed is not None and token not in allowed:
            expected[token] = -torch.inf
    torch.testing.assert_close(apply(logits, params, [1], 1, shards), expected)


@pytest.mark.parametrize("num_prompt", [0, 3, 8])
def test_state_begun_late_is_the_state_grown_from_the_start(num_prompt: int) -> None:
    """A preempted or resumed sequence joins again with its whole history."""
    history = [3, 4, 3, 4, 5, 3, 4, 9]
    params = SamplingParams(repetition_penalty=1.2, frequency_penalty=0.5, no_repeat_ngram_size=2)
    late = RowState.begin(params, history, num_prompt)
    grown = RowState.begin(params, history[:num_prompt], num_prompt)
    for token in history[num_prompt:]:
        grown.append(token)
    assert late == grown
