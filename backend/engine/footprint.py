"""What a rank will hold of a checkpoint's weights: from the file's header, before they are read."""

from backend.config.model_config import ModelConfig
from backend.linear.method import LinearMethod
from backend.placement.memory import ModelFootprint
from backend.weights.checkpoint import Checkpoint
from backend.weights.shapes import EMBEDDING, HEAD, expected_shapes


def estimate_footprint(
    checkpoint: Checkpoint, config: ModelConfig, method: LinearMethod, *, is_whole: bool
) -> ModelFootprint:
    """Estimate it. Projections that are fused or cut across their groups may turn out dense.

    is_whole: a rank has the whole vocabulary, so that its head can be the embedding too.
    """
    whole = dense = packed = 0.0
    for name, (n, *rest) in expected_shapes(config).items():
        if name.startswith("model.layers.") and rest:
            kept = method.footprint(checkpoint.weight_format(name), n, rest[0])
            whole += n * rest[0]
            dense += n * rest[0] * kept.is_dense
            packed += n * rest[0] * kept.packed_bits
    tokens = EMBEDDING if config.tie_word_embeddings else HEAD
    stored_as = checkpoint.weight_format(tokens)
    head = method.footprint(stored_as, config.vocab_size, config.hidden_size)
    is_table = config.tie_word_embeddings and is_whole and head.embeds
    return ModelFootprint(
        dense / whole, packed / whole, head.is_dense, head.packed_bits, not is_table
    )
