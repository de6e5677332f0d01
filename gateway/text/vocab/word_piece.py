"""Builds BERT's WordPiece from a GGUF file: its kind "bert".

Owns the form of its tokens: GGUF marks where a word begins (`▁`), the vocabulary of BERT where it
goes on (`##`). Called by `gateway/text/vocab/gguf.py`.

Text is normalised as BERT's own tokenizer does it. llama.cpp differs: it keeps only the first
letter of a Hangul syllable, takes spacing and enclosing marks (Devanagari's vowels, keycaps) for
accents, keeps young marks out and U+0085 in as a blank, and has no longest word.
"""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from backend.config.eos import CONTROL, UNKNOWN
from gateway.text.vocab.gguf_metadata import Metadata

_BEGINNING, _CONTINUING = "▁", "##"
# Longer words are one unknown token (transformers' BertTokenizer).
_MAX_WORD_LENGTH = 100


def word_piece(meta: Metadata) -> tokenizers.Tokenizer:
    """Return the tokenizer. Raises ValueError where a vocabulary has no unknown token."""
    vocab = {
        _berts(text, type_): i
        for i, (text, type_) in enumerate(zip(meta.tokens, meta.types, strict=True))
    }
    if num_twice := len(meta.tokens) - len(vocab):
        raise ValueError(f"{num_twice} of its tokens are spelled like another one")
    unknown = meta.ids.get("unknown")
    if unknown is None:
        raise ValueError("it names no unknown token, which WordPiece needs")
    unknown_text = _berts(meta.tokens[unknown], meta.types[unknown])
    model = models.WordPiece(
        vocab, unk_token=unknown_text, max_input_chars_per_word=_MAX_WORD_LENGTH
    )
    backend = tokenizers.Tokenizer(model)
    strips, lowercase = meta.keys.strip_accents, meta.keys.lowercase
    backend.normalizer = normalizers.BertNormalizer(
        strip_accents=lowercase if strips is None else strips, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(_CONTINUING, cleanup=False)
    return backend


def _berts(text: str, type_: int) -> str:
    if type_ in (CONTROL, UNKNOWN):
        return text
    return text[len(_BEGINNING) :] if text.startswith(_BEGINNING) else _CONTINUING + text
