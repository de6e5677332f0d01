"""What a GGUF file says of its tokenizer, checked and with llama.cpp's defaults.

Owns the names of the keys. Knows nothing of how a kind of vocabulary cuts text. Read by the
builders of this package: `byte_level`, `sentencepiece`, `unigram` and `word_piece`.
"""

from typing import Any

import msgspec
import tokenizers
from tokenizers import AddedToken, models

from backend.config.eos import CONTROL, UNKNOWN, USER_DEFINED, token_types
from backend.config.special_ids import special_ids

_SPECIAL = (CONTROL, UNKNOWN)
_LEFT_STRIPPED = ("<mask>", "[MASK]")
_KEEPING_BLANKS = ("<unk>", "<s>", "<|endoftext|>")


class Keys(msgspec.Struct, frozen=True):
    """The keys read here. Absent ones take the format's defaults, or None where those vary."""

    model: str = msgspec.field(name="tokenizer.ggml.model")
    tokens: list[str] = msgspec.field(name="tokenizer.ggml.tokens")
    pre: str = msgspec.field(name="tokenizer.ggml.pre", default="default")
    merges: list[str] = msgspec.field(name="tokenizer.ggml.merges", default_factory=list)
    scores: list[float] = msgspec.field(name="tokenizer.ggml.scores", default_factory=list)
    charsmap: list[int] = msgspec.field(
        name="tokenizer.ggml.precompiled_charsmap", default_factory=list
    )
    add_bos: bool | None = msgspec.field(name="tokenizer.ggml.add_bos_token", default=None)
    add_eos: bool | None = msgspec.field(name="tokenizer.ggml.add_eos_token", default=None)
    add_sep: bool | None = msgspec.field(name="tokenizer.ggml.add_sep_token", default=None)
    add_space_prefix: bool | None = msgspec.field(
        name="tokenizer.ggml.add_space_prefix", default=None
    )
    remove_extra_whitespaces: bool = msgspec.field(
        name="tokenizer.ggml.remove_extra_whitespaces", default=False
    )
    lowercase: bool = msgspec.field(name="tokenizer.ggml.normalizer.lowercase", default=True)
    strip_accents: bool | None = msgspec.field(
        name="tokenizer.ggml.normalizer.strip_accents", default=None
    )
    num_token_types: int = msgspec.field(name="tokenizer.ggml.token_type_count", default=0)
    name: str = msgspec.field(name="general.name", default="")
    architecture: str = msgspec.field(name="general.architecture", default="")


class Metadata:
    """The keys of one file, and what follows from them.

    vocab: id by text. types: of every token, by id; what is known by its text is a control token.
    ids: special ids by name, defaults among them.
    Raises ValueError for keys that contradict each other.
    """

    def __init__(self, pairs: dict[str, Any]) -> None:
        self.keys = msgspec.convert(pairs, Keys)
        self.tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(self.keys.tokens)]
        self.vocab = {text: i for i, text in enumerate(self.tokens)}
        if num_twice := len(self.tokens) - len(self.vocab):
            raise ValueError(f"{num_twice} of its tokens are spelled like another one")
        self.types = token_types(pairs)
        self.ids = special_ids(pairs)

    def scores(self) -> list[float]:
        """Return the score of every token, by id. Raises ValueError if there are fewer."""
        if len(self.keys.scores) < len(self.tokens):
            raise ValueError(f"it has {len(self.tokens)} tokens but {len(self.keys.scores)} scores")
        return self.keys.scores[: len(self.tokens)]

    def added_tokens(self) -> list[AddedToken]:
        """Return the tokens that are found in text before any splitting, in order of id."""
        return [
            AddedToken(
                text,
                special=type_ in _SPECIAL,
                normalized=False,
                lstrip=text in _LEFT_STRIPPED and self._strips_left(),
                rstrip=text not in _KEEPING_BLANKS and self._is_phi3(),
            )
            for text, type_ in zip(self.tokens, self.types, strict=True)
            if type_ in _SPECIAL or type_ == USER_DEFINED
        ]

    # Which tokens take the blanks beside them along is not in the file. llama.cpp goes by names.

    def _is_phi3(self) -> bool:
        name = self.keys.name.lower()
        return "phi-3" in name or "phi3" in name

    def _strips_left(self) -> bool:
        return (
            any(part in self.keys.pre for part in ("jina-v2-de", "jina-v2-es", "jina-v2-code"))
            or any(part in self.keys.architecture for part in ("nomic-bert-moe", "jina-bert-v3"))
            or "modern-bert" in self.keys.name.lower()
        )


def with_merges(
    vocab: dict[str, int], merges: list[tuple[str, str]], **options: Any
) -> tokenizers.Tokenizer:
    """Return a BPE tokenizer. Raises ValueError if a merge names a token that is not there."""
    try:
        return tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    except Exception as error:  # `tokenizers` raises the bare class
        raise ValueError(f"its merges do not fit its tokens: {error}") from error
