"""Builds SentencePiece's BPE from a GGUF file: its kind "llama", pieces with scores.

Owns how scores become merges. Called by `gateway/text/vocab/gguf.py`.
"""

import tokenizers
from tokenizers import decoders, normalizers

from backend.config.eos import NORMAL, UNUSED, USER_DEFINED
from gateway.text.vocab.gguf_metadata import Metadata, with_merges


def sentencepiece(meta: Metadata) -> tokenizers.Tokenizer:
    """Return the tokenizer. Raises ValueError for scores that do not fit the tokens."""
    unknown = meta.ids.get("unknown")
    backend = with_merges(
        meta.vocab,
        _merges_by_score(meta),
        unk_token=None if unknown is None else meta.tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    prepends = meta.keys.add_space_prefix is not False
    prepend = [normalizers.Prepend("▁")] if prepends else []
    strip = [decoders.Strip(" ", 1, 0)] if prepends else []
    backend.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


def _merges_by_score(meta: Metadata) -> list[tuple[str, str]]:
    """Return every way to put a token together from two others, best score first.

    SentencePiece joins the neighbours whose union scores best; as a ranked list of pairs that is
    what a BPE model does. Control, unknown and byte tokens are never spelled by text; llama.cpp
    joins pieces to such tokens too, where a vocabulary has the pieces.
    """
    vocab, types, scores = meta.vocab, meta.types, meta.scores()
    spelled = (NORMAL, USER_DEFINED, UNUSED)
    whole = [text for text, i in vocab.items() if len(text) > 1 and types[i] in spelled]
    whole.sort(key=lambda text: -scores[vocab[text]])
    return [
        (text[:cut], text[cut:])
        for text in whole
        for cut in range(1, len(text))
        if text[:cut] in vocab and text[cut:] in vocab
    ]
