"""Architectures that can be served: ModelConfig.architecture -> "module:Class"."""

from collections.abc import Callable
from importlib import import_module

from backend.config.model_config import ModelConfig, ModelError
from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.models.model import Model
from backend.placement.sharding import Shard
from backend.weights.checkpoint import Checkpoint

ARCHITECTURES = {"llama": "backend.models.llama:LlamaModel"}


def load_model(
    config: ModelConfig,
    checkpoint: Checkpoint,
    shard: Shard,
    context: ComputeContext,
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
    loader = WeightLoader(checkpoint, context, on_progress)
    model: Model = getattr(import_module(module), attribute)(
        config, loader, shard, context, max_len
    )
    return model
