"""Architectures that can be served: ModelConfig.architecture -> "module:Class"."""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

from backend.config import ModelConfig, ModelError
from backend.kv_cache import KVCache
from backend.layers.source import WeightSource
from backend.ops import Batch, Ops
from backend.parallel import TensorParallel
from backend.quant import LinearMethod
from backend.shard import Shard
from backend.weights import Checkpoint

ARCHITECTURES = {"llama": "backend.models.llama:LlamaModel"}


class Model(Protocol):
    """One rank's part of a model, loaded."""

    weight_bytes: int
    replicated_bytes: int

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        """Run a step's tokens; return [N + P, hidden], the states of batch.output_tokens."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, hidden] -> [N, this rank's words], float32."""
        ...

    def best(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of `logits`, [N], NaN if there is one, and its place."""
        ...


class Arithmetic:
    """What a forward pass computes with: dtype, device, ops and linear method."""

    def __init__(
        self, dtype: torch.dtype, device: torch.device, ops: Ops, method: LinearMethod
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.ops = ops
        self.method = method


def load_model(
    config: ModelConfig,
    checkpoint: Checkpoint,
    shard: Shard,
    tp: TensorParallel,
    arithmetic: Arithmetic,
    max_len: int,
    on_progress: Callable[[float], None],
) -> Model:
    """Load this rank's part. Raises ModelError for missing, misshapen and left-over tensors."""
    try:
        module, _, attribute = ARCHITECTURES[config.architecture].partition(":")
    except KeyError:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(
            f"architecture {config.architecture} is not supported; supported: {known}"
        ) from None
    source = WeightSource(checkpoint, arithmetic.dtype, arithmetic.device, on_progress)
    model: Model = getattr(import_module(module), attribute)(
        config, source, shard, tp, arithmetic, max_len
    )
    return model
