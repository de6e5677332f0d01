"""Every family cut into stages: the same bits as with all layers on one rank.

Stages run as threads over real links; the first has the scheduler, as a lead has.
"""

import queue
from pathlib import Path
from typing import Any

import pytest

from backend.distributed.pipeline import Pipeline
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.engine.model_runner import StepResult
from backend.native import kernels as native
from backend.scheduler.sequence import Sequence
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.wire.group_shape import GroupShape
from backend.wire.messages import SeqOutput
from tests.backend.factories import write_tiny_llama
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.test_families import CASES
from tests.backend.models.tiny_engine import scheduler_of, sequence
from tests.backend.stage_ranks import run_stages

# One of each way in which layers differ: windows, states, experts, compressed keys, positions.
VARIED = [
    "llama", "gemma3", "gemma2", "gpt_oss", "qwen3_next", "granitemoehybrid", "nemotron_h",
    "lfm2_moe", "deepseek_v2", "opt, 350m", "gpt2", "gpt_neox", "cohere2",
]  # fmt: skip

Text = dict[int, list[SeqOutput]]
SETTINGS: dict[str, Any] = {
    "device": "cpu", "dtype": "float32", "block_size": 4, "kv_cache_bytes": 1 << 21,
}  # fmt: skip


class Steps:
    """What a group of threads runs: the first rank plans, all run, the last stage draws."""

    def __init__(self, shape: GroupShape, model: Path, **settings: Any) -> None:
        self._shape = shape
        told = {**SETTINGS, **settings}
        self._settings = EngineSettings(model=str(model), tp=shape.tp, pp=shape.pp, **told)
        self._plans: list[queue.SimpleQueue[StepPlan | None]] = [
            queue.SimpleQueue() for _ in shape.local
        ]
        self._drawn: queue.SimpleQueue[StepResult] = queue.SimpleQueue()
        self.engines: dict[int, Engine] = {}

    def run(self, sequences: list[Sequence]) -> Text:
        """Return what each sequence was told, step by step."""
        return next(text for text in run_stages(self._shape, self._rank(sequences)) if text)

    def _rank(self, sequences: list[Sequence]) -> Any:
        def work(tp: TensorParallel, pipeline: Pipeline) -> Text:
            engine = build_engine(self._settings, tp, lambda *_: None, pipeline=pipeline)
            number = pipeline.index * tp.size + tp.rank
            self.engines[number] = engine
            if number == 0:
                return self._lead(engine, sequences)
            while (plan := self._plans[number].get()) is not None:
                result = engine.runner.run(plan)
                if number == self._shape.teller:
                    self._drawn.put(result)
            return {}

        return work

    def _lead(self, engine: Engine, sequences: list[Sequence]) -> Text:
        scheduler = scheduler_of(engine, budget=17)
        for seq in sequences:
            scheduler.add(seq)
        text: Text = {seq.key[1]: [] for seq in sequences}
        while (plan := scheduler.schedule()) is not None:
            for plans in self._plans[1:]:
                plans.put(plan)
            result = engine.runner.run(plan)
            if self._shape.teller:
                result = self._drawn.get()
            told = scheduler.commit(plan, result.token_ids, result.logprobs, result.prompt_logprobs)
            for _, output in told:
                text[output.seq_id].append(output)
        for plans in self._plans[1:]:
            plans.put(None)
        return text


def asked(prompt: list[int]) -> list[Sequence]:
    """Two alike at first, so that one finds the other's blocks; scored, greedy and drawn."""
    params: dict[str, Any] = {"max_tokens": 6, "ignore_eos": True}
    return [
        sequence(0, prompt, temperature=0.0, logprobs=2, **params),
        sequence(1, prompt[:9], temperature=1.0, seed=7, prompt_logprobs=1, **params),
        sequence(2, [*prompt[:-3], 7], temperature=0.8, top_k=20, seed=8, **params),
    ]


@pytest.mark.parametrize("name", VARIED)
def test_stages_give_the_bits_of_one_rank(name: str, tmp_path: Path) -> None:
    tiny = TinyModel(CASES[name], tmp_path)
    whole = Steps(GroupShape.on_one_machine(1), tiny.path).run(asked(tiny.prompt))
    staged = Steps(GroupShape.on_one_machine(1, 2), tiny.path).run(asked(tiny.prompt))
    assert staged == whole
    assert all(len(outputs) >= 6 for outputs in staged.values())


@pytest.mark.parametrize(("tp", "pp"), [(1, 3), (2, 2)])
def test_stages_of_ranks_give_the_bits_of_one_stage(tp: int, pp: int, tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model", num_layers=5)
    whole = Steps(GroupShape.on_one_machine(tp), model)
    staged = Steps(GroupShape.on_one_machine(tp, pp), model)
    prompt = list(range(3, 43))
    assert staged.run(asked(prompt)) == whole.run(asked(prompt))
    # What is not cut by layers, the norms at either end and the tied table, is where it is needed.
    one, parts = whole.engines[0].model, [e.model for e in staged.engines.values()]
    table = 320 * 64 * 4
    assert sum(part.weight_bytes for part in parts) <= tp * one.weight_bytes + tp * table
    assert {e.kv_bytes for e in staged.engines.values()} == {whole.engines[0].kv_bytes}


def test_stages_in_our_own_kernels_give_the_same_bits(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model", head_dim=16, hidden_size=128)
    settings = {"dtype": "bfloat16", "block_size": 16, "quantization": "int8"}
    whole, staged = (Steps(GroupShape.on_one_machine(1, pp), model, **settings) for pp in (1, 2))
    prompt = list(range(3, 43))
    assert staged.run(asked(prompt)) == whole.run(asked(prompt))
    assert native is None or "torch" not in staged.engines[1].kernels
