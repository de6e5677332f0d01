"""Weights that nobody has."""

from typing import Any

import pytest
import torch

from backend.config.huggingface import config_of_fields
from backend.config.tensors import tensors_of
from backend.quant.weight_format import WeightFormat
from backend.weights.dummy import PERIOD, DummyCheckpoint
from tests.backend.factories import tiny_config

WIDE: dict[str, Any] = {"vocab_size": 3000, "hidden_size": 512, "stored_dtype": "bfloat16"}


def test_slices_have_the_numbers_of_the_whole() -> None:
    """3000 x 512 numbers go round more than once."""
    config = tiny_config(**WIDE)
    checkpoint = DummyCheckpoint(config, {})
    assert 3000 * 512 > PERIOD and checkpoint.names() == set(tensors_of(config))
    for name in ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"):
        whole = checkpoint.read(name)
        assert whole.shape == checkpoint.shape(name) and whole.dtype == torch.bfloat16
        part = checkpoint.read(name, slice(24, 48), slice(100, 300))
        assert part.is_contiguous() and torch.equal(part, whole[24:48, 100:300])
    norm = checkpoint.read("model.norm.weight")
    assert 0.9 < norm.float().mean() < 1.1 and norm.std() > 0


def test_tensors_differ_and_come_again_the_same() -> None:
    config = tiny_config()
    first, second = DummyCheckpoint(config, {}), DummyCheckpoint(config, {})
    names = [f"model.layers.{n}.mlp.gate_proj.weight" for n in range(2)]
    assert torch.equal(first.read(names[0]), second.read(names[0]))
    assert not torch.equal(first.read(names[0]), first.read(names[1]))


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False}
WIDE_GPTQ = GPTQ | {"bits": 8}


@pytest.mark.parametrize(
    ("told", "weight_format"),
    [
        (FP8, WeightFormat.FP8),
        (GPTQ, WeightFormat.Q4_1),
        (GPTQ | {"sym": True}, WeightFormat.Q4_0),
        (WIDE_GPTQ, WeightFormat.Q8_MINS),
        (WIDE_GPTQ | {"sym": True}, WeightFormat.Q8_0),
    ],
)
def test_quantized_linears_have_random_blocks(
    told: dict[str, Any], weight_format: WeightFormat
) -> None:
    """Of the same spread as dense ones; slices have the numbers of the whole."""
    config = tiny_config(**WIDE)
    checkpoint = DummyCheckpoint(config, {"quantization_config": told})
    name = "model.layers.0.self_attn.q_proj.weight"
    assert checkpoint.weight_format("model.embed_tokens.weight") is WeightFormat.DENSE
    assert checkpoint.weight_format(name) is weight_format
    whole = checkpoint.read_quantized(name)
    assert whole.format is weight_format and whole.shape == checkpoint.shape(name)
    dense = whole.to_dense()
    assert dense.std() == pytest.approx(512**-0.5, rel=0.1)
    assert abs(float(dense.mean())) < 0.1 * 512**-0.5
    part = checkpoint.read_quantized(name, slice(8, 16), slice(32, 96))
    assert torch.equal(part.to_dense(), dense[8:16, 32:96])


def test_experts_in_mxfp4_have_random_blocks() -> None:
    """Their spread is that of dense ones to the nearest power of 2."""
    fields = {
        **{"architectures": ["GptOssForCausalLM"], "num_local_experts": 4, "head_dim": 64},
        **{"hidden_size": 256, "intermediate_size": 128, "num_hidden_layers": 1},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128},
        **{"num_experts_per_tok": 2, "rms_norm_eps": 1e-5, "rope_theta": 1e4},
        **{"max_position_embeddings": 64, "sliding_window": 16},
        **{"layer_types": ["sliding_attention"], "quantization_config": {"quant_method": "mxfp4"}},
    }
    checkpoint = DummyCheckpoint(config_of_fields(fields, "tiny"), fields)
    name = "model.layers.0.mlp.experts.1.gate_proj.weight"
    assert checkpoint.weight_format(name) is WeightFormat.MXFP4
    assert checkpoint.weight_format("model.layers.0.self_attn.q_proj.weight") is WeightFormat.DENSE
    dense = checkpoint.read_quantized(name).to_dense()
    assert dense.shape == (128, 256) and len(torch.unique(dense)) == 15
    assert 256**-0.5 / 1.5 < float(dense.std()) < 256**-0.5 * 1.5
    part = checkpoint.read_quantized(name, slice(8, 16), slice(32, 96))
    assert torch.equal(part.to_dense(), dense[8:16, 32:96])
