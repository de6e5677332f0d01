"""What a rank computes with on this machine: settings -> device, dtype, ops, linear method."""

from dataclasses import dataclass
from importlib.util import find_spec

import torch

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.linear.method import LinearMethod
from backend.linear.registry import create_method, kept_weights
from backend.linear.torch_weight_only import weight_only_kernels_work
from backend.native import absence, kernels, levels
from backend.native.level import LEVELS, Activations, choose_activations, choose_level, describe
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps
from backend.ops.native import NativeOps
from backend.ops.native_latent import NativeLatentAttention
from backend.ops.op_table import Ops
from backend.quant.kept_weights import KeptWeights
from backend.settings import EngineSettings

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


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


def device_of(settings: EngineSettings, rank: int, first_rank: int) -> torch.device:
    """Return the device of a rank of a group, and make it the current one.

    first_rank: ranks in the groups before this one, to share out the devices. Raises ModelError.
    """
    name = settings.devices[rank] if settings.devices else settings.device
    device = resolve_device(name, first_rank + rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # kernels and graphs go to the current one
    return device


def resolve_dtype(settings: EngineSettings, device: torch.device) -> str:
    """Return the arithmetic; `auto` is bfloat16 where our kernels serve, or the device multiplies
    it natively."""
    if settings.dtype != "auto":
        return settings.dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if kernels is not None and settings.kernels != "torch":
        return "bfloat16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def dtype_name(dtype: torch.dtype) -> str:
    """Return what settings call an arithmetic."""
    return next(name for name, known in DTYPES.items() if known == dtype)


@dataclass(frozen=True, slots=True)
class Platform:
    """Ops, who multiplies, what is kept of weights, and a description for the operator."""

    ops: Ops
    method: LinearMethod
    kept: KeptWeights
    description: str

    @classmethod
    def choose(
        cls,
        settings: EngineSettings,
        dtype: torch.dtype,
        device: torch.device,
        config: ModelConfig,
    ) -> "Platform":
        """Choose the best that settings allow. Raises ModelError for what is not to be had."""
        if dtype == torch.float16 and config.encoder:
            raise ModelError(
                f"--dtype float16: the sums of a {config.family} exceed its range\n"
                "take bfloat16 or float32"
            )
        level = select_level(settings, dtype, device)
        activations = _activations(settings, level)
        _check_quantization(settings, level)
        ops = _select_ops(settings, level, device, config)
        _check_kv_dtype(settings, ops, config, _describe(settings, device, ops, config))
        method = create_method(settings.quantization, level, dtype, device, activations)
        kept = kept_weights(settings.quantization, level, dtype)
        return cls(ops, method, kept, _describe(settings, device, ops, config))


def select_level(settings: EngineSettings, dtype: torch.dtype, device: torch.device) -> str:
    """Return whose kernels multiply, a level of linear/registry.py, and have our own serve at it.

    Raises ModelError if it was asked for by name and is not to be had.
    """
    is_ours = settings.kernels != "torch" and dtype == torch.bfloat16 and device.type == "cpu"
    if kernels is not None and is_ours:
        try:
            level = choose_level(settings.kernels, levels())
        except ValueError as error:
            raise ModelError(str(error)) from None
        kernels.use(level)
        return level
    if settings.kernels not in ("auto", "torch"):
        misfit = "our own kernels take bfloat16 on a CPU\nleave --dtype, --device or --kernels out"
        raise ModelError(f"--kernels {settings.kernels}: {absence or misfit}")
    if settings.exact:
        return "exact"
    if device.type == "cuda" and settings.kernels != "torch" and find_spec("triton"):
        return "triton"
    if dtype != torch.bfloat16 or device.type != "cpu":
        return "torch"
    return "torch_bf16" if weight_only_kernels_work() else "torch"


def _activations(settings: EngineSettings, level: str) -> Activations:
    """Return what activations are multiplied as. Raises ModelError where they are not quantised."""
    if level in LEVELS:
        try:
            return choose_activations(settings.activations, level)
        except ValueError as error:
            raise ModelError(str(error)) from None
    if settings.activations != "auto":
        raise ModelError(
            f"--activations {settings.activations}: PyTorch's kernels have no such choice\n"
            "our own do, with bfloat16 on a CPU\nleave it out, or see --kernels"
        )
    return "int8"


def _check_quantization(settings: EngineSettings, level: str) -> None:
    if settings.quantization in ("int8", "int4") and level in ("exact", "torch"):
        raise ModelError(
            f"--quantization {settings.quantization} needs a GPU with Triton, or a CPU, --dtype "
            "bfloat16 and our own kernels, or PyTorch's without --exact"
        )


def _check_kv_dtype(settings: EngineSettings, ops: Ops, config: ModelConfig, words: str) -> None:
    """Raise ModelError if keys and values of 8 bits are asked for and not read here.

    words: what computes.
    """
    wanted = settings.kv_cache_dtype
    if wanted == "auto":
        return
    if wanted == "fp8" and not ops.reads_fp8:
        raise ModelError(
            "--kv-cache-dtype fp8: keys and values are kept in fp8 on a GPU alone\n"
            f"{words}\ntake int8, which has the same size, or leave it out"
        )
    if not ops.reads_8_bits:
        raise ModelError(
            f"--kv-cache-dtype {wanted}: PyTorch attends here, and only our own kernels read "
            f"{wanted}\n{words}\nleave it out"
        )
    if _is_latent(config):
        raise ModelError(
            f"--kv-cache-dtype {wanted}: {config.family} keeps compressed keys, which are read in"
            " the arithmetic's dtype alone\nleave it out"
        )


def _select_ops(
    settings: EngineSettings, level: str, device: torch.device, config: ModelConfig
) -> Ops:
    """Return the op table: our own where they take the model's sizes."""
    if device.type == "cuda" and not settings.exact:
        return _gpu_ops()
    fits = all(
        NativeOps.takes(
            config.head_dim_of(attention),
            settings.block_size,
            config.num_heads,
            config.num_kv_heads_of(attention),
        )
        for attention in config.attentions
        if not attention.latent
    )
    if level in LEVELS and fits and config.encoder is None:
        return NativeOps()
    return ExactOps() if settings.exact else CpuOps()


def _gpu_ops() -> Ops:
    """Return Triton's kernels, or PyTorch's where it came without Triton."""
    if find_spec("triton") is None:
        return CpuOps()
    from backend.ops.triton.triton_ops import TritonOps

    return TritonOps()


def _rows_of_pytorch(settings: EngineSettings, config: ModelConfig) -> str:
    """Return the sizes of compressed rows that our kernel does not take; empty if it takes all."""
    rows = {attention.latent for attention in config.attentions if attention.latent}
    sizes = {
        row.width
        for row in rows
        if not NativeLatentAttention.takes(row.width, row.kv_rank, settings.block_size)
    }
    return " and ".join(map(str, sorted(sizes)))


def _is_latent(config: ModelConfig) -> bool:
    return any(attention.latent for attention in config.attentions)


def _describe(settings: EngineSettings, device: torch.device, ops: Ops, config: ModelConfig) -> str:
    """Say what computes, and what would change it where that is not the best."""
    if device.type != "cpu":
        return ops.name
    words = describe(settings.kernels, settings.activations, settings.dtype, levels(), absence)
    if isinstance(ops, NativeOps) and (rows := _rows_of_pytorch(settings, config)):
        return (
            f"{words}, attention to compressed keys by PyTorch: ours takes no rows of {rows} "
            f"numbers in blocks of {settings.block_size}"
        )
    if isinstance(ops, NativeOps) or words.startswith(CpuOps.name):
        return words
    if config.encoder:
        return f"{words}, attention by PyTorch: ours knows no relative positions"
    sizes = sorted({config.head_dim_of(attention) for attention in config.attentions})
    return (
        f"{words}, attention by PyTorch: ours takes no heads of {' and '.join(map(str, sizes))} "
        f"in blocks of {settings.block_size}"
    )
