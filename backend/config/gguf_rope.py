"""Reads rotary embedding from llama.cpp's keys `rope.*` and its tables of factors."""

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.rope import Rope, RopeScaling, mscale


def read_gguf_rope(
    fields: Fields, dim: int, theta: float, *, interleaved: bool, truncate: bool = True
) -> Rope:
    """Return how the first `dim` numbers of each head turn. Raises ModelError.

    What is computed is what llama.cpp does with the file, but for the keys yarn_beta_fast,
    yarn_beta_slow, yarn_attn_factor and yarn_log_multiplier: it reads them for some architectures,
    its converter writes them for all, as the model's own configuration has them. They count here.
    """
    kind = fields.one_of("rope.scaling.type", ["none", "linear", "yarn", "longrope"], "linear")
    stretch = _stretch(fields)
    factor = stretch if kind != "none" else 1.0
    fields.harmless(["rope.scaling.finetuned"])
    fields.must_be("rope.scaling.alpha", 0.0, "no family here has its scaling")
    scaling = _scaling(fields, kind, factor, truncate=truncate)
    attention_factor = fields.number("rope.scaling.attn_factor", 1.0)
    own = _yarn_attention_factor(fields, factor)
    if kind == "yarn":
        attention_factor *= own
    theta = fields.number("rope_theta", theta)
    return Rope(dim, theta, scaling, attention_factor, is_interleaved=interleaved)


def _stretch(fields: Fields) -> float:
    # The older key counts where the newer is not there; 0 is how either says "none".
    older = fields.number("rope.scale_linear", 0.0)
    factor = fields.number("rope.scaling.factor", older)
    if factor < 0:
        raise ModelError(f"{fields.label('rope.scaling.factor')} is {factor}, below 0")
    return factor or 1.0


def _scaling(fields: Fields, kind: str, factor: float, *, truncate: bool) -> RopeScaling | None:
    context = fields.integer("max_position_embeddings", 0)
    original = fields.integer("rope.scaling.original_context_length", 0) or context
    table = tuple(fields.raw("rope.factors", ()))
    short, long = (fields.raw(f"rope.{which}_factors") for which in ("short", "long"))
    yarn = _yarn(fields, factor, original, table, truncate=truncate)
    if kind == "yarn":
        return yarn
    if short or long:
        if not (short and long):
            raise ModelError(
                "one of rope_factors_long.weight and rope_factors_short.weight is missing"
            )
        if table:
            raise ModelError("has rope_freqs.weight beside rope_factors_long.weight")
        return RopeScaling(
            "longrope",
            original_max_position_embeddings=original,
            factors=tuple(factor * by for by in short),
            long_factors=tuple(factor * by for by in long),
        )
    if table:
        return RopeScaling("factors", factors=tuple(factor * by for by in table))
    return RopeScaling("linear", factor) if factor != 1.0 else None


def _yarn(
    fields: Fields, factor: float, original: int, table: tuple[float, ...], *, truncate: bool
) -> RopeScaling:
    fields.must_be("rope.scaling.yarn_ext_factor", 1.0, "only the whole ramp, 1, is supported")
    return RopeScaling(
        "yarn",
        factor,
        original_max_position_embeddings=original,
        factors=table,
        beta_fast=fields.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=fields.number("rope.scaling.yarn_beta_slow", 1.0),
        truncate=truncate,
    )


def _yarn_attention_factor(fields: Fields, factor: float) -> float:
    of_all = fields.number("rope.scaling.yarn_log_multiplier", 0.0)
    derived = mscale(factor) / (mscale(factor, of_all) if of_all else 1.0)
    return fields.number("rope.scaling.yarn_attn_factor", derived)
