"""A row's token and log-probabilities are the same bits alone, among others, in any order."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.native import kernels
from backend.placement.sharding import _even, _slices
from backend.sampling.sampler import Sampler
from backend.step import Join, PlannedSequence, build_plan
from backend.wire.messages import TokenLogprobs
from backend.wire.sampling import Grammar, SamplingParams
from tests.backend.tp_ranks import run_ranks

# Stock torch cuts a reduction of more than 32,768 numbers over its threads if it is the only one.
pytestmark = pytest.mark.numerics

VOCAB = 40_003
# Each kind of draw and of logits processor, alone and with others.
KINDS = [
    SamplingParams(),
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.7),
    SamplingParams(top_k=5),
    SamplingParams(top_k=300, top_p=0.9),
    SamplingParams(top_p=0.5, temperature=0.3),
    SamplingParams(top_p=0.99, temperature=1.5),
    SamplingParams(min_p=0.2),
    SamplingParams(temperature=2.0, min_p=0.01, top_p=0.8),
    SamplingParams(repetition_penalty=1.3, presence_penalty=0.5),
    SamplingParams(frequency_penalty=-1.0, no_repeat_ngram_size=2),
    SamplingParams(logit_bias=((3, 9.0), (39_000, 9.0))),
    SamplingParams(allowed_token_ids=(1, 20_000, 40_000), temperature=0.0),
    SamplingParams(bad_words=((5, 6), (7,)), min_tokens=9, stop_token_ids=(8,)),
    SamplingParams(grammar=Grammar("regex", "a")),
    SamplingParams(grammar=Grammar("regex", "b"), top_p=0.9),
]
LOGPROBS = [0, 1, 5, 20, None]
ROWS = [
    msgspec.structs.replace(KINDS[n % len(KINDS)], seed=n, logprobs=LOGPROBS[n % len(LOGPROBS)])
    for n in range(31)
]
POSITION = 3

Row = tuple[int, TokenLogprobs | None]


def random_logits(seed: int) -> Tensor:
    """Some peaked, some flat; rounded, so that equals are common as they are in a model's."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.1, 1.0, 3.0, 6.0] * 8)[: len(ROWS), None]
    return (torch.randn(len(ROWS), VOCAB, generator=generator) * spread).bfloat16().float()


def mask_of(row: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    words = np.random.default_rng(row).integers(0, 2**32, -(-VOCAB // 32), np.uint32)
    return words.view(np.int32)


def sample(logits: Tensor, rows: Sequence[int], tp: TensorParallel) -> list[Row]:
    """Draw for some of the rows, in this order, on one rank of a group."""
    part = _slices(_even(VOCAB, tp.size, 64))[tp.rank]
    sampler = Sampler(len(ROWS), part, tp, (2,))
    history = [5, 6, 7, 6, 5] * 4
    for row in rows:
        sampler.join(Join(row, ROWS[row], history, 12))
    plan = build_plan(1, [PlannedSequence([5], 20, [0] * 6, n, POSITION) for n in rows], [], 4)
    masked = [i for i, n in enumerate(rows) if ROWS[n].grammar]
    if masked:
        plan = plan.with_masks(masked, np.stack([mask_of(rows[i]) for i in masked]))
    mine = logits[list(rows), part].clone()
    sampled = sampler.sample(mine, plan, mine.clone)
    logprobs = sampled.logprobs or [None] * len(rows)
    return list(zip(sampled.token_ids.tolist(), logprobs, strict=True))


def set_num_threads(count: int) -> None:
    torch.set_num_threads(count)
    if kernels is not None:
        kernels.set_num_threads(count)


@pytest.fixture
def num_threads() -> Iterator[None]:
    """Give both kinds of threads their number back."""
    before = torch.get_num_threads()
    native = 1 if kernels is None else kernels.num_threads()
    yield
    set_num_threads(native)
    torch.set_num_threads(before)


@pytest.mark.usefixtures("sampling_level", "num_threads")
@pytest.mark.parametrize("size", [1, 2, 3])
def test_row_is_the_same_alone_and_in_any_batch(size: int) -> None:
    """Together on two threads, alone on one; the threads of a test are all ranks'."""
    logits = random_logits(size)
    everyone = list(range(len(ROWS)))
    shuffled = np.random.default_rng(size).permutation(everyone).tolist()
    batches = [shuffled[:3], shuffled[3:20], shuffled[20:], *([n] for n in everyone)]
    set_num_threads(2)
    together = run_ranks(size, lambda tp: sample(logits, everyone, tp))
    set_num_threads(1)
    apart = run_ranks(size, lambda tp: [sample(logits, batch, tp) for batch in batches])
    for whole, parts in zip(together, apart, strict=True):
        for batch, part in zip(batches, parts, strict=True):
            assert part == [whole[n] for n in batch]
