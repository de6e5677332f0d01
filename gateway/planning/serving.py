"""How a model would be served on devices: dtype, who multiplies, and what is refused.

The rules are engine/platform.py's, which needs the device itself.
"""

from typing import Literal

from backend import native
from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.placement.served_model import ServedModel
from backend.quant.kept_weights import KernelKind
from backend.settings import EngineSettings
from gateway.planning.devices import DeviceSet
from gateway.planning.models import FoundModel
from gateway.planning.plan_settings import PlanSettings

Dtype = Literal["bfloat16", "float16", "float32"]


def served_model(found: FoundModel, devices: DeviceSet, settings: PlanSettings) -> ServedModel:
    """Return the model as these settings serve it. Raises ModelError for what a start refuses."""
    dtype = _dtype(devices, settings)
    kernels = _kernels(devices, dtype)
    _check(found, devices, kernels, dtype, settings)
    groups = min(settings.concurrency, 4096)
    engine = EngineSettings(
        quantization=settings.quantization,
        kv_cache_dtype=settings.kv_cache_dtype,
        max_model_len=settings.max_model_len,
        expert_parallel=settings.expert_parallel,
        max_num_seqs=max(EngineSettings().max_num_seqs, groups),
    )
    return ServedModel(found.config, found.stored, dtype, kernels, engine)


def _dtype(devices: DeviceSet, settings: PlanSettings) -> Dtype:
    if settings.dtype != "auto":
        return settings.dtype
    if devices.is_cpu:
        return "bfloat16" if native.levels() or "bf16" in devices.profile.multiply else "float32"
    return "bfloat16" if "bf16" in devices.profile.multiply else "float16"


def _kernels(devices: DeviceSet, dtype: Dtype) -> KernelKind:
    if not devices.is_cpu:
        return "triton"
    if dtype != "bfloat16":
        return "torch"
    return "native" if native.levels() else "torch_bf16"


def reads_8_bits(config: ModelConfig, kernels: KernelKind, *, is_cpu: bool) -> bool:
    """Whether keys and values of 8 bits can be attended to: by Triton's kernels on a GPU, or by our
    own on a CPU, which know no relative positions; compressed keys never."""
    is_ours = not is_cpu or (kernels == "native" and config.encoder is None)
    return is_ours and not any(attention.latent for attention in config.attentions)


def _check(
    found: FoundModel,
    devices: DeviceSet,
    kernels: KernelKind,
    dtype: Dtype,
    settings: PlanSettings,
) -> None:
    config = found.config
    if dtype == "float16" and config.encoder:
        raise ModelError(
            f"--dtype float16: the sums of a {config.family} exceed its range\n"
            "take bfloat16 or float32"
        )
    if settings.quantization in ("int8", "int4") and kernels == "torch":
        raise ModelError(
            f"--quantization {settings.quantization} needs --dtype bfloat16 on a CPU: weights "
            "of other dtypes are multiplied dense there\nleave it out, or plan for a GPU"
        )
    wanted = settings.kv_cache_dtype
    if wanted != "auto" and not reads_8_bits(config, kernels, is_cpu=devices.is_cpu):
        raise ModelError(
            f"--kv-cache-dtype {wanted}: what attends for {config.family} here reads no {wanted}: "
            "PyTorch, or compressed keys\nleave it out"
        )
    if wanted == "fp8" and devices.is_cpu:
        raise ModelError(
            "--kv-cache-dtype fp8: keys and values are kept in fp8 on a GPU alone\n"
            "take int8, which has the same size, or leave it out"
        )
