"""What a rank will hold of a checkpoint's weights: from the file's header, before they are read."""

import math

from backend.config import ModelConfig
from backend.memory import KeptForms
from backend.quant import LinearMethod
from backend.quant.groups import GROUP_SIZE
from backend.weights import Checkpoint
from backend.weights.shapes import EMBEDDING, HEAD, expected_shapes


def forms_of(
    checkpoint: Checkpoint, config: ModelConfig, method: LinearMethod, *, is_whole: bool
) -> KeptForms:
    """Estimate it. Projections that are fused or cut across their groups may turn out dense.

    is_whole: a rank has the whole vocabulary, so that its head can be the embedding too.
    """
    sizes = {
        name: math.prod(shape)
        for name, shape in expected_shapes(config).items()
        if name.startswith("model.layers.") and len(shape) == 2
    }
    kept = {name: method.kept(checkpoint.group_bits(name)) for name in sizes}
    dense = sum(size for name, size in sizes.items() if kept[name].is_dense)
    bits = sum(size * kept[name].few_bits for name, size in sizes.items())
    whole = sum(sizes.values())
    head = method.kept(checkpoint.group_bits(EMBEDDING if config.tie_word_embeddings else HEAD))
    is_table = config.tie_word_embeddings and is_whole and head.looks_up
    is_table &= config.hidden_size % GROUP_SIZE == 0  # others are not laid out in blocks
    return KeptForms(dense / whole, bits / whole, head.is_dense, head.few_bits, not is_table)
