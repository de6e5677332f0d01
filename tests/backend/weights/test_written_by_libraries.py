"""Linears that the libraries themselves wrote, read as these libraries read them.

written_by_libraries.safetensors has [32, 64] matrices of autoawq 0.2.9 (WQLinear_GEMM.from_linear),
auto-gptq 0.7.1 (QuantLinear.pack) and compressed-tensors 0.20.1 (compress), and in its metadata
their quantization_config and what they dequantised to: the dtype they compute in and the bytes'
SHA-256. compressed-tensors 0.17.1 writes the same bytes.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.config.hf_directory import file_tensor, open_shard
from backend.config.quantization_methods import read_quantization
from backend.config.quantized_linears import find_linears
from backend.quant.weight_format import WeightFormat
from backend.weights.quantized_linear import QuantizedLinear

FILE = Path(__file__).parent / "written_by_libraries.safetensors"
CASES = {
    "autoawq": WeightFormat.Q4_1,
    "auto_gptq": WeightFormat.Q4_0,
    "auto_gptq_zero_points": WeightFormat.Q4_1,
    "auto_gptq_act_order": WeightFormat.Q4_1,
    "auto_gptq_8_bits": WeightFormat.Q8_0,
    "auto_gptq_2_bits": WeightFormat.Q4_0,
    "pack_quantized_4_bits": WeightFormat.Q4_0,
    "pack_quantized_4_bits_zero_points": WeightFormat.Q4_1,
    "pack_quantized_8_bits": WeightFormat.Q8_0,
    "pack_quantized_8_bits_zero_points": WeightFormat.Q8_MINS,
    "int_quantized": WeightFormat.Q8_0,
    "int_quantized_zero_points": WeightFormat.Q8_MINS,
    "float_quantized": WeightFormat.FP8,
    "float_quantized_tensor": WeightFormat.FP8,
    "float_quantized_blocks": WeightFormat.FP8,
}


def read_case(name: str) -> tuple[QuantizedLinear, dict[str, Any]]:
    """Return a linear of the file, and what its library says of it."""
    shard = open_shard(FILE, "pt")
    said = json.loads(shard.metadata()[name])
    tensors = {
        key: file_tensor(shard.get_slice(key)) for key in shard.keys() if key.startswith(f"{name}.")
    }
    quantization = read_quantization(said)
    assert quantization is not None
    linear = find_linears(quantization, tensors)[f"{name}.weight"]
    return QuantizedLinear(linear, shard.get_slice), said


def test_every_case_is_tested() -> None:
    assert set(open_shard(FILE, "pt").metadata()) == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_linear_is_what_its_library_makes_of_it(name: str) -> None:
    """They round products to the dtype that they compute in, we do not."""
    linear, said = read_case(name)
    dense = linear.read().to(getattr(torch, said["dtype"]))
    digest = hashlib.sha256(dense.contiguous().view(torch.uint8).numpy().tobytes())
    assert digest.hexdigest() == said["sha256"]


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_the_linear(name: str) -> None:
    linear, _ = read_case(name)
    assert linear.format_of() is CASES[name]
    if CASES[name] is WeightFormat.DENSE:
        return
    dense, blocks = linear.read(), linear.read_quantized().to_dense()
    if (order := linear.column_order()) is not None:
        assert "act_order" in name
        dense = dense[:, order.long()]
    if CASES[name] in (WeightFormat.Q4_1, WeightFormat.Q8_MINS):
        assert float((blocks - dense).abs().max()) <= float(dense.abs().max()) * 2**-11
    else:
        assert torch.equal(blocks, dense)
