"""Builds SentencePiece's unigram model from a GGUF file: its kind "t5", of T5 and XLM-R.

Owns which pieces text may be cut into. The map of characters that comes before is `charsmap`'s.
Called by `gateway/text/vocab/gguf.py`.
"""

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from backend.config.eos import NORMAL, UNUSED, USER_DEFINED
from gateway.text.vocab.gguf_metadata import Metadata

# Below any sum of real scores (log-probabilities, about -20 at least), so that text which spells a
# control token is cut into other pieces wherever there are any.
_NEVER = -1e6


def unigram(meta: Metadata) -> tokenizers.Tokenizer:
    """Return the tokenizer. Raises ValueError for scores that do not fit the tokens."""
    unknown = meta.ids.get("unknown")
    if unknown is None:
        raise ValueError("it names no unknown token, which a unigram model needs")
    scored = zip(meta.tokens, meta.types, meta.scores(), strict=True)
    pieces = [(text, _score(type_, score)) for text, type_, score in scored]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    merges_blanks = meta.keys.remove_extra_whitespaces
    if merges_blanks:
        # Spaces alone: `Strip` would take U+0085 and others along.
        single = normalizers.Replace(Regex(" {2,}"), " ")
        ends = normalizers.Replace(Regex(r"\A +| +\z"), "")
        backend.normalizer = normalizers.Sequence([single, ends])
    # llama.cpp's add_space_prefix is false by default here; the converters always write it.
    prepends = bool(meta.keys.add_space_prefix) or merges_blanks
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="always" if prepends else "never", split=False
    )
    strip = [decoders.Strip(" ", 1, 0)] if prepends else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), *strip])
    return backend


def _score(type_: int, score: float) -> float:
    if type_ == USER_DEFINED:
        return 0.0
    return score if type_ in (NORMAL, UNUSED) else _NEVER
