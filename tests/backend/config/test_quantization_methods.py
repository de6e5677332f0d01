"""Rules of quantization_config: what each method says, and what is refused in whose words."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.quantization import Quantization
from backend.config.quantization_methods import quantization_of, read_quantization

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}


def compressed(
    weights: dict[str, Any], layout: str = "pack-quantized", **fields: Any
) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
    } | fields


def read(config: object) -> Quantization:
    quantization = read_quantization({"quantization_config": config})
    assert quantization is not None
    return quantization


def refusal(config: object) -> str:
    with pytest.raises(ModelError) as caught:
        read_quantization({"quantization_config": config})
    return str(caught.value)


def test_weights_without_a_word_are_as_they_are() -> None:
    assert read_quantization({"model_type": "llama"}) is None
    assert read_quantization({"quantization_config": None, "text_config": {}}) is None


def test_method_may_stand_beside_the_text_model_or_in_it() -> None:
    assert read_quantization({"text_config": {"quantization_config": AWQ}}) == read(AWQ)


@pytest.mark.parametrize(
    ("config", "name", "scale_block"),
    [
        (AWQ, "AWQ int4", (1, 128)),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "AWQ int4", (1, 64)),
        (GPTQ, "GPTQ int4", (1, 128)),
        (GPTQ | {"bits": 8, "group_size": -1}, "GPTQ int8", (1, 0)),
        (compressed(INT4), "compressed-tensors int4", (1, 32)),
        (compressed(INT8, "int-quantized"), "compressed-tensors int8", (1, 0)),
        (compressed(INT8 | {"type": "float"}, "float-quantized"), "compressed-tensors fp8", (1, 0)),
        (FP8, "fp8", (128, 128)),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", (0, 0)),
    ],
)
def test_method_says_who_shares_a_scale(
    config: dict[str, Any], name: str, scale_block: tuple[int, int]
) -> None:
    quantization = read(config)
    assert quantization.name == name
    assert quantization.scheme_of("model.layers.0.mlp.up_proj").scale_block == scale_block


@pytest.mark.parametrize(
    ("fields", "offset"),
    [
        ({}, 1),
        ({"checkpoint_format": "gptq"}, 1),
        ({"checkpoint_format": "gptq_v2"}, 0),
        ({"format": "gptq_v2"}, 0),
        ({"format": "GPTQ_V2", "checkpoint_format": "gptq_v2"}, 0),
    ],
)
def test_first_version_of_gptq_stores_zero_points_less_one(
    fields: dict[str, Any], offset: int
) -> None:
    assert read(GPTQ | fields).scheme_of("lm_head").zero_offset == offset


def test_modules_of_gptq_may_have_bits_of_their_own() -> None:
    dynamic = {r"+:.*\.down_proj": {"bits": 8, "group_size": 32}, r"-:.*\.o_proj": {}}
    quantization = read(GPTQ | {"dynamic": dynamic})
    down = quantization.scheme_of("model.layers.3.mlp.down_proj")
    up = quantization.scheme_of("model.layers.3.mlp.up_proj")
    assert (down.bits, down.scale_block) == (8, (1, 32))
    assert (up.bits, up.scale_block) == (4, (1, 128))
    assert down.is_symmetric
    assert quantization.name == "GPTQ int8 and GPTQ int4"


def test_awq_may_be_as_gptqmodel_writes_it() -> None:
    """It names the format thrice, and leaves out modules as it does for GPTQ."""
    names = {"method": "awq", "format": "gemm", "checkpoint_format": "gemm", "pack_dtype": "int32"}
    dynamic = {r"-:.*\.o_proj": {}, r"+:.*\.down_proj": {"group_size": 32}}
    quantization = read(AWQ | names | {"dynamic": dynamic, "meta": {"fallback": None}})
    assert quantization.scheme_of("x.down_proj").scale_block == (1, 32)
    assert quantization.scheme_of("x.up_proj").scale_block == (1, 128)


def test_two_quantisations_of_one_model_are_refused() -> None:
    values = {"quantization_config": AWQ, "text_config": {"quantization_config": AWQ}}
    assert read_quantization(values) == read(AWQ)
    values["text_config"] = {"quantization_config": GPTQ}
    with pytest.raises(ModelError, match=r"text_config\.quantization_config differ"):
        read_quantization(values)


def test_more_specific_target_counts() -> None:
    groups = {
        "linears": {"targets": ["Linear"], "weights": INT4},
        "downs": {"targets": [r"re:.*\.down_proj"], "weights": INT8},
        "one": {"targets": ["model.layers.1.mlp.down_proj"], "weights": INT4 | {"group_size": 64}},
    }
    quantization = read(compressed(INT4, config_groups=groups))
    assert quantization.scheme_of("model.layers.0.mlp.up_proj").scale_block == (1, 32)
    assert quantization.scheme_of("model.layers.0.mlp.down_proj").bits == 8
    assert quantization.scheme_of("model.layers.1.mlp.down_proj").scale_block == (1, 64)


def test_group_may_have_a_layout_of_its_own() -> None:
    groups = {
        "a": {"targets": [r"re:.*up"], "weights": INT4, "format": "pack-quantized"},
        "b": {"targets": [r"re:.*down"], "weights": INT8, "format": "int-quantized"},
    }
    quantization = read(compressed(INT4, "mixed-precision", config_groups=groups))
    assert quantization.scheme_of("x.up").layout == "packed"
    assert quantization.scheme_of("x.down").layout == "plain"
    with pytest.raises(ModelError, match=r"x\.gate is quantised, and no group"):
        quantization.scheme_of("x.gate")


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_bits_that_changed_their_packing_are_refused(bits: int) -> None:
    words = refusal(compressed(INT4 | {"num_bits": bits}))
    assert f"weights.num_bits {bits} is not supported; 2, 4, 8" in words
    assert "ambiguous" in words


def test_bitsandbytes_is_refused_with_what_to_take_instead() -> None:
    for config in ({"quant_method": "bitsandbytes"}, {"load_in_4bit": True}):
        words = refusal(config)
        assert "bitsandbytes are not supported\ntake a GGUF file" in words


def test_unknown_method_is_refused_with_those_that_are_served() -> None:
    words = refusal({"quant_method": "hqq"})
    assert (
        "quant_method 'hqq' is not supported; awq, gptq, compressed-tensors, fp8, mxfp4 are"
        in words
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("awq", "quantization_config is 'awq', not an object"),
        ({"bits": 4}, "quant_method None is not supported"),
        (AWQ | {"bits": 3}, "bits 3 is not supported; 4"),
        (AWQ | {"bits": True}, "bits True is not supported; 4"),
        (AWQ | {"version": "gemv"}, "version 'gemv' is not supported; gemm"),
        (AWQ | {"backend": "llm-awq"}, "backend 'llm-awq' is not supported; auto"),
        (AWQ | {"group_size": 0}, "group_size is 0, neither positive nor -1"),
        (AWQ | {"group_size": "128"}, "group_size is '128', not an integer"),
        (AWQ | {"rotation": "hadamard"}, "rotation is not known, and may change what weights"),
        (GPTQ | {"bits": 3}, "bits 3 is not supported; 2, 4, 8"),
        (GPTQ | {"bits": None}, "bits None is not supported; 2, 4, 8"),
        (GPTQ | {"sym": "yes"}, "sym is 'yes', not true or false"),
        (GPTQ | {"checkpoint_format": "marlin"}, "format 'marlin' is not supported; gptq, gptq_v2"),
        (GPTQ | {"format": "gptq", "checkpoint_format": "gptq_v2"}, "checkpoint_format differ"),
        (GPTQ | {"method": "awq"}, "method 'awq' is not supported; gptq"),
        (AWQ | {"checkpoint_format": "gemv"}, "checkpoint_format 'gemv' is not supported; gemm"),
        (AWQ | {"dynamic": {"+:x": {"bits": 8}}}, "dynamic.+:x.bits 8 is not supported; 4"),
        (GPTQ | {"is_marlin_format": True}, "is_marlin_format is not known"),
        (GPTQ | {"dynamic": {"+:x": {"bits": 5}}}, "dynamic.+:x.bits 5 is not supported"),
        (GPTQ | {"dynamic": {"+:x": {"adapter": {"rank": 8}}}}, "dynamic.+:x.adapter is not known"),
        (GPTQ | {"dynamic": []}, "dynamic is [], not an object of objects"),
        (compressed(INT4, "nvfp4-pack-quantized"), "format 'nvfp4-pack-quantized' is not support"),
        (compressed(INT4, quantization_status="frozen"), "quantization_status 'frozen' is not"),
        (compressed(INT4, config_groups={}), "config_groups names no group"),
        (compressed(INT4, config_groups={"g": {"targets": []}}), "config_groups.g.weights is miss"),
        (compressed(INT4 | {"group_size": -1}), "weights.group_size is -1, which is no group"),
        (compressed(INT4 | {"strategy": "tensor_group"}), "strategy 'tensor_group' is not"),
        (compressed(INT4 | {"type": "float"}), "float values are not pack-quantized"),
        (compressed(INT4 | {"dynamic": True}), "weights.dynamic is true, but weights in a file"),
        (compressed(INT4 | {"actorder": "up"}), "actorder 'up' is not supported; weight, static"),
        (compressed(INT4, sparsity_config={"format": "sparse-24-bitmask"}), "'sparse-24-bitmask'"),
        (
            compressed(INT4, transform_config={"config_groups": {"u": {}}}),
            "transform_config is not",
        ),
        (FP8 | {"fmt": "e5m2"}, "fmt 'e5m2' is not supported; e4m3"),
        (FP8 | {"weight_block_size": [128]}, "weight_block_size is [128], not two positive"),
        (FP8 | {"expert_dtype": "fp4"}, "expert_dtype 'fp4' is not supported; fp8"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(config: object, words: str) -> None:
    assert words in refusal(config)


def test_pattern_that_is_none_is_refused() -> None:
    groups = {"g": {"targets": ["re:("], "weights": INT4}}
    with pytest.raises(ModelError, match=r"'re:\(' is no pattern"):
        read(compressed(INT4, config_groups=groups)).scheme_of("x")


def test_refusal_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"quantization_config": {"quant_method": "hqq"}}))
    with pytest.raises(ModelError) as caught:
        quantization_of(tmp_path)
    assert str(caught.value).startswith(f"{path}: quantization_config: quant_method 'hqq'")
