"""Whether two machines mean the same model, as far as its configuration tells."""

import hashlib

import msgspec

from backend.config.model_config import ModelConfig


def model_identity(config: ModelConfig) -> str:
    """Return 16 hex digits of what a model is: layers, sizes, vocabulary, ends of sequence.

    Neither where its files lie nor how its weights are stored counts, so that a gateway that has
    only a copy in other bits can serve a group's model. Weights are not looked at.
    """
    parts = [
        config.family,
        config.vocab_size,
        config.hidden_size,
        len(config.spec.layers),
        config.num_heads,
        config.num_kv_heads,
        config.head_dim,
        sorted(config.eos_token_ids),
        config.bos_token_id,
        config.pooling is not None,
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
