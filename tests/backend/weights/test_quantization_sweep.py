"""No field of quantization_config is ignored in silence: it is used, refused, or known and why."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.utils import quantization_config as theirs

from backend.config.errors import ModelError
from backend.config.quantization_methods import read_quantization
from backend.config.quantized_linears import FileTensor, find_linears
from backend.weights.quantized_linear import QuantizedLinear
from tests.backend.models.field_sweep import REMOVED, Change, changes_of
from tests.backend.quantized_layouts import LAYOUTS, Layout

SHAPE = (48, 128)  # out, in
DTYPES = {
    torch.int32: "I32", torch.int64: "I64", torch.int8: "I8", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3",
}  # fmt: skip
# The classes that transformers has of a method, whose arguments are its fields.
CLASSES: dict[str, tuple[Any, ...]] = {
    "awq": (theirs.AwqConfig, theirs.GPTQConfig),
    "gptq": (theirs.GPTQConfig,),
    "fp8": (theirs.FineGrainedFP8Config,),
    "compressed-tensors": (theirs.CompressedTensorsConfig,),
}
# QuantizationArgs and QuantizationScheme of compressed-tensors 0.20.1.
WEIGHTS = """num_bits type symmetric group_size strategy block_structure dynamic actorder
    scale_dtype zp_dtype observer observer_kwargs"""
GROUP = "targets weights input_activations output_activations format"
# What GPTQModel 7 writes beside what transformers knows.
WRITTEN = "dynamic lm_head method checkpoint_format pack_dtype rotation adapter version"
VALUES: tuple[Any, ...] = (
    *(True, False, 8, 0.5, 16, 33, -1, "x", "gptq_v2", "group", "float", "block", "torch.int8"),
    *(["x"], [16, 16], {"x": {}}, {"+:x": {"bits": 8}}),
)
# Fields that leave the weights as they are, and why.
MAKING = """tokenizer dataset damp_percent act_group_aware true_sequential meta backend model_seqlen
    block_name_to_quantize module_name_preceding_first_block batch_size pad_token_id
    max_input_length cache_block_outputs modules_in_block_to_quantize"""
# The tensors of a file say which modules are quantised.
MODULES = "modules_to_not_convert modules_to_convert lm_head dynamic ignore targets"
# The shape, dtype or presence of a tensor says it, and is looked at.
TENSORS = """bits desc_act sym zero_point num_bits zp_dtype scale_dtype block_structure group_size
    strategy symmetric actorder type weight_block_size"""
# Ours are not rounded, or more finely; keys and values are kept as --kv-cache-dtype says.
ACTIVATIONS = "activation_scheme input_activations output_activations kv_cache_scheme"
# How programs run a file: in other kernels, expanded at load.
RUNNING = "dequantize use_optimized_inference run_compressed"
# How scales were found; by what.
OTHERS = "observer observer_kwargs global_compression_ratio scale_fmt version"
HARMLESS = frozenset(" ".join((MAKING, MODULES, TENSORS, ACTIVATIONS, RUNNING, OTHERS)).split())
# What makes other numbers of tensors whose shapes fit: GPTQ's versions; blocks that as many cover;
# values of half the bits, of which there would be twice as many as the model has columns.
USED = {"gptq": "format checkpoint_format", "float-quantized": "block_structure"} | {
    "pack-quantized": "num_bits"
}


class Linear:
    """One linear in a layout, and a config.json that may say anything of it."""

    def __init__(self, name: str) -> None:
        self.layout = LAYOUTS[name]
        weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
        parts, self.dense = self.layout.convert(weight)
        self.tensors = {f"x.{part}": tensor for part, tensor in parts.items()}

    def read(self, config: dict[str, Any]) -> Tensor:
        quantization = read_quantization({"quantization_config": config})
        assert quantization is not None
        stored = {
            name: FileTensor(DTYPES[tensor.dtype], tuple(tensor.shape))
            for name, tensor in self.tensors.items()
        }
        found = find_linears(quantization, stored)
        if not found:
            raise ModelError("no tensor is quantised so")
        linear = QuantizedLinear(found["x.weight"], self.tensors.__getitem__)
        linear.format_of()
        return linear.read()

    def changes(self) -> Iterator[Change]:
        config = self.layout.config
        yield from changes_of(config, None)
        places: list[tuple[tuple[str, ...], set[str]]] = [((), set(WRITTEN.split()))]
        for kind in CLASSES[config["quant_method"]]:
            places[0][1].update(inspect.signature(kind.__init__).parameters)
        if "config_groups" in config:
            group = ("config_groups", "group_0")
            places += [(group, set(GROUP.split())), ((*group, "weights"), set(WEIGHTS.split()))]
        for place, names in places:
            for name in sorted(names - {"self", "kwargs", "quant_method", "config_groups"}):
                yield from (Change((*place, name), value) for value in VALUES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_field_of_a_quantisation_is_ignored(name: str) -> None:
    linear = Linear(name)
    torch.testing.assert_close(linear.read(linear.layout.config), linear.dense, rtol=0, atol=0)
    ignored, moved, refused = [], set(), 0
    for change in linear.changes():
        try:
            weight = linear.read(change.of(linear.layout.config))
        except ModelError:
            refused += 1
            continue
        if not torch.equal(weight, linear.dense):
            moved.add(change.path[-1])
        elif not says_nothing_else(change, linear.layout) and not set(change.path) & HARMLESS:
            ignored.append(str(change))
    assert not ignored
    assert refused > 50
    assert moved <= set(USED.get(name.partition(",")[0].partition(" ")[0], "").split())


def says_nothing_else(change: Change, layout: Layout) -> bool:
    """Whether a field is left out, which is as it was by default, or said once more."""
    if change.value is REMOVED or change.value is False:
        return True
    version = layout.config.get("checkpoint_format")
    return change.path[-1] in ("format", "checkpoint_format") and change.value == version
