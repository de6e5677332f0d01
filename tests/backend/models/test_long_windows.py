"""Thousands of tokens through a model with windows, whose old blocks come back on the way."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backend.models.family_cases import SIZES, FamilyCase, TinyModel
from tests.backend.models.tiny_engine import engine_of, scheduler_of, sequence

NUM_TOKENS = 5000
CASE = FamilyCase(
    "Gemma3ForCausalLM",
    SIZES
    | {
        "hidden_size": 32,
        "head_dim": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        "sliding_window": 512,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 8192,
    },
    num_tokens=NUM_TOKENS,
)


# Room for 313 blocks of the layer that sees all and some 50 of each with a window, not for 313.
NUM_BLOCKS = 500
ROUNDED = {"dtype": "bfloat16", "kernels": "auto"}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, ROUNDED], ids=["float32", "bfloat16"])
def test_every_token_is_scored_as_by_transformers(settings: dict[str, Any], tmp_path: Path) -> None:
    """float32: 1e-4 at every token; bfloat16: states of 8 bits leave some hundredths."""
    tiny = TinyModel(CASE, tmp_path)
    block_bytes = 2 * 16 * 16 * (2 if settings else 4)
    engine = engine_of(
        tiny.path, block_size=16, kv_cache_bytes=NUM_BLOCKS * block_bytes, **settings
    )
    assert engine.num_blocks == NUM_BLOCKS
    scheduler = scheduler_of(engine, block_size=16, budget=256)
    scheduler.add(sequence(0, tiny.prompt, max_tokens=1, prompt_logprobs=1, ignore_eos=True))
    scores: list[float] = []
    while (plan := scheduler.schedule()) is not None:
        result = engine.runner.run(plan)
        outputs = scheduler.commit(plan, result.token_ids, result.logprobs, result.prompt_logprobs)
        scores += [score.logprob for _, output in outputs for score in output.prompt_logprobs]
    expected = tiny.logits.double().log_softmax(-1)
    wanted = expected[:-1].gather(1, torch.tensor(tiny.prompt[1:])[:, None])[:, 0]
    differences = (torch.tensor(scores, dtype=torch.float64) - wanted).abs()
    assert float(differences.max()) < (0.2 if settings else 1e-4)
