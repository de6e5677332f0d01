"""The sizes that every family has, out of a file's fields."""

from backend.config.errors import ModelError
from backend.config.fields import Fields

# The deepest model that people know has 126. Each layer takes room before weights are looked at.
_MAX_LAYERS = 1000


def num_layers(fields: Fields, name: str = "num_hidden_layers", default: int | None = None) -> int:
    """Return how many layers there are. Raises ModelError for a number that no model has."""
    count = fields.integer(name, default)
    if not 0 < count <= _MAX_LAYERS:
        raise ModelError(f"{fields.label(name)} must be from 1 to {_MAX_LAYERS}, is {count}")
    return count


def check_heads(fields: Fields) -> None:
    """Refuse heads of queries that cannot share those of keys."""
    num_heads = fields.integer("num_attention_heads")
    num_kv_heads = fields.integer("num_key_value_heads", num_heads)
    for name, count in (("num_attention_heads", num_heads), ("num_key_value_heads", num_kv_heads)):
        if count <= 0:
            raise ModelError(f"{fields.label(name)} must be above 0, is {count}")
    if num_heads % num_kv_heads:
        raise ModelError(
            f"{fields.label('num_attention_heads')} {num_heads} is not a multiple of"
            f" {fields.label('num_key_value_heads')} {num_kv_heads}, so heads cannot share keys"
        )


def head_dim(fields: Fields) -> int:
    """Return the size of a head: hidden_size shared out over the heads, unless the file says."""
    heads = max(fields.integer("num_attention_heads"), 1)
    size = fields.integer("head_dim", fields.integer("hidden_size") // heads)
    if size < 1:
        raise ModelError(f"heads have {size} numbers: {fields.label('hidden_size')} is too small")
    return size
