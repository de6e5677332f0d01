"""Reads what any decoder's config.json says: for models that have no family here.

Which layers have windows, and other particulars, the model's class knows: a rank asks it
(models/transformers_backend.py). Knows no torch and no transformers.
"""

from importlib.util import find_spec

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.foreign import Foreign
from backend.config.model_config import ModelConfig
from backend.config.sizes import num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm

# What some classes call a field -> the common name.
ALIASES = {
    "n_embd": "hidden_size",
    "d_model": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "num_layers": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "num_heads": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_ctx": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "n_inner": "intermediate_size",
    "ffn_dim": "intermediate_size",
}


def check_can_be_foreign(architecture: str, supported: list[str]) -> None:
    """Raise ModelError if transformers is not here to serve a model that has no family."""
    if find_spec("transformers") is None:
        raise ModelError(
            f"architecture {architecture} is not supported by our own decoder, and transformers, "
            "whose code may serve it, is not installed\n"
            "install it: pip install 'unisono[transformers]', or take a model of one of "
            f"{', '.join(supported)}"
        )


def make_foreign_config(
    architecture: str,
    fields: Fields,
    *,
    name: str,
    eos_token_ids: tuple[int, ...],
    bos_token_id: int | None,
    stored_dtype: str,
    notes: tuple[str, ...],
) -> ModelConfig:
    """Return what is known of a model before its class is; raises ModelError."""
    if fields.raw("is_encoder_decoder", False):
        raise ModelError(
            f"architecture {architecture} has an encoder and a decoder, which transformers' code "
            "does not serve here: its decoder alone has attention that a paged cache can keep"
        )
    hidden = fields.integer("hidden_size")
    num_heads = fields.integer("num_attention_heads")
    num_kv_heads = fields.integer("num_key_value_heads", num_heads)
    layers = num_layers(fields)
    width = _width(fields, 4 * hidden)
    layer = Layer(Attention(rope=None), MLP(width))
    return ModelConfig(
        family="transformers",
        name=name,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads if num_kv_heads and not num_heads % num_kv_heads else num_heads,
        head_dim=fields.integer("head_dim", max(hidden // max(num_heads, 1), 2)),
        max_model_len=fields.integer("max_position_embeddings", 2048),
        spec=DecoderSpec((layer,) * layers, Norm(1e-6)),
        tie_word_embeddings=fields.flag("tie_word_embeddings"),
        eos_token_ids=eos_token_ids,
        bos_token_id=bos_token_id,
        stored_dtype=stored_dtype,
        notes=(*notes, f"served by transformers' modelling code, class {architecture}"),
        foreign=Foreign(architecture),
    )


def _width(fields: Fields, default: int) -> int:
    """Return the columns of an MLP, of the widest where a class has one for each layer."""
    widths = fields.raw("intermediate_size")
    if isinstance(widths, list) and widths and all(type(width) is int for width in widths):
        return int(max(widths))
    return fields.integer("intermediate_size", default)
