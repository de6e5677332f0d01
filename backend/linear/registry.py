"""Who multiplies by a weight: (its format, the device, the level) -> a kernel.

Levels of a CPU, best first: those of our kernels in C (native/level.py), `torch_bf16`, PyTorch's
kernels with its weight-only ones, `torch`, PyTorch's for any dtype, `exact`, the batch-invariant
one. Levels of a GPU: `triton`, `torch`, `exact`. What has no row of its own is expanded and
multiplied dense.
"""

from importlib import import_module
from typing import Any

import torch

from backend.linear.kernel import LinearKernel
from backend.linear.method import LinearMethod
from backend.native.level import LEVELS, Activations
from backend.quant.kept_weights import KeptWeights, KernelKind, Quantization
from backend.quant.planes import PLANES
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat

DENSE = WeightFormat.DENSE
NATIVE = "backend.linear.native:NativeKernel"
TRITON = "backend.linear.triton.kernel:TritonKernel"

KERNELS = {
    (weight_format, "cpu", level): NATIVE
    for level in LEVELS
    for weight_format in (DENSE, *BLOCK_FORMATS)
} | {
    (DENSE, "cpu", "torch_bf16"): "backend.linear.onednn:OneDnnKernel",
    (WeightFormat.Q4_0, "cpu", "torch_bf16"): "backend.linear.torch_weight_only:TorchInt4Kernel",
    (WeightFormat.Q4_1, "cpu", "torch_bf16"): "backend.linear.torch_weight_only:TorchInt4Kernel",
    # --quantization int8 without our own kernels
    (WeightFormat.Q8_CHANNEL, "cpu", "torch_bf16"): (
        "backend.linear.torch_weight_only:TorchInt8Kernel"
    ),
    #
    (DENSE, "cpu", "torch"): "backend.linear.onednn:OneDnnKernel",
    (DENSE, "cuda", "torch"): "backend.linear.onednn:OneDnnKernel",
    #
    (DENSE, "cpu", "exact"): "backend.linear.exact:ExactKernel",
    (DENSE, "cuda", "exact"): "backend.linear.exact:ExactKernel",
    #
    (DENSE, "cuda", "triton"): "backend.linear.cublas:CublasKernel",
    **{(weight_format, "cuda", "triton"): TRITON for weight_format in PLANES},
}


def create_method(
    quantization: Quantization,
    level: str,
    dtype: torch.dtype,
    device: torch.device,
    activations: Activations = "mixed",
) -> LinearMethod:
    """Make the kernels of a device and level, and what hands each weight to one of them.

    activations: what our own kernels make of them.
    """
    kernels: dict[WeightFormat, LinearKernel[Any, Any]] = {}
    for (weight_format, kind, kernels_level), name in KERNELS.items():
        if (kind, kernels_level) == (device.type, level):
            arguments: tuple[Any, ...] = (dtype, device)
            if name == NATIVE:
                arguments = (weight_format, activations)
            elif name == TRITON:
                arguments = (weight_format, dtype, device)
            kernels[weight_format] = _class_of(name)(*arguments)
    return LinearMethod(quantization, kernels, device)


def kept_weights(quantization: Quantization, level: str, dtype: torch.dtype) -> KeptWeights:
    """Return what the method of a level keeps of each weight."""
    kinds: dict[str, KernelKind] = {
        "torch_bf16": "torch_bf16",
        "torch": "torch",
        "exact": "torch",
        "triton": "triton",
    }
    return KeptWeights(quantization, kinds.get(level, "native"), dtype.itemsize)


def _class_of(name: str) -> type[Any]:
    module, _, attribute = name.partition(":")
    kernel: type[Any] = getattr(import_module(module), attribute)
    return kernel
