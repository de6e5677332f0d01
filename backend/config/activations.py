"""Which activation an MLP has, by the names that Hugging Face's files give them."""

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.spec import Activation

# As ACT2FN of transformers has them. gelu_new, gelu_fast and gelu_pytorch_tanh are one formula.
_NAMES: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_activation(fields: Fields, name: str, default: str) -> Activation:
    """Return the activation that a field names. Raises ModelError."""
    found = fields.text(name, default)
    if found not in _NAMES:
        raise ModelError(f"{fields.label(name)} {found!r} is not supported; {', '.join(_NAMES)}")
    return _NAMES[found]
