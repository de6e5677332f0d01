"""What one request can do to a step ends there: that row fails on every rank, no other changes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.fault_injection import Faults, InjectedFault
from backend.placement.sharding import _even, _slices
from backend.sampling.faulty_sampler import FaultySampler
from backend.sampling.logits_processors import RowState
from backend.step import FAULTY, Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.tp_ranks import run_ranks

VOCAB = 1000
BAD = 2
# One of each kind of draw, and two whose rules look back.
PARAMS = [
    SamplingParams(temperature=0.0, seed=10),
    SamplingParams(seed=11),
    SamplingParams(seed=12, logit_bias=((5, 3.0),)),
    SamplingParams(seed=13, top_p=0.9, frequency_penalty=0.5),
    SamplingParams(seed=14, top_k=7, no_repeat_ngram_size=2),
]


def plan(position: int = 3) -> StepPlan:
    sequences = [
        PlannedSequence([100 + n], 20 + position, [0, 1, 2, 3, 4, 5, 6], n, position)
        for n in range(len(PARAMS))
    ]
    return build_plan(1, sequences, [], 4)


def draw(
    logits: Tensor, faults: str = "", size: int = 2, *, broken: int | None = None
) -> list[list[int]]:
    """Draw for PARAMS on every rank; return each rank's tokens. broken: a row that cannot join."""
    parts = _slices(_even(VOCAB, size, 64))

    def work(tp: TensorParallel) -> list[int]:
        injected = Faults(faults, tp.rank)
        sampler = FaultySampler(len(PARAMS), parts[tp.rank], tp, faults=injected)
        for row, params in enumerate(PARAMS):
            history = list(range(22)) if row != broken else [None] * 22
            sampler.join(Join(row, params, history, 20))  # type: ignore[arg-type]
        mine = logits[:, parts[tp.rank]].clone()
        tokens: list[int] = sampler.sample(mine.clone(), plan(), mine.clone).token_ids.tolist()
        return tokens

    return run_ranks(size, work)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(len(PARAMS), VOCAB, generator=torch.Generator().manual_seed(5)) * 3


@pytest.mark.parametrize("bad", range(len(PARAMS)))
@pytest.mark.parametrize("what", ["nan:seed={}:rank=1", "rules:seed={}:rank=1", "rules:seed={}"])
def test_row_that_fails_on_one_rank_fails_on_all(logits: Tensor, bad: int, what: str) -> None:
    [expected, _] = draw(logits)
    expected[bad] = FAULTY
    assert draw(logits, what.format(PARAMS[bad].seed)) == [expected, expected]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("bad", range(len(PARAMS)))
def test_logits_that_are_not_finite_fail_their_row(logits: Tensor, bad: int, value: float) -> None:
    [expected, _] = draw(logits)
    expected[bad] = FAULTY
    logits[bad, 900] = value
    assert draw(logits) == [expected, expected]


def test_row_whose_draw_fails_ends_alone(logits: Tensor) -> None:
    [expected, _] = draw(logits)
    expected[3] = FAULTY
    assert draw(logits, "draw:seed=13") == [expected, expected]


def test_row_with_unreadable_history_fails_at_its_first_sample(logits: Tensor) -> None:
    [expected, _] = draw(logits)
    expected[4] = FAULTY
    assert draw(logits, broken=4) == [expected, expected]


def test_history_follows_the_plan_and_not_the_draw() -> None:
    """A rank that drew something else than the lead must not go on with it."""
    state = RowState.begin(SamplingParams(frequency_penalty=1.0), [1, 2, 3], 2)
    for _ in range(2):  # the rules of a step may be applied twice
        state.catch_up(np.array([8, 9], np.int32), np.array([0, 3], np.int32), 1)
    assert list(state.token_ids) == [1, 2, 3, 9]
    state.catch_up(np.array([9], np.int32), np.array([3], np.int32), 0)
    assert list(state.token_ids) == [1, 2, 3, 9]


def test_fault_strikes_the_request_it_names_and_no_other() -> None:
    faults = Faults("rules:seed=7:rank=1:position=4 admission:seed=8", rank=1)
    assert faults
    faults.strike("rules", SamplingParams(seed=7), 3)
    faults.strike("rules", SamplingParams(seed=8), 4)
    with pytest.raises(InjectedFault):
        faults.strike("rules", SamplingParams(seed=7), 4)
    with pytest.raises(InjectedFault):
        faults.strike("admission", SamplingParams(seed=8))
    assert not Faults("rules:seed=7:rank=1", rank=0)


@pytest.mark.parametrize("text", ["nonsense:seed=1", "rules", "rules:seed=x", "rules:speed=1"])
def test_fault_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Faults(text)
