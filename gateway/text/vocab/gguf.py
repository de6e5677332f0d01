"""Builds a tokenizer from the metadata of a GGUF file.

Owns which kinds of vocabulary there are and what they put around a prompt: byte-level BPE
("gpt2"), SentencePiece's BPE ("llama") and unigram model ("t5"), and WordPiece ("bert"). Knows
neither Hugging Face directories nor tensors. Called by `gateway/text/tokenizer.py`.
"""

from pathlib import Path
from typing import Any

import tokenizers

from backend.config.eos import end_token_ids
from backend.config.errors import ModelError
from backend.config.gguf_header import read_metadata
from gateway.text.vocab.byte_level import byte_level
from gateway.text.vocab.charsmap import CharsMap
from gateway.text.vocab.gguf_metadata import Metadata
from gateway.text.vocab.pair_form import PairForm
from gateway.text.vocab.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from gateway.text.vocab.sentencepiece import sentencepiece
from gateway.text.vocab.unigram import unigram
from gateway.text.vocab.vocabulary import TokenizerError, Vocabulary
from gateway.text.vocab.word_piece import word_piece

# Name of the key -> transformers' name.
_OTHERS = {
    "unknown": "unk_token",
    "separator": "sep_token",
    "padding": "pad_token",
    "cls": "cls_token",
    "mask": "mask_token",
}
_OTHERWISE = "a directory of the same model with tokenizer.json would be served"


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
    meta = Metadata(pairs)
    backend = _backend(meta)
    backend.add_tokens(meta.added_tokens())
    prefix_ids, suffix_ids = _surroundings(meta)
    keys = meta.keys
    return Vocabulary(
        backend=backend,
        bos_token_id=meta.ids.get("bos"),
        eos_token_id=meta.ids.get("eos"),
        eos_token_ids=end_token_ids(pairs),
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
        pair_form=_pair_form(meta, prefix_ids, suffix_ids),
        charsmap=CharsMap(keys.charsmap) if keys.model == "t5" and keys.charsmap else None,
        other_ids={name: meta.ids[key] for key, name in _OTHERS.items() if key in meta.ids},
    )


def _backend(meta: Metadata) -> tokenizers.Tokenizer:
    match meta.keys.model:
        case "gpt2":
            return byte_level(meta, _pre_tokenizer(meta.keys.pre))
        case "llama":
            return sentencepiece(meta)
        case "t5":
            return unigram(meta)
        case "bert":
            return word_piece(meta)
        case other:
            raise ValueError(
                f"its kind is {other!r}; 'gpt2', 'llama', 't5' and 'bert' are read; {_OTHERWISE}"
            )


def _pre_tokenizer(name: str) -> PreTokenizer:
    if name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise ValueError(
            f"its pre-tokenizer {name!r} is not known; {_OTHERWISE}. Those known are {known}"
        )
    return PRE_TOKENIZERS[name]


def _surroundings(meta: Metadata) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what the model wants before and behind a text, as llama.cpp decides it."""
    keys, ids = meta.keys, meta.ids
    end = ids.get("eos")
    match keys.model:
        case "gpt2":
            begins, ends = PRE_TOKENIZERS[keys.pre].add_bos, False
        case "t5":
            begins, ends = False, True
        case _:
            begins, ends = True, False
    begins = begins if keys.add_bos is None else keys.add_bos
    ends = ends if keys.add_eos is None else keys.add_eos
    if keys.model == "bert":  # whatever the file says of BOS and EOS
        begins, ends, end = True, True, ids.get("separator", end)
    begin = ids.get("bos")
    prefix_ids = (begin,) if begins and begin is not None else ()
    return prefix_ids, (end,) if ends and end is not None else ()


def _pair_form(
    meta: Metadata, prefix_ids: tuple[int, ...], suffix_ids: tuple[int, ...]
) -> PairForm | None:
    """Return the form of encoders' pairs: `[CLS] a [SEP] b [SEP]` or `<s> a </s></s> b </s>`.

    None where a text has nothing behind it: then nothing would part two.
    """
    if not suffix_ids:
        return None
    keys = meta.keys
    second_type = int(keys.model == "bert" and keys.num_token_types != 1)
    doubles = keys.add_sep
    if doubles is None:  # XLM-R's, RoBERTa's: files from before the key
        pre_doubles = keys.model == "gpt2" and PRE_TOKENIZERS[keys.pre].add_sep
        doubles = bool(prefix_ids) and (keys.model == "t5" or pre_doubles)
    separator = meta.ids.get("separator", suffix_ids[-1])
    between = [*suffix_ids, *([separator] if doubles and keys.model != "bert" else [])]
    return PairForm(
        before=tuple((id_, 0) for id_ in prefix_ids),
        between=tuple((id_, 0) for id_ in between),
        after=tuple((id_, second_type) for id_ in suffix_ids),
        second_type=second_type,
    )
