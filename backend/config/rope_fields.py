"""Reads rotary embedding from a model's fields: three layouts of one thing.

`rope_scaling` beside `rope_theta` up to transformers 4, `rope_parameters` from 5 on, llama.cpp's
keys `rope.*` in GGUF files (gguf_rope.py).
"""

import math
from typing import Any

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.gguf_rope import read_gguf_rope
from backend.config.rope import Rope, RopeScaling, mscale

DEFAULT_THETA = 10000.0
# What a config.json that does not say means.
DEFAULT_MAX_LEN = 2048
_ORIGINAL = "original_max_position_embeddings"
# What the parameters may hold. Those of another kind than the one they name change nothing.
_KNOWN = frozenset(
    """
    rope_type type rope_theta partial_rotary_factor factor attention_factor beta_fast beta_slow
    mscale mscale_all_dim truncate short_factor long_factor low_freq_factor high_freq_factor
    original_max_position_embeddings max_position_embeddings finetuned
    """.split()
)


# Kinds whose factor, where it is not given, is what the context grew by.
_STRETCHED = ("yarn", "longrope")


def read_rope(
    fields: Fields,
    dim: int,
    layer_type: str = "",
    *,
    interleaved: bool = False,
    theta: float = DEFAULT_THETA,
    known: frozenset[str] = frozenset(),
    truncate: bool = True,
) -> Rope:
    """Return how the first `dim` numbers of each head turn. Raises ModelError.

    layer_type: whose, where a file has several ("full_attention"). interleaved: how the rows of
    queries and keys lie in GGUF files of this family; Hugging Face's have halves. theta: the base
    where the file does not say. known: parameters that the family reads itself.
    truncate: of YaRN, in GGUF files, which do not say.
    """
    if fields.kind == "gguf":
        return read_gguf_rope(fields, dim, theta, interleaved=interleaved, truncate=truncate)
    parameters = rope_parameters(fields, layer_type)
    if unknown := sorted(parameters.keys() - _KNOWN - known):
        raise ModelError(
            f"rope parameters: {unknown[0]} is not known, and may change what is computed\n"
            "remove it if it changes nothing, or try --model-impl transformers"
        )
    base = fields.number("rope_theta", theta)
    base = _number("rope_theta", parameters.get("rope_theta", base))
    kind = _kind(parameters)
    if kind == "mrope" and "mrope_section" in known:
        kind = "default"  # as older files call it; positions of text turn as any
    if kind in _STRETCHED and "factor" not in parameters:
        stretch = fields.integer("max_position_embeddings", DEFAULT_MAX_LEN)
        parameters["factor"] = stretch / _original(parameters)
    if kind == "proportional":
        return Rope(dim, base, _proportional(parameters, dim))
    return Rope(dim, base, _scaling(kind, parameters, fields), _attention_factor(kind, parameters))


def rotary_dim(fields: Fields, head_dim: int, default: float | None = None) -> int:
    """Return how many numbers of a head turn. Raises ModelError.

    default: the share of them, where the file does not say. None: the family's class of
    transformers turns whole heads and does not look at the share; vLLM turns what it says.
    """
    if fields.kind == "gguf":
        return fields.integer("rope.dimension_count", int(head_dim * (default or 1.0)))
    parameters = rope_parameters(fields)
    outer = fields.number("partial_rotary_factor", default or 1.0)
    share = _number("partial_rotary_factor", parameters.get("partial_rotary_factor", outer))
    if _kind(parameters) == "proportional":
        return head_dim  # the share is of frequencies
    if default is None and share != 1:
        raise ModelError(
            f"{fields.label('partial_rotary_factor')} is {share:g}: transformers' class turns whole"
            " heads all the same,\nso it is not known what is meant; remove it if whole heads turn"
        )
    return int(head_dim * share)


def context_length(fields: Fields) -> int:
    """Return how many tokens a sequence may have.

    Dynamic scaling begins where the trained context ends, and goes `factor` times as far.
    """
    trained = fields.integer("max_position_embeddings", DEFAULT_MAX_LEN)
    if fields.kind == "gguf":
        return trained
    parameters = rope_parameters(fields)
    if _kind(parameters) == "dynamic":
        return int(trained * _needed(parameters, "factor"))
    return trained


def is_by_layer_type(fields: Fields) -> bool:
    """Whether a config.json has parameters for each type of layer."""
    return not _of(_found(fields), "")[1]


def rope_parameters(fields: Fields, layer_type: str = "") -> dict[str, Any]:
    """Return the parameters of a config.json, of one layer type where it has several: a copy.

    Those that are null are left out, and the original context is there whatever the file says.
    """
    parameters, is_shared = _of(_found(fields), layer_type)
    parameters = {name: value for name, value in parameters.items() if value is not None}
    outer = fields.raw(_ORIGINAL)
    if is_shared and outer is not None:
        parameters[_ORIGINAL] = outer
    parameters.setdefault(_ORIGINAL, fields.integer("max_position_embeddings", DEFAULT_MAX_LEN))
    return parameters


def _found(fields: Fields) -> Any:
    # Where a file has both, transformers takes the older layout alone: its base, too, is that
    # beside it, or the default.
    newer, older = fields.raw("rope_parameters"), fields.raw("rope_scaling")
    if not isinstance(older, dict | None):
        raise ModelError(f"rope_scaling is {older!r}, not an object")
    return older or newer or {}


def _of(parameters: Any, layer_type: str) -> tuple[dict[str, Any], bool]:
    """Return the parameters of a layer type, and whether they are those of all."""
    if not isinstance(parameters, dict):
        raise ModelError(f"rope parameters are {parameters!r}, not an object")
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    if not nested:
        return parameters, True
    if not layer_type:
        return nested[0], False
    # A type that is left out turns as if there were no parameters.
    return parameters.get(layer_type) or {}, False


def _kind(parameters: dict[str, Any]) -> str:
    kind: str = parameters.get("rope_type") or parameters.get("type") or "default"
    # Older names that Phi-3's files have for what came to be called longrope.
    is_longrope = kind == "su" or (kind == "yarn" and "short_factor" in parameters)
    return "longrope" if is_longrope else kind


def _scaling(kind: str, parameters: dict[str, Any], fields: Fields) -> RopeScaling | None:
    match kind:
        case "default":
            return None
        case "linear":
            return RopeScaling("linear", _needed(parameters, "factor"))
        case "dynamic":
            # Not the original context: transformers stretches from this one on.
            length = fields.integer("max_position_embeddings", DEFAULT_MAX_LEN)
            factor = _needed(parameters, "factor")
            return RopeScaling("dynamic", factor, original_max_position_embeddings=length)
        case "yarn":
            return RopeScaling(
                "yarn",
                _needed(parameters, "factor"),
                original_max_position_embeddings=_original(parameters),
                beta_fast=_number("beta_fast", parameters.get("beta_fast") or 32),
                beta_slow=_number("beta_slow", parameters.get("beta_slow") or 1),
                truncate=bool(parameters.get("truncate", True)),
            )
        case "longrope":
            return RopeScaling(
                "longrope",
                original_max_position_embeddings=_original(parameters),
                factors=_factors(parameters, "short_factor"),
                long_factors=_factors(parameters, "long_factor"),
            )
        case "llama3":
            low, high = (_needed(parameters, f"{end}_freq_factor") for end in ("low", "high"))
            if high <= low:
                raise ModelError("rope scaling: high_freq_factor must be above low_freq_factor")
            factor = _needed(parameters, "factor")
            return RopeScaling("llama3", factor, low, high, _original(parameters))
    raise ModelError(
        f"rope scaling {kind!r} is not supported; default, linear, dynamic, yarn, longrope and"
        " llama3 are\nperhaps --model-impl transformers serves it"
    )


def _proportional(parameters: dict[str, Any], dim: int) -> RopeScaling:
    """Return what lets a share of the frequencies turn, the highest, and stills the others."""
    share = _number("partial_rotary_factor", parameters.get("partial_rotary_factor", 1.0))
    if not 0 < share <= 1:
        raise ModelError(f"partial_rotary_factor must be above 0 and at most 1, is {share}")
    num_turned = int(share * dim // 2)
    factor = _number("factor", parameters.get("factor", 1.0))
    still = [math.inf] * (dim // 2 - num_turned)
    return RopeScaling("factors", factors=(*[factor] * num_turned, *still))


def _attention_factor(kind: str, parameters: dict[str, Any]) -> float:
    """Return what cosines and sines are multiplied by."""
    if kind not in _STRETCHED:
        return 1.0
    if "attention_factor" in parameters:
        return _number("attention_factor", parameters["attention_factor"])
    factor = _needed(parameters, "factor")
    if kind == "yarn":
        of_query, of_all = parameters.get("mscale"), parameters.get("mscale_all_dim")
        if of_query and of_all:
            return mscale(factor, _number("mscale", of_query)) / mscale(
                factor, _number("mscale_all_dim", of_all)
            )
        return mscale(factor)
    original = _original(parameters)
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def _original(parameters: dict[str, Any]) -> int:
    original = _needed(parameters, _ORIGINAL)
    if original < 1:
        raise ModelError(f"rope scaling: {_ORIGINAL} must be at least 1, is {original:g}")
    return int(original)


def _factors(parameters: dict[str, Any], field: str) -> tuple[float, ...]:
    values = parameters.get(field)
    if not isinstance(values, list) or not values:
        raise ModelError(f"rope scaling: {field} is no list of numbers")
    numbers = tuple(_number(field, value) for value in values)
    if min(numbers) <= 0:
        raise ModelError(f"rope scaling: {field} has {min(numbers)}; all must be above 0")
    return numbers


def _needed(parameters: dict[str, Any], field: str) -> float:
    value = parameters.get(field)
    if value is None or _number(field, value) <= 0:
        raise ModelError(f"rope scaling: {field} must be above 0, is {value}")
    return _number(field, value)


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"rope parameters: {field} is {value!r}, not a number")
    return float(value)
