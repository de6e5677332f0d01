"""Quantised directories, end to end inside one process, against their dequantised twins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.native import absence, kernels
from tests.backend.models.expert_cases import EXPERTS
from tests.backend.models.family_cases import TinyModel
from tests.backend.models.gemma_cases import GEMMA
from tests.backend.models.learned_position_cases import LEARNED_POSITIONS
from tests.backend.models.llama_like_cases import LLAMA_LIKE
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.quantized_layouts import LAYOUTS, QuantizedModel, quantize, write_quantized_llama
from tests.backend.tp_ranks import run_ranks

PROMPT = [5, 99, 42, 7, 250, 3, 17, 88, 123, 11, 64, 201, 9, 300, 45, 6, 77, 31, 150, 2]


# One of each way that linears are laid out, and of each form that they are kept in.
KEPT = ["awq", "gptq", "gptq, columns in any order", "pack-quantized, 8 bits", "int-quantized",
        "float-quantized, blocks", "fp8"]  # fmt: skip
OURS = pytest.param("auto", marks=pytest.mark.skipif(kernels is None, reason=absence))


ANY_ORDER = LAYOUTS["gptq, columns in any order"]


def write(path: Path, layout: str) -> QuantizedModel:
    return write_quantized_llama(path, LAYOUTS[layout], num_layers=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_expanded_logits_are_those_of_the_twin(tmp_path: Path, layout: str) -> None:
    """float32 has no kernels of few bits: the same numbers are multiplied in the same order."""
    llama = write(tmp_path, layout)
    expected = run_ranks(2, lambda tp: logits_of(engine_of(llama.dense, tp), PROMPT))
    got = run_ranks(2, lambda tp: logits_of(engine_of(llama.directory, tp), PROMPT))
    assert torch.equal(torch.cat(got, dim=-1), torch.cat(expected, dim=-1))


@pytest.mark.parametrize("layout", KEPT)
@pytest.mark.parametrize("whose", [OURS, "torch"])
@pytest.mark.parametrize("size", [1, 2])
def test_logits_in_few_bits_are_near_those_of_the_twin(
    tmp_path: Path, layout: str, whose: str, size: int
) -> None:
    """bfloat16 leaves half a percent of error in a state, as it does in the twin."""
    llama = write(tmp_path, layout)
    settings: dict[str, Any] = {"dtype": "bfloat16", "kernels": whose, "block_size": 16}
    expected = logits_of(engine_of(llama.dense), PROMPT)
    got = run_ranks(
        size, lambda tp: logits_of(engine_of(llama.directory, tp, **settings), PROMPT, 16)
    )
    error = torch.cat(got, dim=-1) - expected
    assert float(error.norm() / expected.norm()) < 0.02


FAMILIES = LLAMA_LIKE | EXPERTS | GEMMA | LEARNED_POSITIONS
LINEARS = r".*(_proj|\.w[123]|\.c_attn|\.c_fc|\.c_proj|\.fc[12])"


@pytest.mark.parametrize(
    "family", ["phi3", "granite", "mixtral", "qwen3_moe", "gpt2", "opt", "ministral3"]
)
def test_family_is_served_from_quantised_linears(tmp_path: Path, family: str) -> None:
    """Fused ones, those of experts, and those that plain files have the other way round."""
    model = TinyModel(replace(FAMILIES[family], twin=None), tmp_path)
    layout = LAYOUTS["gptq, groups of 16"]
    is_turned = family == "gpt2"
    quantised = quantize(model.path, tmp_path / "q", layout, LINEARS, transposed=is_turned)
    expected = logits_of(engine_of(quantised.dense), model.prompt)
    engine = engine_of(quantised.directory)
    assert torch.equal(logits_of(engine, model.prompt), expected)
    assert engine.config.stored_dtype == "GPTQ int4"
    parts = run_ranks(2, lambda tp: logits_of(engine_of(quantised.directory, tp), model.prompt))
    torch.testing.assert_close(torch.cat(parts, dim=-1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(kernels is None, reason=absence)
@pytest.mark.parametrize("is_parallel", [False, True])
def test_experts_have_columns_in_orders_of_their_own(tmp_path: Path, is_parallel: bool) -> None:
    """Cut by columns they fill up different numbers of blocks; whole they are one product."""
    model = TinyModel(replace(EXPERTS["mixtral"], twin=None), tmp_path)
    quantised = quantize(model.path, tmp_path / "q", ANY_ORDER, LINEARS)
    expected = logits_of(engine_of(quantised.dense), model.prompt)
    settings = {"dtype": "bfloat16", "block_size": 16, "expert_parallel": is_parallel}
    for size in (1, 2):
        parts = run_ranks(
            size,
            lambda tp: logits_of(engine_of(quantised.directory, tp, **settings), model.prompt, 16),
        )
        error = (torch.cat(parts, dim=-1) - expected).norm(dim=1) / expected.norm(dim=1)
        # Experts of a token may nearly tie: then bfloat16 chooses another, as in plain weights.
        assert float(error.median()) < 0.03


@pytest.mark.parametrize("layout", ["awq", "gptq, columns in any order", "fp8"])
def test_code_of_transformers_multiplies_by_quantised_linears(tmp_path: Path, layout: str) -> None:
    """Its sums go in another order: logits of up to 10 agree to 1e-4."""
    llama = write(tmp_path, layout)
    got = logits_of(engine_of(llama.directory, model_impl="transformers"), PROMPT)
    expected = logits_of(engine_of(llama.dense), PROMPT)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
