"""Loads a model: the class that runs its family, filled with this rank's weights."""

from collections.abc import Callable

from backend.config.model_config import ModelConfig
from backend.layers.compute_context import ComputeContext
from backend.layers.loader import WeightLoader
from backend.models.decoder import Decoder
from backend.models.encoder_decoder import EncoderDecoder
from backend.models.model import Model
from backend.placement.sharding import Shard
from backend.weights.checkpoint import Checkpoint


def load_model(
    config: ModelConfig,
    checkpoint: Checkpoint,
    shard: Shard,
    context: ComputeContext,
    max_len: int,
    on_progress: Callable[[float], None],
) -> Model:
    """Load this rank's part. Raises ModelError for what a tensor's dtype does not allow."""
    loader = WeightLoader(checkpoint, config, shard, context, on_progress)
    if encoder := config.spec.encoder:
        return EncoderDecoder(config, encoder, loader, shard, context)
    return Decoder(config, loader, shard, context, max_len)
