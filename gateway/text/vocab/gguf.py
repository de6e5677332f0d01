"""Builds a tokenizer from the metadata of a GGUF file.

Owns the meaning of the `tokenizer.*` keys for the two kinds of vocabulary that Llama-family models
use: byte-level BPE ("gpt2") and SentencePiece BPE with scores ("llama"). Knows neither Hugging Face
directories nor tensors. Called by `gateway/text/tokenizer.py`.
"""

import enum
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers

from backend.config.eos import end_token_ids
from backend.config.errors import ModelError
from backend.config.gguf_header import read_metadata
from gateway.text.vocab.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from gateway.text.vocab.vocabulary import TokenizerError, Vocabulary


class _TokenType(enum.IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class _Metadata(msgspec.Struct, frozen=True):
    """The keys read here. Absent ones take the format's defaults, or None where those vary."""

    model: str = msgspec.field(name="tokenizer.ggml.model")
    tokens: list[str] = msgspec.field(name="tokenizer.ggml.tokens")
    pre: str = msgspec.field(name="tokenizer.ggml.pre", default="default")
    merges: list[str] = msgspec.field(name="tokenizer.ggml.merges", default_factory=list)
    scores: list[float] = msgspec.field(name="tokenizer.ggml.scores", default_factory=list)
    token_type: list[int] = msgspec.field(name="tokenizer.ggml.token_type", default_factory=list)
    bos: int | None = msgspec.field(name="tokenizer.ggml.bos_token_id", default=None)
    eos: int | None = msgspec.field(name="tokenizer.ggml.eos_token_id", default=None)
    unknown: int | None = msgspec.field(name="tokenizer.ggml.unknown_token_id", default=None)
    add_bos: bool | None = msgspec.field(name="tokenizer.ggml.add_bos_token", default=None)
    add_eos: bool = msgspec.field(name="tokenizer.ggml.add_eos_token", default=False)
    add_space_prefix: bool = msgspec.field(name="tokenizer.ggml.add_space_prefix", default=True)


def load_gguf(path: Path) -> Vocabulary:
    """Return the vocabulary of a .gguf file. Raises TokenizerError, which names the file."""
    try:
        pairs = read_metadata(path)
    except ModelError as error:
        raise TokenizerError(str(error)) from error
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror or error}") from error
    if "tokenizer.ggml.model" not in pairs or "tokenizer.ggml.tokens" not in pairs:
        raise TokenizerError(f"{path} has no tokenizer in its metadata")
    try:
        return vocabulary_from_metadata(pairs)
    except ValueError as error:
        raise TokenizerError(f"the tokenizer of {path} cannot be used: {error}") from error


def vocabulary_from_metadata(pairs: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary that GGUF keys describe. Raises ValueError."""
    meta = msgspec.convert(pairs, _Metadata)
    num_tokens = len(meta.tokens)
    vocab = {text or f"[EMPTY_{i}]": i for i, text in enumerate(meta.tokens)}
    if len(vocab) != num_tokens:
        raise ValueError(f"{num_tokens - len(vocab)} of its tokens are spelled like another one")
    types = meta.token_type or [_TokenType.NORMAL] * num_tokens
    if len(types) != num_tokens:
        raise ValueError(f"it has {num_tokens} tokens but {len(types)} token types")

    match meta.model:
        case "gpt2":
            pre = _pre_tokenizer(meta.pre)
            backend = _byte_level(vocab, meta.merges, pre)
            add_bos = pre.add_bos if meta.add_bos is None else meta.add_bos
        case "llama":
            backend = _sentencepiece(vocab, types, meta)
            add_bos = meta.add_bos is not False
        case other:
            raise ValueError(f"its kind is {other!r}; supported: 'gpt2', 'llama'")
    backend.add_tokens(_added_tokens(vocab, types))

    bos, eos = _known(meta.bos, num_tokens), _known(meta.eos, num_tokens)
    return Vocabulary(
        backend=backend,
        bos_token_id=bos,
        eos_token_id=eos,
        eos_token_ids=end_token_ids(pairs),
        prefix_ids=(bos,) if add_bos and bos is not None else (),
        suffix_ids=(eos,) if meta.add_eos and eos is not None else (),
    )


def _pre_tokenizer(name: str) -> PreTokenizer:
    if name not in PRE_TOKENIZERS:
        supported = ", ".join(sorted(PRE_TOKENIZERS))
        raise ValueError(f"its pre-tokenizer {name!r} is not known; supported: {supported}")
    return PRE_TOKENIZERS[name]


def _byte_level(
    vocab: dict[str, int], merges: list[str], pre: PreTokenizer
) -> tokenizers.Tokenizer:
    pairs = [_pair(merge) for merge in merges]
    backend = _with_merges(vocab, pairs, ignore_merges=pre.ignore_merges)
    backend.pre_tokenizer = pre.build()
    backend.decoder = decoders.ByteLevel()
    return backend


def _pair(merge: str) -> tuple[str, str]:
    # Texts hold no spaces at this level. It starts at 1 since the left side is never empty.
    cut = merge.find(" ", 1)
    if cut < 0:
        raise ValueError(f"its merge {merge!r} does not name two tokens")
    return merge[:cut], merge[cut + 1 :]


def _sentencepiece(
    vocab: dict[str, int], types: list[int], meta: _Metadata
) -> tokenizers.Tokenizer:
    if len(meta.scores) != len(vocab):
        raise ValueError(f"it has {len(vocab)} tokens but {len(meta.scores)} scores")
    unknown = _known(meta.unknown, len(vocab))
    backend = _with_merges(
        vocab,
        _merges_by_score(vocab, types, meta.scores),
        unk_token=None if unknown is None else meta.tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    prepend = [normalizers.Prepend("▁")] if meta.add_space_prefix else []
    strip = [decoders.Strip(" ", 1, 0)] if meta.add_space_prefix else []
    backend.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


def _merges_by_score(
    vocab: dict[str, int], types: list[int], scores: list[float]
) -> list[tuple[str, str]]:
    """Return every way to put a token together from two others, best score first.

    SentencePiece joins the neighbours whose union scores best; as a ranked list of pairs that is
    what a BPE model does. Control, unknown and byte tokens are never spelled by text.
    """
    spelled = (_TokenType.NORMAL, _TokenType.USER_DEFINED, _TokenType.UNUSED)
    whole = [text for text, i in vocab.items() if len(text) > 1 and types[i] in spelled]
    whole.sort(key=lambda text: -scores[vocab[text]])
    return [
        (text[:cut], text[cut:])
        for text in whole
        for cut in range(1, len(text))
        if text[:cut] in vocab and text[cut:] in vocab
    ]


def _with_merges(
    vocab: dict[str, int], merges: list[tuple[str, str]], **options: Any
) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    except Exception as error:  # `tokenizers` raises the bare class
        raise ValueError(f"its merges do not fit its tokens: {error}") from error


def _added_tokens(vocab: dict[str, int], types: list[int]) -> list[AddedToken]:
    """Return the tokens that are found in text before any splitting, in order of id."""
    special = (_TokenType.CONTROL, _TokenType.UNKNOWN)
    return [
        AddedToken(text, special=types[i] in special, normalized=False)
        for text, i in vocab.items()
        if types[i] in special or types[i] == _TokenType.USER_DEFINED
    ]


def _known(token_id: int | None, num_tokens: int) -> int | None:
    """Return the id if there is such a token; converters write -1 and others for "none"."""
    return token_id if token_id is not None and 0 <= token_id < num_tokens else None
