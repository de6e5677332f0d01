"""Builds byte-level BPE from a GGUF file: its kind "gpt2".

Owns the form of its merges. The patterns by which words are cut are `pretokenizers`'. Called by
`gateway/text/vocab/gguf.py`.
"""

import tokenizers
from tokenizers import decoders

from gateway.text.vocab.gguf_metadata import Metadata, with_merges
from gateway.text.vocab.pretokenizers import PreTokenizer


def byte_level(meta: Metadata, pre: PreTokenizer) -> tokenizers.Tokenizer:
    """Return the tokenizer. Raises ValueError for merges that do not fit the tokens."""
    merges = [_pair(merge) for merge in meta.keys.merges]
    backend = with_merges(meta.vocab, merges, ignore_merges=pre.ignore_merges)
    backend.pre_tokenizer = pre.build()
    backend.decoder = decoders.ByteLevel()
    return backend


def _pair(merge: str) -> tuple[str, str]:
    # Texts hold no spaces at this level. It starts at 1 since the left side is never empty.
    cut = merge.find(" ", 1)
    if cut < 0:
        raise ValueError(f"its merge {merge!r} does not name two tokens")
    return merge[:cut], merge[cut + 1 :]
