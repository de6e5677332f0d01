"""The sizes that every family has, out of a file's fields."""

from backend.config.errors import ModelError
from backend.config.fields import Fields


def num_layers(fields: Fields) -> int:
    return fields.integer("num_hidden_layers")


def head_dim(fields: Fields) -> int:
    """Return the size of a head: hidden_size shared out over the heads, unless the file says."""
    heads = max(fields.integer("num_attention_heads"), 1)
    size = fields.integer("head_dim", fields.integer("hidden_size") // heads)
    if size < 1:
        raise ModelError(f"heads have {size} numbers: {fields.label('hidden_size')} is too small")
    return size
