"""How a model would be served on devices: dtype, who multiplies, and what is refused.

The rules are engine/platform.py's, which needs the device itself.
"""

from typing import Literal

from backend import native
from backend.config.errors import ModelError
from backend.placement.layouts import ServedModel
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
    _check(found, kernels, dtype, settings)
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
    if not devices.is_cpu or dtype != "bfloat16":
        return "torch"
    return "native" if native.levels() else "torch_bf16"


def _check(found: FoundModel, kernels: KernelKind, dtype: Dtype, settings: PlanSettings) -> None:
    config = found.config
    if dtype == "float16" and config.encoder:
        raise ModelError(
            f"--dtype float16: the sums of a {config.family} exceed its range\n"
            "take bfloat16 or float32"
        )
    if settings.quantization in ("int8", "int4") and kernels == "torch":
        raise ModelError(
            f"--quantization {settings.quantization} needs a CPU and --dtype bfloat16: on a GPU "
            "weights are multiplied dense\nleave it out, or plan for --devices cpu"
        )
    if settings.kv_cache_dtype == "int8" and kernels != "native":
        raise ModelError(
            "--kv-cache-dtype int8: only our own kernels, on a CPU, read int8\nleave it out"
        )
    if settings.kv_cache_dtype == "int8" and any(a.latent for a in config.attentions):
        raise ModelError(
            f"--kv-cache-dtype int8: {config.family} keeps compressed keys, which are read in the "
            "arithmetic's dtype alone\nleave it out"
        )
