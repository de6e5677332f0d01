"""Prompts that ask for what stands between two texts, for models trained to fill in.

Owns the names of the tokens such models mark the parts with. A model without them has no suffix.
Called by gateway/requests/prompt.py.
"""

from typing import TYPE_CHECKING

from gateway.errors import invalid

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

# They stand before the prefix, the suffix and the answer. The rows are those of StarCoder and
# Granite, SantaCoder, Qwen and CodeGemma, Code Llama, and DeepSeek.
MARKS = (
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001
)


def infill_ids(prefix_ids: list[int], suffix: str, tokenizer: "Tokenizer") -> list[int]:
    """Return the ids that ask a model for what comes between a prefix and a suffix.

    Raises ApiError 400 if the model has no tokens to say so.
    """
    marks = infill_marks(tokenizer)
    if marks is None:
        message = "'suffix' cannot be used: this model has no tokens for filling in text."
        raise invalid(message, "suffix", "unsupported_parameter")
    before_prefix, before_suffix, before_middle = marks
    suffix_ids = tokenizer.encode(suffix, add_special_tokens=False, parse_special=False)
    return [before_prefix, *prefix_ids, before_suffix, *suffix_ids, before_middle]


def infill_marks(tokenizer: "Tokenizer") -> tuple[int, int, int] | None:
    """Return the ids that stand before prefix, suffix and answer; None for other models."""
    for marks in MARKS:
        ids = [tokenizer.encode(mark, add_special_tokens=False) for mark in marks]
        if all(len(mark) == 1 for mark in ids):
            [before_prefix], [before_suffix], [before_middle] = ids
            return before_prefix, before_suffix, before_middle
    return None
