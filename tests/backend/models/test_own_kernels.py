"""Families with our own kernels, in bfloat16, against transformers' float32 forward."""

from pathlib import Path
from typing import Any

import pytest

from backend.native import absence, kernels
from tests.backend.models.family_cases import SIZES, FamilyCase, TinyModel
from tests.backend.models.tiny_engine import engine_of, logits_of

# Heads of 16 and blocks of 16 tokens, as the kernels take them; windows end inside blocks.
_SIZES = SIZES | {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": 41,
    "query_pre_attn_scalar": 20,
}
_GPT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CASES = {
    "gemma2": FamilyCase(
        "Gemma2ForCausalLM",
        _SIZES | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        is_whole=True,
        num_tokens=100,
    ),
    "gemma3": FamilyCase(
        "Gemma3ForCausalLM",
        _SIZES | {"num_hidden_layers": 6},
        is_whole=True,
        num_tokens=100,
    ),
    "opt, 350m": FamilyCase(
        "OPTForCausalLM",
        _GPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 32, "ffn_dim": 96},
        is_whole=True,
        num_tokens=100,
    ),
    "gpt2": FamilyCase("GPT2LMHeadModel", _GPT, is_whole=True, num_tokens=100),
    "gpt_neo": FamilyCase(
        "GPTNeoForCausalLM",
        _GPT | {"attention_types": [[["global", "local"], 1]], "window_size": 41},
        is_whole=True,
        num_tokens=100,
    ),
    "gpt_neox": FamilyCase(
        "GPTNeoXForCausalLM", _GPT | {"intermediate_size": 96}, is_whole=True, num_tokens=100
    ),
    "cohere": FamilyCase(
        "CohereForCausalLM",
        {name: _SIZES[name] for name in SIZES} | {"use_qk_norm": True, "logit_scale": 0.5},
        is_whole=True,
        num_tokens=100,
    ),
}


@pytest.mark.skipif(kernels is None, reason=absence)
@pytest.mark.parametrize("name", sorted(CASES))
def test_logits_differ_by_what_bfloat16_rounds(name: str, tmp_path: Path) -> None:
    """States of 8 bits through a few layers: 1 to 2 % of the logits, 3 % at most."""
    tiny = TinyModel(CASES[name], tmp_path)
    engine = engine_of(tiny.path, dtype="bfloat16", kernels="auto", block_size=16)
    assert "PyTorch" not in engine.kernels
    for chunks in ([], [37, 30, 1, 1, 1]):
        got = logits_of(engine, tiny.prompt, 16, chunks)
        assert float((got - tiny.logits).norm() / tiny.logits.norm()) < 0.03
