"""Loads a model: the class that runs its family, filled with this rank's weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backend.config.model_config import ModelConfig
from backend.config.spec import EncoderSpec
from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.models.decoder import Decoder
from backend.models.encoder import Encoder
from backend.models.encoder_decoder import EncoderDecoder
from backend.models.model import Model
from backend.placement.sharding import Shard
from backend.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from backend.models.transformers_backend import Skeleton


def find_model(config: ModelConfig, path: Path) -> "tuple[ModelConfig, Skeleton | None]":
    """Return a model's configuration, complete, and the class of transformers' that runs it, if
    one does. Raises ModelError where that cannot be."""
    if config.foreign is None:
        return config, None
    # On use: it imports transformers, which takes seconds.
    from backend.models.transformers_backend import build_skeleton

    skeleton = build_skeleton(config, path)
    return skeleton.config, skeleton


def load_model(
    config: ModelConfig,
    checkpoint: Checkpoint,
    shard: Shard,
    context: ComputeContext,
    max_len: int,
    on_progress: Callable[[float], None],
    skeleton: "Skeleton | None" = None,
) -> Model:
    """Load this rank's part. Raises ModelError for what a tensor's dtype does not allow.

    skeleton: of a model that transformers' code runs, which find_model() gave.
    """
    loader = WeightLoader(checkpoint, config, shard, context, on_progress)
    if skeleton is not None:
        from backend.models.foreign_model import ForeignModel

        return ForeignModel(skeleton, loader, shard, context)
    if isinstance(config.spec, EncoderSpec):
        return Encoder(config, config.spec, loader, shard, context)
    if encoder := config.encoder:
        return EncoderDecoder(config, encoder, loader, shard, context)
    return Decoder(config, loader, shard, context, max_len)
