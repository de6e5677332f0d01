"""Which layers see a window of tokens only, out of a file's fields."""

from backend.config.errors import ModelError
from backend.config.fields import Fields

SLIDING, FULL = "sliding_attention", "full_attention"


def layer_windows(
    fields: Fields,
    num_layers: int,
    pattern: int | list[bool] = 0,
    *,
    default: int = 0,
    has_switch: bool = False,
) -> list[int]:
    """Return the window of each layer, 0 for none. Raises ModelError.

    Reads layer_types where the file has them. pattern: every so many-th layer sees all tokens, the
    others a window; 0: all layers have one, if there is one; or of each layer, whether it has one.
    default: the window where the file does not say. has_switch: the family reads
    use_sliding_window and max_window_layers, as Qwen's; of others' files they must not contradict.
    """
    window = fields.integer("sliding_window", default)
    types = fields.raw("layer_types")
    if not has_switch and window > 0:
        why = "models of this family do not read it; sliding_window null is how they have no window"
        fields.must_be("use_sliding_window", True, why)
        fields.must_be("max_window_layers", 0, why)
    is_used = fields.flag("use_sliding_window", True)
    first = fields.integer("max_window_layers", 0)
    if types is not None:
        _check_types(fields, types, num_layers)
        if SLIDING in types and (window <= 0 or not is_used):
            off = "sliding_window nothing" if is_used else "use_sliding_window that there is none"
            raise ModelError(f"layer_types says {SLIDING}, and {off}")
        return [window if kind == SLIDING else 0 for kind in types]
    if window <= 0 or not is_used:
        return [0] * num_layers
    if isinstance(pattern, list):
        return [window if has_window else 0 for has_window in pattern]
    return [
        0 if index < first or (pattern and (index + 1) % pattern == 0) else window
        for index in range(num_layers)
    ]


def hf_layer_windows(fields: Fields, num_layers: int, *, has_switch: bool = False) -> list[int]:
    """Return the window of each layer of a family in whose GGUF files llama.cpp reads none.

    has_switch: as for layer_windows().
    """
    if fields.kind == "gguf":
        fields.harmless(["sliding_window"])
        return [0] * num_layers
    return layer_windows(fields, num_layers, has_switch=has_switch)


def window_pattern(fields: Fields, num_layers: int, default: int) -> int | list[bool]:
    """Return which layers have a window as `sliding_window_pattern` says it.

    A number in config.json and GGUF files, or in the latter a list. Raises ModelError.
    """
    found = fields.raw("sliding_window_pattern", default)
    if isinstance(found, bool):  # what a list says of every layer
        return [found] * num_layers
    if not isinstance(found, list):
        return fields.integer("sliding_window_pattern", default)
    if len(found) != num_layers:
        raise ModelError(
            f"{fields.label('sliding_window_pattern')} has {len(found)} entries for "
            f"{num_layers} layers"
        )
    return [bool(entry) for entry in found]


def _check_types(fields: Fields, types: object, num_layers: int) -> None:
    if not isinstance(types, list) or len(types) != num_layers:
        raise ModelError(f"layer_types is no list of {num_layers}, one for each layer")
    unknown = sorted({str(kind) for kind in types} - {SLIDING, FULL})
    if unknown:
        raise ModelError(f"layer_types: {unknown[0]!r} is not supported; {SLIDING} and {FULL}")
