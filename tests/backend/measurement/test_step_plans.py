"""Plans made by hand compute what the scheduler's do, for every kind of model."""

from dataclasses import replace
from pathlib import Path

import pytest

from backend.engine.engine import Engine
from backend.measurement.step_plans import GREEDY, NoRoom, StepPlans
from backend.wire.sampling import SamplingParams
from tests.backend.factories import write_tiny_llama
from tests.backend.models.family_cases import FamilyCase, TinyModel
from tests.backend.models.gemma_cases import GEMMA
from tests.backend.models.state_cases import STATES
from tests.backend.models.tiny_engine import engine_of, run, scheduler_of, sequence

LENGTH = 37


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine_of(write_tiny_llama(tmp_path_factory.mktemp("model")))


def by_scheduler(engine: Engine, prompt: list[int]) -> int:
    request = sequence(0, prompt, temperature=0.0, max_tokens=1)
    [[token_id]] = run(engine, scheduler_of(engine), [request]).values()
    return token_id


def check_prompts(engine: Engine) -> None:
    """Whole, and in chunks that end within blocks: the first tokens are the scheduler's."""
    wanted = by_scheduler(engine, StepPlans(engine, 4).prompt_ids(LENGTH))
    for budget, num_steps in ((64, 2), (10, 8)):
        plans = StepPlans(replace(engine, token_budget=budget), 4)
        made = plans.prompts(2, LENGTH)
        assert len(made) == num_steps
        results = [plans.runner.run(plan).token_ids for plan in made]
        assert [token_id for result in results for token_id in result] == [wanted] * 2


def check_decodes(engine: Engine) -> None:
    """A step of a prompt's last token, behind those before it, is what the whole prompt gives."""
    plans = StepPlans(engine, 4)
    wanted = by_scheduler(engine, plans.prompt_ids(LENGTH))
    for plan in plans.prompts(1, LENGTH):
        plans.runner.run(plan)
    [step] = plans.decodes(1, LENGTH - 1, count=1)
    assert step.positions.tolist() == [LENGTH - 1]
    step.input_ids[:] = plans.prompt_ids(LENGTH)[-1:]
    for plan in plans.prompts(1, LENGTH - 1):
        plans.runner.run(plan)
    assert plans.runner.run(step).token_ids == [wanted]


def test_llama_runs_prompts_and_decodes(llama: Engine) -> None:
    check_prompts(llama)
    check_decodes(llama)


@pytest.mark.numerics
@pytest.mark.parametrize("case", [GEMMA["gemma3"], STATES["lfm2"]], ids=["windows", "states"])
def test_groups_and_states_run_prompts_and_decodes(case: FamilyCase, tmp_path: Path) -> None:
    """The first form of these plans had one block table, and failed with several groups."""
    engine = engine_of(TinyModel(case, tmp_path).path)
    assert len(engine.groups) > 1 or engine.num_slots
    check_prompts(engine)
    check_decodes(engine)


def test_steps_go_on_with_blocks_of_their_own(llama: Engine) -> None:
    plans = StepPlans(llama, 4)
    made = plans.decodes(3, 20, count=5)
    assert [plan.context_lens.tolist() for plan in made] == [[21 + n] * 3 for n in range(5)]
    blocks = [set(row.tolist()) for row in made[-1].block_tables[0]]
    assert len(set.union(*blocks)) == sum(map(len, blocks)) == 3 * 7
    assert [len(plans.runner.run(plan).token_ids) for plan in made] == [3] * 5


def test_parameters_that_look_back_get_a_history(llama: Engine) -> None:
    params = SamplingParams(temperature=1.0, repetition_penalty=2.0, seed=1)
    [first, second] = StepPlans(llama, 4).decodes(2, 9, params, count=2)
    assert [(join.row, len(join.token_ids)) for join in first.joins] == [(0, 9), (1, 9)]
    assert second.joins == []


def test_blocks_are_written_before_they_are_read(
    llama: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that nothing has written are one page, which stays in the processor's cache."""
    written: list[int] = []
    plans = StepPlans(llama, 4)
    monkeypatch.setattr(
        plans.runner, "clear_blocks", lambda blocks: written.extend(blocks.tolist())
    )
    [plan] = plans.decodes(2, 15, GREEDY, count=1)
    assert {*plan.block_tables.ravel().tolist()} <= {*written}


@pytest.mark.parametrize(
    ("batch", "context", "words"),
    [
        (1, 512, "the model takes 512 tokens, not 513"),
        (129, 8, "128 sequences run at a time, not 129"),
        (128, 400, r"128 sequences of 401 tokens take 12,928 blocks of 4, the KV cache has"),
    ],
)
def test_shape_without_room_is_refused(llama: Engine, batch: int, context: int, words: str) -> None:
    with pytest.raises(NoRoom, match=words):
        StepPlans(llama, 4).decodes(batch, context, count=1)
