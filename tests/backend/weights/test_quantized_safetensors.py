"""Rules of quantised directories: fused linears, order of heads, extra tensors, wrong labels."""

from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.config.families.names import hf_names
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.config.rope import Rope
from backend.quant.weight_format import WeightFormat
from backend.weights.checkpoint import open_checkpoint
from backend.weights.safetensors import SafetensorsCheckpoint
from tests.backend.quantized_layouts import (
    LAYOUTS,
    QuantizedModel,
    save,
    set_quantization,
    write_quantized_llama,
)

ATTENTION = "model.layers.0.self_attn"
GPTQ = LAYOUTS["gptq"]
FUSED = ["q_proj", "k_proj", "v_proj"]


@pytest.fixture
def llama(tmp_path: Path) -> QuantizedModel:
    return write_quantized_llama(tmp_path, GPTQ, num_layers=1)


def tensors_in(directory: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = safetensors.torch.load_file(directory / "model.safetensors")
    return tensors


def refusal(directory: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(directory, load_config(directory))
    return str(caught.value)


@pytest.mark.parametrize(
    "layout", ["awq", "gptq", "gptq, columns in any order", "pack-quantized, zero points", "fp8"]
)
def test_rows_of_a_fused_linear_are_each_projections(tmp_path: Path, layout: str) -> None:
    llama = write_quantized_llama(tmp_path, LAYOUTS[layout], num_layers=1)
    fused = torch.cat([llama.tensors.pop(f"{ATTENTION}.{name}.weight") for name in FUSED])
    parts, dense = LAYOUTS[layout].convert(fused)
    tensors = {
        name: tensor
        for name, tensor in tensors_in(llama.directory).items()
        if not any(part in name for part in FUSED)
    }
    save(llama.directory, tensors | {f"{ATTENTION}.qkv_proj.{p}": t for p, t in parts.items()})
    names = hf_names(fused={"self_attn.qkv_proj": tuple(f"self_attn.{name}" for name in FUSED)})
    checkpoint = SafetensorsCheckpoint(llama.directory, load_config(llama.dense), names)
    for name, rows in zip(FUSED, torch.split(dense, [64, 32, 32]), strict=True):
        full = f"{ATTENTION}.{name}.weight"
        assert checkpoint.shape(full) == rows.shape
        assert torch.equal(checkpoint.read(full), rows)
        assert torch.equal(checkpoint.read(full, slice(8, 24), slice(3, 40)), rows[8:24, 3:40])
        if checkpoint.weight_format(full) is WeightFormat.Q4_0:
            assert torch.equal(checkpoint.read_quantized(full, slice(8, 24)).to_dense(), rows[8:24])


def interleaved(config: ModelConfig) -> ModelConfig:
    """The same model, of which pairs of rows that lie side by side turn."""
    layer = config.spec.layers[0]
    attention = msgspec.structs.replace(layer.attends, rope=Rope(8, is_interleaved=True))
    layers = (msgspec.structs.replace(layer, attention=attention),)
    spec = msgspec.structs.replace(config.spec, layers=layers)
    return msgspec.structs.replace(config, spec=spec)


def test_rows_of_heads_move_in_blocks_as_well(llama: QuantizedModel) -> None:
    config = interleaved(load_config(llama.directory))
    checkpoint = SafetensorsCheckpoint(llama.directory, config, hf_names())
    name = f"{ATTENTION}.q_proj.weight"
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    expected = llama.tensors[name].view(8, 8, 64)[:, order].reshape(64, 64)[16:40]
    assert torch.equal(checkpoint.read(name, slice(16, 40)), expected)
    assert torch.equal(checkpoint.read_quantized(name, slice(16, 40)).to_dense(), expected)


def test_linear_is_out_by_in_though_plain_ones_are_not(llama: QuantizedModel) -> None:
    """GPTQ turns GPT-2's matrices before it packs them."""
    names = hf_names(transposed=frozenset({"self_attn.o_proj", "mlp.up_proj"}))
    checkpoint = SafetensorsCheckpoint(llama.directory, load_config(llama.directory), names)
    for name in (f"{ATTENTION}.o_proj.weight", "model.layers.0.mlp.up_proj.weight"):
        assert torch.equal(checkpoint.read(name), llama.tensors[name])


@pytest.mark.parametrize("tie", [True, False])
def test_quantised_head_counts(tmp_path: Path, tie: bool) -> None:
    """Even where the configuration says that the embedding is the head."""
    llama = write_quantized_llama(tmp_path, GPTQ, num_layers=1, tie=tie)
    tensors = tensors_in(llama.directory)
    head = torch.randn(320, 64, generator=torch.Generator().manual_seed(1))
    parts, dense = GPTQ.convert(head)
    tensors.pop("lm_head.weight", None)
    save(llama.directory, tensors | {f"lm_head.{part}": t for part, t in parts.items()})
    checkpoint = open_checkpoint(llama.directory, load_config(llama.directory))
    assert torch.equal(checkpoint.read("lm_head.weight"), dense)
    assert checkpoint.weight_format("lm_head.weight") is WeightFormat.Q4_0
    assert checkpoint.weight_format("model.embed_tokens.weight") is WeightFormat.DENSE


def test_bias_of_zeros_is_left_out_and_another_is_not(llama: QuantizedModel) -> None:
    """AutoGPTQ gave every linear a bias, of zeros where the model has none."""
    tensors = tensors_in(llama.directory)
    save(llama.directory, tensors | {f"{ATTENTION}.q_proj.bias": torch.zeros(64)})
    assert open_checkpoint(llama.directory, load_config(llama.directory)).left_over == []
    save(llama.directory, tensors | {f"{ATTENTION}.q_proj.bias": torch.ones(64)})
    assert "does not use: model.layers.0.self_attn.q_proj.bias" in refusal(llama.directory)


def test_scales_of_activations_keys_and_values_are_left_out(tmp_path: Path) -> None:
    llama = write_quantized_llama(tmp_path, LAYOUTS["fp8, one scale"], num_layers=1)
    tensors = tensors_in(llama.directory)
    assert f"{ATTENTION}.q_proj.input_scale" in tensors
    save(llama.directory, tensors | {f"{ATTENTION}.k_scale": torch.tensor(0.5)})
    assert open_checkpoint(llama.directory, load_config(llama.directory)).left_over == []


def test_zero_points_that_contradict_sym_are_refused(llama: QuantizedModel) -> None:
    """A file of version 1 read as one of version 2 would be off by a whole step everywhere."""
    set_quantization(llama.directory, GPTQ.config | {"checkpoint_format": "gptq_v2"})
    checkpoint = open_checkpoint(llama.directory, load_config(llama.directory))
    with pytest.raises(ModelError, match=r"q_proj.qzeros has zero point 7, .* have 8\nsym, symm"):
        checkpoint.weight_format(f"{ATTENTION}.q_proj.weight")


def test_group_that_is_not_there_is_refused(llama: QuantizedModel) -> None:
    tensors = tensors_in(llama.directory)
    tensors[f"{ATTENTION}.q_proj.g_idx"][5] = 2
    save(llama.directory, tensors)
    checkpoint = open_checkpoint(llama.directory, load_config(llama.directory))
    with pytest.raises(ModelError, match=r"q_proj\.g_idx has group 2 of 2"):
        checkpoint.read(f"{ATTENTION}.q_proj.weight")


def test_scales_that_float16_has_not_are_dense(tmp_path: Path) -> None:
    layout = LAYOUTS["int-quantized"]
    llama = write_quantized_llama(tmp_path, layout, num_layers=1)
    tensors = tensors_in(llama.directory)
    name = f"{ATTENTION}.q_proj"
    tensors[f"{name}.weight_scale"][3] = 3e-7
    save(llama.directory, tensors)
    checkpoint = open_checkpoint(llama.directory, load_config(llama.directory))
    assert checkpoint.weight_format(f"{name}.weight") is WeightFormat.DENSE
    assert checkpoint.weight_format(f"{ATTENTION}.k_proj.weight") is WeightFormat.Q8_0
    words = "compressed-tensors int8 with scales that float16 has not"
    assert checkpoint.stored_type(f"{name}.weight") == words


def test_zero_points_may_be_unpacked(tmp_path: Path) -> None:
    """As compressed-tensors wrote them before it packed them."""
    llama = write_quantized_llama(tmp_path, LAYOUTS["pack-quantized, zero points"], num_layers=1)
    tensors = tensors_in(llama.directory)
    for name in [name for name in tensors if name.endswith("weight_zero_point")]:
        words = tensors[name].T.contiguous().view(torch.uint8)
        values = torch.stack((words & 15, words >> 4), -1).flatten(1)
        tensors[name] = (values.to(torch.int8) - 8).T
    save(llama.directory, tensors)
    checkpoint = open_checkpoint(llama.directory, load_config(llama.directory))
    name = f"{ATTENTION}.q_proj.weight"
    assert torch.equal(checkpoint.read(name), llama.tensors[name])


def test_quantised_tensors_without_a_word_on_them_are_refused(llama: QuantizedModel) -> None:
    set_quantization(llama.directory, None)
    message = refusal(llama.directory)
    assert "qweight is of quantised weights\nquantization_config of config.json" in message


def test_configuration_that_no_tensor_bears_out_is_refused(llama: QuantizedModel) -> None:
    set_quantization(llama.dense, GPTQ.config)
    assert "config.json says GPTQ int4, but no tensor is quantised so" in refusal(llama.dense)
