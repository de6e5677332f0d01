"""Which layers see a window of tokens only, out of a file's fields."""

from backend.config.errors import ModelError
from backend.config.fields import Fields

SLIDING, FULL = "sliding_attention", "full_attention"


def layer_windows(fields: Fields, num_layers: int, pattern: int = 0) -> list[int]:
    """Return the window of each layer, 0 for none. Raises ModelError.

    Reads layer_types where the file has them, use_sliding_window and max_window_layers as Qwen's
    have it, llama.cpp's sliding_window_pattern. pattern: every so many-th layer sees all tokens,
    the others a window; 0: all layers have one, if there is one.
    """
    window = max(fields.integer("sliding_window", 0), 0)
    types = fields.raw("layer_types")
    is_used = fields.flag("use_sliding_window", True)
    first = fields.integer("max_window_layers", 0)
    if fields.kind == "gguf":
        return [window * sees for sees in _gguf_pattern(fields, num_layers, pattern)]
    if types is not None:
        _check_types(fields, types, num_layers)
        if SLIDING in types and not (window and is_used):
            off = "sliding_window nothing" if is_used else "use_sliding_window that there is none"
            raise ModelError(f"layer_types says {SLIDING}, and {off}")
        return [window if kind == SLIDING else 0 for kind in types]
    if not is_used:
        return [0] * num_layers
    return [
        0 if index < first or _sees_all(index, pattern) else window for index in range(num_layers)
    ]


def _gguf_pattern(fields: Fields, num_layers: int, pattern: int) -> list[bool]:
    """Return which layers have the window: a list, or every how many-th has not."""
    key = "attention.sliding_window_pattern"
    told = fields.raw(key)
    if isinstance(told, bool):  # the same of every layer
        return [told] * num_layers
    if isinstance(told, list):
        if len(told) != num_layers:
            raise ModelError(f"{fields.label(key)} has {len(told)} entries for {num_layers} layers")
        return [bool(is_windowed) for is_windowed in told]
    pattern = fields.integer(key, pattern)
    return [not _sees_all(index, pattern) for index in range(num_layers)]


def _sees_all(index: int, pattern: int) -> bool:
    return pattern > 0 and (index + 1) % pattern == 0


def _check_types(fields: Fields, types: object, num_layers: int) -> None:
    if not isinstance(types, list) or len(types) != num_layers:
        raise ModelError(f"layer_types is no list of {num_layers}, one for each layer")
    unknown = sorted({str(kind) for kind in types} - {SLIDING, FULL})
    if unknown:
        raise ModelError(f"layer_types: {unknown[0]!r} is not supported; {SLIDING} and {FULL}")
