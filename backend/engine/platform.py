"""What a rank computes with on this machine: settings -> device, dtype, ops, linear method."""

import torch

from backend.config.model_config import ModelConfig, ModelError
from backend.linear.method import LinearMethod
from backend.linear.registry import create_method
from backend.linear.torch_weight_only import weight_only_kernels_work
from backend.native import absence, kernels, levels
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps
from backend.ops.native import NativeOps
from backend.ops.op_table import Ops
from backend.settings import EngineSettings


def resolve_device(name: str, rank: int) -> torch.device:
    """Return the device of a rank. Raises ModelError if it is not there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind, _, index = name.partition(":")
    if kind == "cuda" and count == 0:
        build = "" if torch.version.cuda else "; this PyTorch was built without CUDA"
        raise ModelError(
            f"--device {name}: PyTorch sees no CUDA device on this machine{build}\n"
            "see what nvidia-smi says, or leave --device out to compute on the CPU"
        )
    if index and int(index) >= count:
        raise ModelError(f"device {name} is not there: PyTorch sees {count}, cuda:0 the first")
    if kind == "cpu" or count == 0:
        return torch.device("cpu")
    return torch.device("cuda", int(index) if index else rank % count)


def resolve_dtype(name: str, device: torch.device) -> str:
    """Return the arithmetic; `auto` is bfloat16 where the device multiplies it natively."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def select_ops(
    settings: EngineSettings, dtype: torch.dtype, device: torch.device, config: ModelConfig
) -> Ops:
    """Return the op table. Raises ModelError if the native one is asked for and not to be had."""
    if settings.exact:
        return ExactOps()
    fits = (
        dtype == torch.bfloat16
        and device.type == "cpu"
        and NativeOps.takes(
            config.head_dim, settings.block_size, config.num_heads, config.num_kv_heads
        )
    )
    if settings.kernels not in ("auto", "torch") and not fits:
        misfit = (
            "not for this model, --dtype or --block-size\n"
            "they take bfloat16 on a CPU, heads of 16 to 256 in steps of 16, blocks in steps of "
            "16 tokens"
        )
        raise ModelError(f"--kernels {settings.kernels}: {absence or misfit}")
    return NativeOps() if fits and settings.kernels != "torch" else CpuOps()


def select_linear_method(
    settings: EngineSettings, dtype: torch.dtype, device: torch.device
) -> LinearMethod:
    """Return who keeps the weights. Raises ModelError for what does not go together."""
    level = linear_level(settings, dtype, device)
    if settings.quantization in ("int8", "int4") and level in ("exact", "torch"):
        raise ModelError(
            f"--quantization {settings.quantization} needs a CPU, --dtype bfloat16 and no --exact"
        )
    return create_method(settings.quantization, level, dtype, device)


def linear_level(settings: EngineSettings, dtype: torch.dtype, device: torch.device) -> str:
    """Return which kernels multiply, a level of linear/registry.py."""
    if settings.exact:
        return "exact"
    if dtype != torch.bfloat16 or device.type != "cpu":
        return "torch"
    if kernels is not None and settings.kernels != "torch":
        return _own_level(settings.kernels)
    return "torch_bf16" if weight_only_kernels_work() else "torch"


def _own_level(wanted: str) -> str:
    """Return the level of our kernels that serves, and have it serve. Raises ModelError."""
    known = (["amx_bf16"] if has_tiles() else []) + levels()
    level = known[0] if wanted in ("auto", "native") else wanted
    if level not in known:
        raise ModelError(
            f"--kernels {wanted}: this processor has no such level\nit has {', '.join(known)}"
        )
    # AMX is oneDNN's; what is not multiplied by it runs at the best level below.
    kernels.use(levels()[0] if level == "amx_bf16" else level)
    return level


def has_tiles() -> bool:
    """Whether oneDNN multiplies by AMX here."""
    return torch.cpu._is_amx_tile_supported()
