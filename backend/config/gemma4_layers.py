"""How Gemma 4's two types of layers differ, and whose keys and values each layer sees."""

from typing import Any, NamedTuple

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import read_rope, rope_parameters
from backend.config.windows import FULL, SLIDING, layer_windows, window_pattern

# What transformers takes where a config.json does not say.
_ROPES: dict[str, dict[str, Any]] = {
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
}
_FULL_HEAD_DIM = 512
# What llama.cpp takes where a file does not say.
_GGUF_THETA = 10000.0


class LayerKind(NamedTuple):
    """head_dim, num_kv_heads: 0 where they are the model's. See Attention."""

    rope: Rope
    window: int
    head_dim: int
    num_kv_heads: int
    k_eq_v: bool


def layer_kinds(fields: Fields, count: int) -> list[LayerKind]:
    """Return how each layer attends. Raises ModelError.

    head_dim and num_key_value_heads of the fields are those of layers with a window afterwards.
    """
    return _gguf_kinds(fields, count) if fields.kind == "gguf" else _hf_kinds(fields, count)


def kv_owners(fields: Fields, kinds: list[LayerKind]) -> list[int | None]:
    """Return of each layer whose keys and values it sees, None for its own. Raises ModelError.

    The last num_kv_shared_layers see those of the last layer before them of their type.
    """
    num_shared = fields.integer("num_kv_shared_layers", 0)
    first = len(kinds) - num_shared
    if not 0 < first <= len(kinds):
        raise ModelError(
            f"{fields.label('num_kv_shared_layers')} is {num_shared}, of {len(kinds)} layers"
        )
    owners: list[int | None] = [None] * first
    for index in range(first, len(kinds)):
        is_full = not kinds[index].window
        owner = next((i for i in reversed(range(first)) if (not kinds[i].window) == is_full), None)
        # llama.cpp does not look for it.
        expected = first - 1 if is_full else first - 2
        if owner is None or (fields.kind == "gguf" and owner != expected):
            raise ModelError(
                f"{fields.label('num_kv_shared_layers')} is {num_shared}: layer {index} would see "
                f"the keys of a layer of its type, which is not where it should be"
            )
        owners.append(owner)
    return owners


def _hf_kinds(fields: Fields, count: int) -> list[LayerKind]:
    types = fields.raw("layer_types")
    if isinstance(types, list) and types and types[-1] == SLIDING:
        # As transformers has it.
        fields.add("layer_types", [*types[:-1], FULL])
    windows = layer_windows(fields, count, 6)
    if types is None and count:
        windows[-1] = 0
    head_dim, num_kv_heads = fields.integer("head_dim"), fields.integer("num_key_value_heads")
    has_k_eq_v = fields.flag("attention_k_eq_v")
    full = _full_heads(fields, windows, head_dim, num_kv_heads, has_k_eq_v)
    sliding_rope, full_rope = (
        _hf_rope(fields, kind, dim) for kind, dim in ((SLIDING, head_dim), (FULL, full[0]))
    )
    return [
        LayerKind(sliding_rope, window, 0, 0, False)
        if window
        else LayerKind(
            full_rope, 0, _unless(full[0], head_dim), _unless(full[1], num_kv_heads), has_k_eq_v
        )
        for window in windows
    ]


def _full_heads(
    fields: Fields, windows: list[int], head_dim: int, num_kv_heads: int, k_eq_v: bool
) -> tuple[int, int]:
    """Return head_dim and num_kv_heads of layers that see all tokens.

    transformers 5.23 writes them as per_layer_config, and reads older fields where it is not there.
    """
    overrides = fields.raw("per_layer_config")
    if overrides is None:
        num_full = fields.integer("num_global_key_value_heads", num_kv_heads)
        dim = fields.integer("global_head_dim", _FULL_HEAD_DIM)
        return dim, num_full if k_eq_v else num_kv_heads
    fields.harmless(["global_head_dim", "num_global_key_value_heads"])
    heads = _overridden(overrides, [(head_dim, num_kv_heads)] * len(windows))
    of_full = {own for own, window in zip(heads, windows, strict=True) if not window}
    others = {own for own, window in zip(heads, windows, strict=True) if window}
    if len(of_full) > 1 or not others <= {(head_dim, num_kv_heads)}:
        raise ModelError("per_layer_config: layers of one type must have the same heads")
    return of_full.pop() if of_full else (head_dim, num_kv_heads)


def _overridden(overrides: Any, heads: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return head_dim and num_kv_heads of each layer."""
    if not isinstance(overrides, dict):
        raise ModelError(f"per_layer_config is {overrides!r}, not an object")
    for number, own in overrides.items():
        # transformers fills numbers up with zeros: "05".
        layer = int(number) if str(number).isdecimal() else -1
        if not 0 <= layer < len(heads):
            raise ModelError(f"per_layer_config: there is no layer {number!r} of {len(heads)}")
        if not isinstance(own, dict) or own.keys() - {"head_dim", "num_key_value_heads"}:
            raise ModelError(
                f"per_layer_config: layer {number} has {own!r}; head_dim and num_key_value_heads "
                "are supported, no other field"
            )
        if not all(type(value) is int for value in own.values()):
            raise ModelError(f"per_layer_config: layer {number} has {own!r}, not integers")
        dim, num_kv_heads = heads[layer]
        heads[layer] = own.get("head_dim", dim), own.get("num_key_value_heads", num_kv_heads)
    return heads


def _hf_rope(fields: Fields, kind: str, dim: int) -> Rope:
    found = fields.raw("rope_parameters", _ROPES)
    if not isinstance(found, dict) or found.keys() - _ROPES.keys():
        raise ModelError(f"rope_parameters must have {FULL} and {SLIDING}, no other field")
    if not isinstance(found.get(kind), dict):
        raise ModelError(f"rope_parameters has no {kind}")
    length = fields.raw("max_position_embeddings")
    own = Fields(
        "huggingface",
        {"rope_parameters": found[kind], "max_position_embeddings": length},
        {},
    )
    parameters = rope_parameters(own)
    share = parameters.get("partial_rotary_factor", 1.0)
    if share != 1.0 and parameters.get("rope_type") != "proportional":
        raise ModelError(
            f"rope_parameters: partial_rotary_factor {share} of {kind} needs rope_type "
            "proportional: transformers reads it and leaves it out"
        )
    return read_rope(own, dim)


def _gguf_kinds(fields: Fields, count: int) -> list[LayerKind]:
    windows = layer_windows(fields, count, window_pattern(fields, count, 1))
    head_dim = fields.integer("head_dim")
    own_dim = fields.integer("attention.key_length_swa", head_dim)
    fields.must_be("attention.value_length_swa", own_dim, f"only that of keys, {own_dim}, is known")
    heads = _gguf_kv_heads(fields, windows)
    fields.add("head_dim", own_dim)
    fields.add("num_key_value_heads", heads[bool(_sliding(windows))])
    sliding, full = _gguf_ropes(fields, own_dim, head_dim)
    return [
        LayerKind(sliding, window, 0, 0, _has_no_values(fields, index))
        if window
        else LayerKind(
            full,
            0,
            _unless(head_dim, own_dim),
            _unless(heads[False], heads[bool(_sliding(windows))]),
            _has_no_values(fields, index),
        )
        for index, window in enumerate(windows)
    ]


def _sliding(windows: list[int]) -> list[int]:
    return [index for index, window in enumerate(windows) if window]


def _gguf_kv_heads(fields: Fields, windows: list[int]) -> dict[bool, int]:
    """Return the KV heads of layers with a window, and without. Files have one number or a list."""
    found = fields.raw("num_key_value_heads")
    if not isinstance(found, list):
        return dict.fromkeys((True, False), fields.integer("num_key_value_heads"))
    label = fields.label("num_key_value_heads")
    if len(found) != len(windows) or not all(type(number) is int for number in found):
        raise ModelError(f"{label} is no list of {len(windows)} numbers")
    kinds: dict[bool, int] = {}
    for number, window in zip(found, windows, strict=True):
        if kinds.setdefault(bool(window), number) != number:
            raise ModelError(f"{label}: layers of one type must have the same number")
    first: int = found[0]
    return {kind: kinds.get(kind, first) for kind in (True, False)}


def _gguf_ropes(fields: Fields, own_dim: int, head_dim: int) -> tuple[Rope, Rope]:
    """Return how layers with a window turn, and how those without, of whose heads a table stills a
    part."""
    theta = fields.number("rope_theta", _GGUF_THETA)
    local = Rope(
        fields.integer("rope.dimension_count_swa", own_dim),
        fields.number("rope.freq_base_swa", theta),
    )
    fields.must_be("rope.dimension_count", head_dim, f"only that of a head, {head_dim}, is known")
    fields.must_be("rope.dimension_count_swa", own_dim, f"only that of a head, {own_dim}, is known")
    fields.must_be("rope.scaling.type", "none", "layers with a window would turn otherwise, too")
    fields.must_be("rope.scaling.factor", 1.0, "layers with a window would turn otherwise, too")
    if "rope.factors" not in fields:
        raise ModelError("has no tensor rope_freqs.weight, which says what of a head turns")
    return local, read_rope(fields, head_dim, theta=theta)


def _has_no_values(fields: Fields, index: int) -> bool:
    names = (f"blk.{index}.attn_v.weight", f"blk.{index}.attn_qkv.weight")
    return not any(name in fields.tensors for name in names)


def _unless(number: int, of_model: int) -> int:
    return 0 if number == of_model else number
