"""The longest steps, tried on models of every kind; what they take is a GPU's to say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.memory_profile import Longest, longest_steps
from backend.engine.model_runner import ModelRunner
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import split_model
from backend.sampling.sampler import Sampler
from tests.backend.factories import write_tiny_llama
from tests.backend.models.delta_cases import DELTA_NETS
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.gemma_cases import GEMMA
from tests.backend.models.tiny_engine import engine_of
from tests.backend.models.tiny_t5 import CASES, TinyT5


@pytest.fixture(params=["llama", "gemma3", "qwen3_5", "flan"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """One group of layers, groups with windows, layers that keep states, an encoder's input."""
    if request.param in CASES:
        yield TinyT5(CASES[request.param], tmp_path).path
        return
    cases = GEMMA | DELTA_NETS
    if request.param in cases:
        yield TinyModel(cases[request.param], tmp_path).path
    else:
        yield write_tiny_llama(tmp_path, num_layers=1)


@pytest.mark.parametrize(("budget", "max_len"), [(40, 16), (40, 64)])
def test_longest_steps_run_in_the_room_they_are_given(
    model: Path, budget: int, max_len: int
) -> None:
    engine = engine_of(model)
    [shard] = split_model(engine.config, 1)
    longest = Longest(budget, 6, max_len, engine.config.encoder is not None)
    blocks, slots = longest.room(4, len(engine.groups))
    cache = KVCache(
        engine.config, shard, groups=engine.groups, num_blocks=blocks, block_size=4,
        dtype=torch.float32, device=torch.device("cpu"),
        num_slots=slots if engine.num_slots else 0,
    )  # fmt: skip
    prompts, decodes = longest_steps(longest, cache)
    read = len(prompts.encoder_ids) - max_len if longest.has_encoder else prompts.num_tokens
    assert read == budget and prompts.context_lens.max() <= max_len
    assert decodes.num_decodes == decodes.num_tokens == len(decodes.sample_rows) == 6
    assert (decodes.context_lens == max_len).all()
    for plan in (prompts, decodes):
        assert max(plan.block_tables.max(), plan.cross_tables.max(initial=0)) < blocks
    sampler = Sampler(6, shard.vocab, TensorParallel(), ())
    runner = ModelRunner(engine.model, cache, sampler, engine.device)
    for plan in (prompts, decodes):
        runner.run(plan)


def test_no_more_prompts_are_tried_than_sequences_run() -> None:
    assert Longest(100, 2, 16).prompts() == [16, 16]
