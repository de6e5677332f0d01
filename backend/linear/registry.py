"""Who multiplies by a weight: (its format, the device, the level) -> a kernel.

Levels of a CPU, best first: `amx_bf16` and `avx512_bf16` are those of our kernels in C,
`torch_bf16` is PyTorch's kernels with its weight-only ones, `torch` PyTorch's for any dtype,
`exact` the batch-invariant one. What has no row of its own is expanded and multiplied dense.
"""

from importlib import import_module
from typing import Any

import torch

from backend.linear.kernel import LinearKernel
from backend.linear.method import LinearMethod, Quantization
from backend.linear.onednn import OneDnnKernel
from backend.quant.weight_format import WeightFormat

DENSE, Q4, Q8, Q8_CHANNEL = (
    WeightFormat.DENSE,
    WeightFormat.Q4,  # GGUF's Q4_0 and Q4_1
    WeightFormat.Q8,  # GGUF's Q8_0
    WeightFormat.Q8_CHANNEL,  # --quantization int8 without our own kernels
)

KERNELS = {
    (DENSE, "cpu", "amx_bf16"): "backend.linear.onednn:OneDnnKernel",
    (Q4, "cpu", "amx_bf16"): "backend.linear.native:Q4BesideTilesKernel",
    (Q8, "cpu", "amx_bf16"): "backend.linear.native:Q8BesideTilesKernel",
    #
    (DENSE, "cpu", "avx512_bf16"): "backend.linear.native:NativeDenseKernel",
    (Q4, "cpu", "avx512_bf16"): "backend.linear.native:NativeQ4Kernel",
    (Q8, "cpu", "avx512_bf16"): "backend.linear.native:NativeQ8Kernel",
    #
    (DENSE, "cpu", "torch_bf16"): "backend.linear.onednn:OneDnnKernel",
    (Q4, "cpu", "torch_bf16"): "backend.linear.torch_weight_only:TorchInt4Kernel",
    (Q8_CHANNEL, "cpu", "torch_bf16"): "backend.linear.torch_weight_only:TorchInt8Kernel",
    #
    (DENSE, "cpu", "torch"): "backend.linear.onednn:OneDnnKernel",
    (DENSE, "cuda", "torch"): "backend.linear.onednn:OneDnnKernel",
    #
    (DENSE, "cpu", "exact"): "backend.linear.exact:ExactKernel",
    (DENSE, "cuda", "exact"): "backend.linear.exact:ExactKernel",
}


def create_method(
    quantization: Quantization, level: str, dtype: torch.dtype, device: torch.device
) -> LinearMethod:
    """Make the kernels of a device and level, and what hands each weight to one of them."""
    kernels = {
        weight_format: _create(name, dtype, device)
        for (weight_format, kind, kernels_level), name in KERNELS.items()
        if (kind, kernels_level) == (device.type, level)
    }
    return LinearMethod(quantization, kernels, OneDnnKernel(dtype, device))


def _create(name: str, dtype: torch.dtype, device: torch.device) -> LinearKernel[Any, Any]:
    module, _, attribute = name.partition(":")
    kernel: LinearKernel[Any, Any] = getattr(import_module(module), attribute)(dtype, device)
    return kernel
