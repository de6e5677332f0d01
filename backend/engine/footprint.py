"""What a rank will hold of a checkpoint's weights: from the file's header, before they are read."""

import math

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
    whole = dense = bits = 0.0
    for name, shape in expected_shapes(config).items():
        if name.startswith("model.layers.") and len(shape) == 2:
            kept = method.kept(checkpoint.group_bits(name), shape[1])
            whole += math.prod(shape)
            dense += math.prod(shape) * kept.is_dense
            bits += math.prod(shape) * kept.few_bits
    words = EMBEDDING if config.tie_word_embeddings else HEAD
    head = method.kept(checkpoint.group_bits(words), config.hidden_size)
    is_table = config.tie_word_embeddings and is_whole and head.looks_up
    return ModelFootprint(dense / whole, bits / whole, head.is_dense, head.few_bits, not is_table)
