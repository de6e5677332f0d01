"""Which tokens of a GGUF file end an answer. The engine stops at them, the gateway names them."""

from collections.abc import Mapping

# Files written before end-of-turn ids had keys of their own name only one id, often that of the
# document's end. As control tokens these texts end an answer in every model that has them.
END_TEXTS = frozenset(
    "</s> <|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|im_end|> <end_of_turn>"
    " <｜end▁of▁sentence｜>".split()  # noqa: RUF001
)
CONTROL = 3  # llama.cpp's token type
_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_NAMED = tuple(f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom"))
# All that end_token_ids looks at: to read merges and scores as well takes twice the time.
END_KEYS = frozenset((_TOKENS, _TYPES, *_NAMED))


def end_token_ids(metadata: Mapping[str, object]) -> tuple[int, ...]:
    """Return the ids, the one the file itself names first.

    metadata: the file's, END_KEYS at least. Ids that no token has are left out: converters write -1
    and others for "none".
    """
    tokens = metadata.get(_TOKENS, ())
    types = metadata.get(_TYPES, ())
    assert isinstance(tokens, tuple | list) and isinstance(types, tuple | list)
    named = [metadata.get(key) for key in _NAMED]
    limit = len(tokens) or 1 << 31  # a file may leave its tokenizer out
    ids = [id_ for id_ in named if isinstance(id_, int) and 0 <= id_ < limit]
    spelled = sorted(
        (text, id_)
        for id_, (text, type_) in enumerate(zip(tokens, types, strict=False))
        if type_ == CONTROL and text in END_TEXTS
    )
    return tuple(dict.fromkeys([*ids, *(id_ for _, id_ in spelled)]))
