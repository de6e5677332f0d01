"""Reads rotary embedding from a model's fields: three layouts of one thing.

`rope_scaling` beside `rope_theta` up to transformers 4, `rope_parameters` from 5 on, llama.cpp's
keys `rope.*` in GGUF files.
"""

from typing import Any

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.rope import Rope, RopeScaling

DEFAULT_THETA = 10000.0


def read_rope(fields: Fields, dim: int, layer_type: str = "", *, interleaved: bool = False) -> Rope:
    """Return how the first `dim` numbers of each head turn. Raises ModelError.

    layer_type: whose, where a file has several ("full_attention"). interleaved: how the rows of
    queries and keys lie in GGUF files of this family; Hugging Face's have halves.
    """
    if fields.kind == "gguf":
        scaling = _gguf_scaling(fields)
        theta = fields.number("rope_theta", DEFAULT_THETA)
        return Rope(dim, theta, scaling, is_interleaved=interleaved)
    parameters = _parameters(fields, layer_type)
    theta = parameters.pop("rope_theta", None) or fields.number("rope_theta", DEFAULT_THETA)
    return Rope(dim, _number("rope_theta", theta), _hf_scaling(parameters))


def rotary_dim(fields: Fields, head_dim: int, default: float = 1.0) -> int:
    """Return how many numbers of a head turn."""
    if fields.kind == "gguf":
        return fields.integer("rope.dimension_count", int(head_dim * default))
    share = _parameters(fields, "").get("partial_rotary_factor")
    share = fields.number("partial_rotary_factor", default) if share is None else share
    return int(head_dim * _number("partial_rotary_factor", share))


def _parameters(fields: Fields, layer_type: str) -> dict[str, Any]:
    """Return the parameters of a layer type, a copy."""
    found: Any = fields.raw("rope_parameters") or {}
    older = fields.raw("rope_scaling")
    # Where a file has both, transformers lets the older layout win.
    if older is not None:
        found = {"rope_theta": _of(found, layer_type).get("rope_theta")} | older
    return dict(_of(found, layer_type))


def _of(parameters: Any, layer_type: str) -> dict[str, Any]:
    if not isinstance(parameters, dict):
        raise ModelError(f"rope parameters are {parameters!r}, not an object")
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    if not nested:
        return parameters
    if layer_type in parameters:
        return parameters[layer_type] or {}
    return nested[0]


def _hf_scaling(parameters: dict[str, Any]) -> RopeScaling | None:
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", factor=_needed(parameters, "factor"))
    if kind == "llama3":
        original = "original_max_position_embeddings"
        scaling = RopeScaling(
            "llama3",
            factor=_needed(parameters, "factor"),
            low_freq_factor=_needed(parameters, "low_freq_factor"),
            high_freq_factor=_needed(parameters, "high_freq_factor"),
            original_max_position_embeddings=int(_needed(parameters, original)),
        )
        if scaling.high_freq_factor <= scaling.low_freq_factor:
            raise ModelError("rope scaling: high_freq_factor must be above low_freq_factor")
        return scaling
    raise ModelError(f"rope scaling {kind!r} is not supported; default, linear and llama3 are")


def _gguf_scaling(fields: Fields) -> RopeScaling | None:
    factor = fields.number("rope.scaling.factor", 0.0) or fields.number("rope.scale_linear", 0.0)
    kind = fields.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise ModelError(f"rope scaling {kind!r} is not supported; linear and llama3 are")
    by = factor if kind == "linear" and factor > 0 else 1.0
    if table := fields.raw("rope.factors"):
        return RopeScaling("factors", factors=tuple(by * f for f in table))
    return RopeScaling("linear", factor=by) if by != 1.0 else None


def _needed(parameters: dict[str, Any], field: str) -> float:
    value = parameters.get(field)
    if value is None or _number(field, value) <= 0:
        raise ModelError(f"rope scaling: {field} must be above 0, is {value}")
    return _number(field, value)


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"rope parameters: {field} is {value!r}, not a number")
    return float(value)
