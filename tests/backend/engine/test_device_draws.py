"""Drawing on the device, a step ahead of the host: the texts of the CPU's sampler, step by step."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.device_draws import create_draws
from backend.engine.device_runner import DeviceRunner
from backend.engine.engine import Engine
from backend.placement.decode_sizes import DecodeSizes
from backend.step import Join, PlannedSequence, build_plan
from backend.wire.sampling import SamplingParams
from tests.backend.engine.test_device_runner import SEQS, SIZES, Request, World, engine

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
