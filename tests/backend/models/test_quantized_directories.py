"""Quantised directories, end to end inside one process, against their dequantised twins."""

from pathlib import Path
from typing import Any

import pytest
import torch

from backend.native import absence, kernels
from tests.backend.models.tiny_engine import engine_of, logits_of
from tests.backend.quantized_layouts import LAYOUTS, QuantizedLlama, write_quantized_llama
from tests.backend.tp_ranks import run_ranks

PROMPT = [5, 99, 42, 7, 250, 3, 17, 88, 123, 11, 64, 201, 9, 300, 45, 6, 77, 31, 150, 2]


# One of each way that linears are laid out, and of each form that they are kept in.
KEPT = ["awq", "gptq", "gptq, columns in any order", "pack-quantized, 8 bits", "int-quantized",
        "float-quantized, blocks", "fp8"]  # fmt: skip
OURS = pytest.param("auto", marks=pytest.mark.skipif(kernels is None, reason=absence))


def write(path: Path, layout: str) -> QuantizedLlama:
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
