"""Sequences of encoder-decoders: their input's blocks, and when encoders run."""

from typing import Any

import pytest

from backend.scheduler.sequence import Sequence, SequenceStatus
from backend.wire.messages import FinishReason
from backend.wire.sampling import SamplingParams
from tests.backend.scheduler.test_scheduler import make_scheduler, run, step


def encoded(
    number: int, num_encoded: int, max_tokens: int = 4, output: tuple[int, ...] = (), **params: Any
) -> Sequence:
    """A sequence whose decoder begins with token 1."""
    told = SamplingParams(max_tokens=max_tokens, **params)
    return Sequence((0, number), [1, *output], 1, told, encoder_ids=[5] * num_encoded)


def test_encoder_runs_once_in_the_step_of_the_first_token() -> None:
    scheduler = make_scheduler()
    scheduler.add(encoded(1, 9, max_tokens=3))
    plan, outputs = step(scheduler)
    assert plan is not None and plan.encoder_lens.tolist() == [9]
    assert plan.input_ids.tolist() == [1] and outputs[0].token_ids == [7]
    for _ in range(2):
        plan, outputs = step(scheduler)
        assert plan is not None and len(plan.encoder_ids) == 0
        assert plan.cross_lens.tolist() == [9]
    assert outputs[0].finish_reason is FinishReason.LENGTH
    assert scheduler.pool.num_free == scheduler.pool.num_blocks
    assert scheduler.num_prompt_tokens == 9 + 1


def test_preempted_sequence_runs_its_encoder_again() -> None:
    """Two inputs of 3 blocks; 9 blocks do not hold both answers of 13 tokens besides."""
    scheduler = make_scheduler(num_blocks=9)
    first, second = encoded(1, 12, max_tokens=13), encoded(2, 10, max_tokens=13)
    scheduler.add(first)
    scheduler.add(second)
    num_encoded, outputs = 0, []
    while scheduler.has_work:
        plan, news = step(scheduler)
        assert plan is not None
        num_encoded += len(plan.encoder_ids)
        outputs += news
    assert scheduler.num_preemptions == 1
    assert num_encoded == 12 + 10 + 10
    assert len(first.token_ids) == len(second.token_ids) == 14
    assert sum(len(out.token_ids) for out in outputs) == 26


def test_resumed_sequence_runs_its_answer_in_chunks() -> None:
    scheduler = make_scheduler(budget=16)
    scheduler.add(encoded(1, 8, max_tokens=40, output=(9,) * 30))
    sizes: list[tuple[int, int]] = []
    while not sizes or sum(size for _, size in sizes) < 31:
        plan, _ = step(scheduler)
        assert plan is not None
        sizes.append((len(plan.encoder_ids), plan.num_tokens))
    assert sizes == [(8, 8), (0, 16), (0, 7)]


def test_one_encoder_may_read_more_than_a_step_has_tokens() -> None:
    scheduler = make_scheduler(num_blocks=32, budget=16)
    for number, num_encoded in enumerate((6, 7, 20, 3)):
        scheduler.add(encoded(number, num_encoded, max_tokens=9))
    lens = [step(scheduler)[0] for _ in range(3)]
    assert [plan and plan.encoder_lens.tolist() for plan in lens] == [[6, 7], [20], [3]]


def test_equal_answers_to_other_prompts_share_nothing() -> None:
    """Prefixes are known by the decoder's tokens, which say nothing of what was read."""
    scheduler = make_scheduler(num_blocks=32)
    for number in (1, 2):
        scheduler.add(encoded(number, 4, max_tokens=20, output=(9,) * 12))
        run(scheduler)
    assert scheduler.num_prefix_queries == 0 and scheduler.num_prefix_hits == 0


def test_input_and_answer_together_have_the_models_length() -> None:
    scheduler = make_scheduler(num_blocks=64, max_len=40)
    fits = encoded(1, 30, max_tokens=10)
    scheduler.add(fits)
    run(scheduler)
    assert len(fits.token_ids) == 11 and fits.status is SequenceStatus.FINISHED
    too_long = encoded(2, 40, max_tokens=1)
    with pytest.raises(ValueError, match="40 tokens and 1 more do not fit: the model takes 40"):
        scheduler.add(too_long)
    small = make_scheduler(num_blocks=4, max_len=40)
    with pytest.raises(ValueError, match="13 tokens and 2 more do not fit"):
        small.add(encoded(3, 13, max_tokens=2))
    small.add(encoded(4, 12, max_tokens=4))


def test_encoder_input_is_in_the_vocabulary_and_not_scored() -> None:
    scheduler = make_scheduler()
    seq = encoded(1, 3)
    seq.encoder_ids[1] = 100_000
    with pytest.raises(ValueError, match="token id 100000 is not in"):
        scheduler.add(seq)
    with pytest.raises(ValueError, match="an encoder reads the prompt"):
        scheduler.add(encoded(2, 3, prompt_logprobs=0))
