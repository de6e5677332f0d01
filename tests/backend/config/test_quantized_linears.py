"""Rules of finding quantised linears: by names, dtypes and shapes alone."""

from collections.abc import Mapping

import pytest

from backend.config.errors import ModelError
from backend.config.quantization_methods import read_quantization
from backend.config.quantized_linears import FileTensor, find_linears, present

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
AWQ_TENSORS = {
    "x.qweight": FileTensor("I32", (64, 6)),
    "x.qzeros": FileTensor("I32", (2, 6)),
    "x.scales": FileTensor("F16", (2, 48)),
}
GPTQ_TENSORS = {
    "x.qweight": FileTensor("I32", (8, 48)),
    "x.qzeros": FileTensor("I32", (2, 6)),
    "x.scales": FileTensor("F16", (2, 48)),
    "x.g_idx": FileTensor("I32", (64,)),
}
FP8_TENSORS = {
    "x.weight": FileTensor("F8_E4M3", (200, 64)),
    "x.weight_scale_inv": FileTensor("F32", (2, 1)),
}
PACKED_TENSORS = {
    "x.weight_packed": FileTensor("I32", (48, 8)),
    "x.weight_scale": FileTensor("F16", (48, 2)),
}


def packed(**weights: object) -> dict[str, object]:
    group = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32} | weights
    groups = {"group_0": {"targets": ["Linear"], "weights": group}}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": groups,
    }


PACKED = packed(group_size=33)
PACKED_ASYMMETRIC = packed(symmetric=False)
PACKED_ANY_ORDER = packed(actorder="group")
PLAIN = {"norm.weight": FileTensor("F16", (64,)), "head.weight": FileTensor("F16", (320, 64))}


def shapes_of(
    config: Mapping[str, object], tensors: dict[str, FileTensor]
) -> dict[str, tuple[int, ...]]:
    quantization = read_quantization({"quantization_config": config})
    assert quantization is not None
    return present(find_linears(quantization, tensors), tensors)


@pytest.mark.parametrize(
    ("config", "tensors", "shape"),
    [(AWQ, AWQ_TENSORS, (48, 64)), (GPTQ, GPTQ_TENSORS, (48, 64)), (FP8, FP8_TENSORS, (200, 64))],
)
def test_quantised_linear_is_one_tensor_among_others(
    config: dict[str, object], tensors: dict[str, FileTensor], shape: tuple[int, int]
) -> None:
    extra = {"x.bias": FileTensor("F16", (shape[0],)), "x.input_scale": FileTensor("F32", ())}
    expected = {"norm.weight": (64,), "head.weight": (320, 64), "x.bias": (shape[0],)}
    assert shapes_of(config, PLAIN | tensors | extra) == expected | {"x.weight": shape}


def test_columns_may_go_without_an_order() -> None:
    tensors = {name: tensor for name, tensor in GPTQ_TENSORS.items() if name != "x.g_idx"}
    assert shapes_of(GPTQ, tensors) == {"x.weight": (48, 64)}


def test_one_scale_may_have_any_number_of_dimensions() -> None:
    config = {"quant_method": "fp8"}
    for shape in ((), (1,), (1, 1)):
        tensors = FP8_TENSORS | {"x.weight_scale_inv": FileTensor("BF16", shape)}
        assert shapes_of(config, tensors) == {"x.weight": (200, 64)}


@pytest.mark.parametrize(
    ("config", "tensors", "name", "tensor", "words"),
    [
        (AWQ, AWQ_TENSORS, "x.qzeros", None, "has no tensor x.qzeros, which a linear of AWQ int4"),
        (AWQ, AWQ_TENSORS, "x.scales", None, "has no tensor x.scales, which"),
        (AWQ, AWQ_TENSORS, "x.scales", FileTensor("F16", (1, 48)),
         r"x.scales has shape \[1, 48\]; with 4 bits and scales for 1 x 32 values of a \[48, 64\]"
         r" matrix it would be \[2, 48\]"),
        (AWQ, AWQ_TENSORS, "x.qzeros", FileTensor("I32", (2, 48)), r"it would be \[2, 6\]"),
        (AWQ, AWQ_TENSORS, "x.qweight", FileTensor("I16", (64, 6)), "x.qweight is I16; AWQ int4"),
        (AWQ, AWQ_TENSORS, "x.qweight", FileTensor("I32", (4, 64, 6)), "must be stored one by one"),
        (GPTQ, GPTQ_TENSORS, "x.g_idx", FileTensor("I32", (32,)), r"it would be \[64\]"),
        (AWQ | {"group_size": 33}, AWQ_TENSORS, "x.y", None, "no whole groups of 33\ngroup_size"),
        (GPTQ | {"desc_act": True}, GPTQ_TENSORS, "x.g_idx", None, "no tensor x.g_idx, which says"),
        (PACKED, PACKED_TENSORS, "x.y", None, "x has 64 columns, which are no whole groups of 33"),
        (PACKED_ASYMMETRIC, PACKED_TENSORS, "x.y", None, "no tensor x.weight_zero_point, though s"),
        (PACKED_ANY_ORDER, PACKED_TENSORS, "x.y", None, "no tensor x.weight_g_idx, which says"),
        (GPTQ | {"bits": 8}, GPTQ_TENSORS, "x.g_idx", None, r"x.scales .* would be \[1, 48\]"),
        (FP8, FP8_TENSORS, "x.weight_scale_inv", None, "no tensor x.weight_scale, so x.weight m"),
        (FP8, FP8_TENSORS, "x.weight_scale_inv", FileTensor("F32", (1, 2)), r"would be \[2, 1\]"),
        (FP8, FP8_TENSORS, "x.weight", FileTensor("I8", (200, 64)), "x.weight is I8; fp8 has F8"),
    ],
)  # fmt: skip
def test_tensor_that_contradicts_the_configuration_is_refused(
    config: dict[str, object],
    tensors: dict[str, FileTensor],
    name: str,
    tensor: FileTensor | None,
    words: str,
) -> None:
    changed = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(ModelError, match=words):
        shapes_of(config, changed | ({name: tensor} if tensor else {}))
