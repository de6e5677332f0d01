"""Quantises matrices the way AWQ, GPTQ, compressed-tensors and DeepSeek lay them out.

Written after their definitions and with numpy alone, so that what reads them is held against
something that shares no code with it; tests/backend/weights/test_quantized_linear.py holds these
against what the libraries themselves have written.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from backend.quant.weight_format import WeightFormat
from tests.backend.factories import write_tiny_llama

_Ints = npt.NDArray[np.int64]
# WQLinear_GEMM.from_linear: nibble i of a word holds value AWQ_NIBBLES[i] of eight.
AWQ_NIBBLES = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class Rounded:
    """w[n, k] = scales[n, groups[k]] * (values[n, k] - zeros[n, groups[k]]), values from 0 on."""

    bits: int
    values: _Ints
    scales: Tensor
    zeros: _Ints
    groups: _Ints

    @property
    def middle(self) -> int:
        return 1 << (self.bits - 1)

    def to_dense(self) -> Tensor:
        steps = torch.from_numpy(self.values - self.zeros[:, self.groups]).float()
        return steps * self.scales.float()[:, torch.from_numpy(self.groups)]


def round_groups(
    weight: Tensor,
    bits: int,
    size: int,
    *,
    symmetric: bool,
    dtype: torch.dtype = torch.float16,
    groups: _Ints | None = None,
) -> Rounded:
    """Round a matrix [N, K] to `bits`, in groups of `size` columns; -1: all of a row."""
    n, k = weight.shape
    size = k if size < 0 else size
    groups = np.arange(k) // size if groups is None else groups
    num_groups = -(-k // size)
    scales, zeros = torch.zeros(n, num_groups), np.zeros((n, num_groups), np.int64)
    largest, middle = (1 << bits) - 1, 1 << (bits - 1)
    values = np.zeros((n, k), np.int64)
    for group in range(num_groups):
        columns = np.flatnonzero(groups == group)
        part = weight[:, columns].float()
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        span = 2 * torch.maximum(-low, high) if symmetric else high - low
        scale = (span / largest).to(dtype).float()
        zero = torch.full((n,), middle) if symmetric else (-low / scale).round().long()
        zeros[:, group] = zero.clamp(0, largest).numpy()
        steps = (part / scale[:, None]).round().long().numpy() + zeros[:, group : group + 1]
        values[:, columns] = steps.clip(0, largest)
        scales[:, group] = scale
    return Rounded(bits, values, scales.to(dtype), zeros, groups)


def pack(values: _Ints, bits: int, nibbles: tuple[int, ...] | None = None) -> Tensor:
    """[R, C] -> int32 [R, C * bits / 32]; nibbles: which of a word's values each place holds."""
    per_word = 32 // bits
    words = np.zeros((len(values), values.shape[1] // per_word), np.uint32)
    for place, value in enumerate(nibbles or range(per_word)):
        words |= values[:, value::per_word].astype(np.uint32) << np.uint32(bits * place)
    return torch.from_numpy(words.view(np.int32))


def awq(rounded: Rounded) -> dict[str, Tensor]:
    """Lay out as AutoAWQ does, version gemm."""
    return {
        "qweight": pack(rounded.values.T, 4, AWQ_NIBBLES),
        "qzeros": pack(rounded.zeros.T, 4, AWQ_NIBBLES),
        "scales": rounded.scales.T.contiguous(),
    }


def gptq(rounded: Rounded, version: int = 1) -> dict[str, Tensor]:
    """Lay out as AutoGPTQ and GPTQModel do."""
    zeros = (rounded.zeros - (version == 1)) & ((1 << rounded.bits) - 1)
    return {
        "qweight": pack(rounded.values, rounded.bits).T.contiguous(),
        "qzeros": pack(zeros.T, rounded.bits),
        "scales": rounded.scales.T.contiguous(),
        "g_idx": torch.from_numpy(rounded.groups.astype(np.int32)),
    }


def pack_quantized(rounded: Rounded, *, symmetric: bool) -> dict[str, Tensor]:
    """Lay out as compressed-tensors does, format pack-quantized."""
    parts = {
        "weight_packed": pack(rounded.values, rounded.bits),
        "weight_scale": rounded.scales,
        "weight_shape": torch.tensor(rounded.values.shape),
    }
    if not symmetric:
        parts["weight_zero_point"] = pack(rounded.zeros.T, rounded.bits).T.contiguous()
    return parts


def int_quantized(rounded: Rounded, *, symmetric: bool) -> dict[str, Tensor]:
    """Lay out as compressed-tensors does, format int-quantized."""
    parts = {
        "weight": torch.from_numpy((rounded.values - rounded.middle).astype(np.int8)),
        "weight_scale": rounded.scales,
    }
    if not symmetric:
        zeros = (rounded.zeros - rounded.middle).astype(np.int8)
        parts["weight_zero_point"] = torch.from_numpy(zeros)
    return parts


def round_fp8(weight: Tensor, block: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Round to float8_e4m3 with a scale for each block; 0: all rows, or columns."""
    rows, columns = (size or whole for size, whole in zip(block, weight.shape, strict=True))
    scales = torch.stack(
        [
            torch.stack([part.abs().amax() / 448 for part in torch.split(band, columns, 1)])
            for band in torch.split(weight.float(), rows)
        ]
    ).to(dtype)
    spread = _spread(scales, (rows, columns), weight.shape)
    return (weight.float() / spread).to(torch.float8_e4m3fn), scales


def _spread(scales: Tensor, block: tuple[int, int], shape: torch.Size) -> Tensor:
    """A scale for each value."""
    wide = scales.float().repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return wide[: shape[0], : shape[1]]


@dataclass(frozen=True)
class Layout:
    """One kind of directory: how a matrix is laid out, and what config.json says of it.

    convert: a matrix -> the parts of it and what they stand for. format: the blocks that it is
    read in. words: what the operator is shown of it.
    """

    convert: Callable[[Tensor], tuple[dict[str, Tensor], Tensor]]
    config: dict[str, Any]
    format: WeightFormat
    words: str = ""


def awq_layout(size: int = 32) -> Layout:
    def convert(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        rounded = round_groups(weight, 4, size, symmetric=False)
        return awq(rounded), rounded.to_dense()

    config = {"quant_method": "awq", "bits": 4, "group_size": size, "zero_point": True,
              "version": "gemm", "modules_to_not_convert": None}  # fmt: skip
    return Layout(convert, config, WeightFormat.Q4_1, "AWQ int4")


def gptq_layout(
    format: WeightFormat,
    bits: int = 4,
    size: int = 32,
    *,
    version: int = 1,
    symmetric: bool = True,
    in_order: bool = True,
) -> Layout:
    def convert(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        k = weight.shape[1]
        groups = np.arange(k) // (size if size > 0 else k)
        if not in_order:
            groups = np.random.default_rng(k).permutation(groups)
        rounded = round_groups(weight, bits, size, symmetric=symmetric, groups=groups)
        return gptq(rounded, version), rounded.to_dense()

    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "sym": symmetric,
              "desc_act": not in_order, "damp_percent": 0.01, "true_sequential": True,
              "checkpoint_format": "gptq" if version == 1 else "gptq_v2"}  # fmt: skip
    return Layout(convert, config, format, f"GPTQ int{bits}")


def _compressed(
    layout: str,
    weights: dict[str, Any],
    convert: Callable[[Tensor], tuple[dict[str, Tensor], Tensor]],
    format: WeightFormat,
) -> Layout:
    kind = "fp8" if weights["type"] == "float" else f"int{weights['num_bits']}"
    activations = {"num_bits": 8, "type": weights["type"], "strategy": "token", "dynamic": True}
    config = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "global_compression_ratio": 1.4,
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights | {"dynamic": False, "observer": "minmax"},
                "input_activations": None if layout == "pack-quantized" else activations,
                "output_activations": None,
            }
        },
    }
    return Layout(convert, config, format, f"compressed-tensors {kind}")


def _compressed_ints(
    layout: str, format: WeightFormat, bits: int, size: int, *, symmetric: bool = True
) -> Layout:
    def convert(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        rounded = round_groups(weight, bits, size, symmetric=symmetric, dtype=torch.bfloat16)
        lay_out = pack_quantized if layout == "pack-quantized" else int_quantized
        return lay_out(rounded, symmetric=symmetric), rounded.to_dense()

    strategy = {"strategy": "channel"} if size < 0 else {"strategy": "group", "group_size": size}
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric} | strategy
    return _compressed(layout, weights, convert, format)


def _fp8_convert(
    block: tuple[int, int], name: str, dtype: torch.dtype, *, static: bool = False
) -> Callable[[Tensor], tuple[dict[str, Tensor], Tensor]]:
    def convert(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        values, scales = round_fp8(weight, block, dtype)
        rows, columns = (size or whole for size, whole in zip(block, weight.shape, strict=True))
        dense = values.float() * _spread(scales, (rows, columns), weight.shape)
        parts = {"weight": values, name: scales if any(block) else scales.flatten()}
        return parts | ({"input_scale": torch.tensor(0.1)} if static else {}), dense

    return convert


def _compressed_floats(strategy: dict[str, Any], block: tuple[int, int]) -> Layout:
    convert = _fp8_convert(block, "weight_scale", torch.bfloat16)
    weights = {"num_bits": 8, "type": "float", "symmetric": True} | strategy
    return _compressed("float-quantized", weights, convert, WeightFormat.FP8)


def _fp8_layout(block: tuple[int, int]) -> Layout:
    name = "weight_scale_inv" if any(block) else "weight_scale"
    convert = _fp8_convert(block, name, torch.float32, static=not any(block))
    config: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "static"}
    if any(block):
        config = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
                  "weight_block_size": list(block)}  # fmt: skip
    return Layout(convert, config, WeightFormat.FP8, "fp8")


_Q8_MINS = WeightFormat.Q8_MINS
_DENSE, _Q4_0, _Q4_1 = WeightFormat.DENSE, WeightFormat.Q4_0, WeightFormat.Q4_1
_Q8_0 = WeightFormat.Q8_0
LAYOUTS: dict[str, Layout] = {
    "awq": awq_layout(),
    "gptq": gptq_layout(_Q4_0),
    "gptq, zero points": gptq_layout(_Q4_1, symmetric=False),
    "gptq v2": gptq_layout(_Q4_0, version=2),
    "gptq v2, zero points, groups of 64": gptq_layout(_Q4_1, size=64, version=2, symmetric=False),
    "gptq, columns in any order": gptq_layout(_Q4_1, symmetric=False, in_order=False),
    "gptq, groups of 16": gptq_layout(_DENSE, size=16),
    "gptq, 8 bits a row": gptq_layout(_Q8_0, bits=8, size=-1),
    "gptq, 8 bits, zero points": gptq_layout(_Q8_MINS, bits=8, symmetric=False),
    "gptq, 2 bits": gptq_layout(_Q4_0, bits=2),
    "pack-quantized": _compressed_ints("pack-quantized", _Q4_0, 4, 32),
    "pack-quantized, zero points": _compressed_ints(
        "pack-quantized", _Q4_1, 4, 32, symmetric=False
    ),
    "pack-quantized, 8 bits": _compressed_ints("pack-quantized", _Q8_0, 8, -1),
    "int-quantized": _compressed_ints("int-quantized", _Q8_0, 8, -1),
    "int-quantized, zero points": _compressed_ints(
        "int-quantized", _Q8_MINS, 8, -1, symmetric=False
    ),
    "float-quantized": _compressed_floats({"strategy": "channel"}, (1, 0)),
    "float-quantized, one scale": _compressed_floats({"strategy": "tensor"}, (0, 0)),
    "float-quantized, blocks": _compressed_floats(
        {"strategy": "block", "block_structure": [16, 32]}, (16, 32)
    ),
    "fp8": _fp8_layout((128, 128)),
    "fp8, one scale": _fp8_layout((0, 0)),
}


@dataclass(frozen=True)
class QuantizedModel:
    """directory: quantised. dense: a directory of what its tensors stand for, float32."""

    directory: Path
    dense: Path
    tensors: dict[str, Tensor] = field(default_factory=dict)


def write_quantized_llama(path: Path, layout: Layout, **overrides: Any) -> QuantizedModel:
    """Write a tiny Llama in a layout, and its dense twin. overrides: of write_tiny_llama."""
    dense = write_tiny_llama(path / "dense", **{"tie": False} | overrides)
    return quantize(dense, path / "quantized", layout, r".*_proj")


def quantize(
    dense: Path, directory: Path, layout: Layout, linears: str, *, transposed: bool = False
) -> QuantizedModel:
    """Quantise the linears of a directory whose names match, there and in a copy of it.

    What they stand for is written back. transposed: matrices of the directory are [in, out].
    """
    shutil.copytree(dense, directory)
    tensors: dict[str, Tensor] = {}
    twin: dict[str, Tensor] = {}
    for name, tensor in safetensors.torch.load_file(dense / "model.safetensors").items():
        twin[name] = tensor
        module = name.removesuffix(".weight")
        if module != name and re.fullmatch(linears, module):
            parts, values = layout.convert(tensor.T if transposed else tensor)
            tensors |= {f"{module}.{part}": values for part, values in parts.items()}
            twin[name] = values.T if transposed else values
        else:
            tensors[name] = tensor
    save(directory, tensors)
    save(dense, twin)
    set_quantization(directory, layout.config)
    return QuantizedModel(directory, dense, twin)


def save(directory: Path, tensors: dict[str, Tensor]) -> None:
    """Write the tensors of a directory."""
    file = directory / "model.safetensors"
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(whole, file, metadata={"format": "pt"})


def set_quantization(directory: Path, config: object) -> None:
    """Write quantization_config into a directory's config.json."""
    path = directory / "config.json"
    fields = json.loads(path.read_text()) | {"quantization_config": config}
    path.write_text(json.dumps(fields))
