"""Reads the tokenizer of a Hugging Face directory.

Owns which file says what (tokenizer.json, tokenizer_config.json, generation_config.json and their
older companions) and when a directory must be converted first. Knows no GGUF, runs no code from
the directory and unpickles nothing. Called by `gateway/text/tokenizer.py`.
"""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from gateway.hub import cache_directory
from gateway.text.vocab.pair_form import pair_form_of
from gateway.text.vocab.vocabulary import TokenizerError, Vocabulary

# Any of these is a vocabulary that transformers can make a tokenizer.json of: GPT-2's, BERT's,
# SentencePiece's as Llama, T5 and XLM-R call it, Mistral's.
_OLDER_FORMATS = (
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tekken.json",),
)
# What those formats keep a tokenizer in; the hash of those present is the name of the result.
_SLOW_FILES = (
    "added_tokens.json",
    "config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    *(name for names in _OLDER_FORMATS for name in names),
)
# Importing transformers on a cold disk and converting 256,000 tokens took under 60 s.
_CONVERT_TIMEOUT_S = 300
_NAMED_BY_ID = {"bos_token": "bos_token_id", "eos_token": "eos_token_id"}
_OTHERS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def load_huggingface(directory: Path) -> Vocabulary:
    """Return the vocabulary of a directory. Raises TokenizerError, which names the file."""
    ready = directory / "tokenizer.json"
    backend = _backend(ready if ready.is_file() else _converted(directory))
    config = _Config(directory, backend)
    prefix_ids, suffix_ids = _surroundings(backend)
    bos, eos = config.token_id("bos_token"), config.token_id("eos_token")
    return Vocabulary(
        backend=backend,
        bos_token_id=bos,
        eos_token_id=eos,
        eos_token_ids=config.eos_token_ids(),
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
        pair_form=pair_form_of(backend),
        other_ids={name: i for name in _OTHERS if (i := config.token_id(name)) is not None},
    )


def _backend(path: Path) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises the bare class
        raise TokenizerError(f"cannot use {path}: {_one_line(error)}") from error
    # Some files carry the settings of their training run.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _surroundings(backend: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what the file's own post-processor puts before and after a text.

    It decides alone: transformers (5.23) reads `add_bos_token` and `add_eos_token` of
    tokenizer_config.json only where there is no tokenizer.json.
    """
    plain = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    return (), ()


class _Config:
    """The JSON files beside tokenizer.json; every one of them may be missing."""

    def __init__(self, directory: Path, backend: tokenizers.Tokenizer) -> None:
        self._directory = directory
        self._backend = backend
        self._tokenizer = _read_json(directory / "tokenizer_config.json")
        self._special = _read_json(directory / "special_tokens_map.json")
        self._model = _read_json(directory / "config.json")
        self._generation = _read_json(directory / "generation_config.json")

    def token_id(self, name: str) -> int | None:
        """Return the id of bos_token and the like: by its text if one is given, else by number."""
        for source in (self._tokenizer, self._special):
            if name in source:
                text = source[name]
                if isinstance(text, dict):
                    text = text.get("content")
                return self._backend.token_to_id(text) if isinstance(text, str) else None
        return next(iter(_ids(self._model.get(_NAMED_BY_ID.get(name, "")))), None)

    def eos_token_ids(self) -> tuple[int, ...]:
        own = self.token_id("eos_token")
        # As in `backend.config.huggingface`, a null there says nothing.
        named = self._generation.get("eos_token_id")
        ids = _ids(self._model.get("eos_token_id") if named is None else named)
        return tuple(dict.fromkeys([*ids, *(() if own is None else (own,))]))


def _ids(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [i for i in values if isinstance(i, int) and i >= 0]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"cannot read {path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    # The words are those of `backend.config.hf_directory`, which the gateway may not import.
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(_read_text(path), type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise TokenizerError(f"{path}: {error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise TokenizerError(f"{path}: not valid JSON: {error}") from error


def _converted(directory: Path) -> Path:
    """Return the cached tokenizer.json of a directory that has only the older formats.

    transformers does the work in a process of its own, so that none of ours imports it.
    """
    if not any(all((directory / name).is_file() for name in names) for names in _OLDER_FORMATS):
        known = ", ".join(" with ".join(names) for names in _OLDER_FORMATS)
        raise TokenizerError(f"{directory} has no tokenizer: expected tokenizer.json, or {known}")
    target = cache_directory() / "tokenizers" / f"{_content_hash(directory)}.json"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gateway.text.vocab.convert", str(directory), str(target)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CONVERT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TokenizerError(
            f"converting the tokenizer of {directory} took over {_CONVERT_TIMEOUT_S} s"
        ) from error
    if done.returncode != 0 or not target.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise TokenizerError(f"cannot convert the tokenizer of {directory}: {reason}")
    return target


def _content_hash(directory: Path) -> str:
    digest = hashlib.sha256()
    for name in _SLOW_FILES:
        path = directory / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
