"""Drawing on the device, a step ahead of the host: the texts of the CPU's sampler, step by step."""

import threading
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from triton.runtime.interpreter import InterpretedFunction

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.device_draws import create_draws
from backend.engine.device_runner import DeviceRunner
from backend.engine.engine import Engine
from backend.engine.forwarded_step import ForwardedStep
from backend.models.model import Model
from backend.placement.decode_sizes import DecodeSizes
from backend.sampling.device_sampler import SampledRows
from backend.step import Join, PlannedSequence, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.engine.test_device_runner import SEQS, SIZES, Request, World, engine
from tests.backend.tp_ranks import run_ranks

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

__all__ = ["engine"]


class DeviceWorld(World):
    """The sampler is on the device, too."""

    def device_runner(self, sizes: DecodeSizes | None = SIZES) -> DeviceRunner:
        runner = super().device_runner(sizes)
        model, config = self.engine.model, self.engine.config
        vocab, device = slice(0, config.vocab_size), torch.device("cpu")
        tp = TensorParallel()
        draws = create_draws(model, SEQS, vocab, config.eos_token_ids, tp, device)
        assert draws is not None
        runner._draws, runner._sampler = draws, draws.sampler
        return runner


def test_scores_come_with_the_tokens(engine: Engine) -> None:
    """Of a prompt and of what is drawn: launched without waiting, and those of the host."""
    runner = DeviceWorld(engine).device_runner()
    told = SamplingParams(temperature=0.0, logprobs=2, prompt_logprobs=1)
    prompt = PlannedSequence([9, 10, 11, 12], 0, [0, 1], 0, 0, 0, [10, 11, 12], 1)
    plan = build_plan(1, [prompt], [Join(0, told)], 4)
    assert not runner.waits(plan)
    own, expected = runner.run(plan), engine.runner.run(plan)
    assert own.token_ids == expected.token_ids
    pairs = [
        *zip(own.prompt_logprobs, expected.prompt_logprobs, strict=True),
        *zip(own.logprobs, expected.logprobs, strict=True),
    ]
    assert len(pairs) == 4
    for mine, theirs in pairs:
        assert mine is not None and theirs is not None
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        assert mine.rank == theirs.rank
        assert [token for token, _ in mine.top] == [token for token, _ in theirs.top]


def test_texts_are_those_that_the_host_draws(engine: Engine) -> None:
    """Histories hold tokens that the lead has not seen; nothing waits."""
    world = DeviceWorld(engine)
    requests = [Request((9, 10, 11), 3, 6), Request((9, 10), 0, 3), Request((9, 10), 2, 3)]
    assert world.ahead(requests) == world.one_by_one(requests)
    assert world.queue.most_in_flight == 2


class ShardedLogits:
    """A model whose hidden states are its logits, of which a rank has some tokens."""

    def __init__(self, vocab: slice) -> None:
        self._vocab = vocab

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden[:, self._vocab].clone()

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        values, ids = hidden[:, self._vocab].max(1)
        return values, ids


def test_ranks_gather_rows_that_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of five rows are greedy and have no grammar: of theirs no logits are gathered."""
    lock, run = threading.Lock(), InterpretedFunction.run

    def run_alone(kernel: Any, *arguments: Any, **more: Any) -> None:
        with lock:  # the interpreter has one program at a time
            run(kernel, *arguments, **more)

    monkeypatch.setattr(InterpretedFunction, "run", run_alone)
    greedy = SamplingParams(temperature=0.0)
    params = [
        greedy,
        SamplingParams(temperature=1.0, top_k=5, seed=3, logprobs=2),
        greedy,
        SamplingParams(temperature=0.0, repetition_penalty=2.0),
        greedy,
    ]
    hidden = torch.randn(5, 320, generator=torch.Generator().manual_seed(1))
    mask = np.full((1, 10), 0x0F0F0F0F, np.int32)
    seqs = [PlannedSequence([7], 2, [0], row, 1) for row in range(5)]
    joins = [Join(row, each, [5, 6], 2) for row, each in enumerate(params)]
    plan = build_plan(1, seqs, joins, 16).with_masks([4], mask)
    device, gathered = torch.device("cpu"), []

    def work(tp: TensorParallel) -> tuple[list[int], list[Any]]:
        gather, width = tp.all_gather, 320 // tp.size
        vocab = slice(width * tp.rank, width * (tp.rank + 1))
        draws = create_draws(cast(Model, ShardedLogits(vocab)), 5, vocab, [2], tp, device)
        assert draws is not None

        def noted(x: Tensor) -> Tensor:
            gathered.append(tuple(x.shape))
            return gather(x)

        monkeypatch.setattr(tp, "all_gather", noted)
        for join in plan.joins:
            draws.sampler.join(join)
        sampled = SampledRows.from_plan(plan, device)
        drawing = draws.draw(plan, ForwardedStep(hidden, *sampled[:2], *sampled.tokens))
        scores = None if drawing.scores is None else drawing.scores.numpy()
        return drawing.tokens.tolist(), drawing.logprobs(scores)

    [alone] = run_ranks(1, work)
    gathered.clear()
    assert run_ranks(2, work) == [alone, alone]
    assert gathered.count((3, 160)) == 2 and (5, 160) not in gathered
    assert [each is not None for each in alone[1]] == [False, True, False, False, False]
    assert alone[0][0] == int(hidden[0].argmax()) and alone[0][4] % 8 < 4
