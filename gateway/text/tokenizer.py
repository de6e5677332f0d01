"""Text to token ids and back, for one model.

Owns the choice of loader by the kind of path, and what "special" means at the gateway. Knows no
requests, templates or limits. Built once per worker; every method may be called from any thread.
"""

import re
import threading
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from gateway.text.detokenizer import Detokenizer, PieceDetokenizer, WindowDetokenizer
from gateway.text.known_parts import KnownParts
from gateway.text.name_pattern import name_pattern
from gateway.text.special_token_escaper import SpecialTokenEscaper
from gateway.text.vocab.bound import text_bound
from gateway.text.vocab.charsmap import CharsMap
from gateway.text.vocab.embedded import keep_rows, tokens_without_rows
from gateway.text.vocab.gguf import load_gguf
from gateway.text.vocab.huggingface import load_huggingface
from gateway.text.vocab.pair_form import TokenizedPair
from gateway.text.vocab.pieces import Piece, pieces_of
from gateway.text.vocab.vocabulary import TokenizerError, Vocabulary

__all__ = ["Detokenizer", "TokenizedPair", "Tokenizer", "TokenizerError"]

_HALF_SURROGATE = "the text is not valid Unicode: it holds half of a surrogate pair"


class Tokenizer:
    """A model's tokenizer.

    vocab_size: one more than the highest id; the model's embedding may have more rows.
    eos_token_ids: ids that end an answer. other_ids: of pad_token, unk_token and the like.
    special_token_ids: special tokens, by their texts.
    tokens_without_rows: those that the files name and the model has no embedding for; text that
    spells one is characters.
    """

    def __init__(self, vocabulary: Vocabulary, num_rows: int | None = None) -> None:
        """num_rows: of the model's embedding; None to trust the vocabulary's ids."""
        self.tokens_without_rows: list[str] = []
        if num_rows is not None:
            self.tokens_without_rows = tokens_without_rows(vocabulary.backend, num_rows)
        if num_rows is not None and self.tokens_without_rows:
            vocabulary = keep_rows(vocabulary, num_rows)
        self._num_rows = num_rows
        self.bos_token_id = vocabulary.bos_token_id
        self.eos_token_id = vocabulary.eos_token_id
        self.eos_token_ids = vocabulary.eos_token_ids
        self.other_ids = vocabulary.other_ids
        self._vocabulary = vocabulary
        self._backend = vocabulary.backend
        self._pieces = pieces_of(self._backend)
        self._bound = text_bound(self._backend)
        added = self._backend.get_added_tokens_decoder()
        self.special_token_ids = {
            token.content: token_id for token_id, token in added.items() if token.special
        }
        self._special_texts = list(self.special_token_ids)
        self._shown: dict[frozenset[int], list[Piece]] = {}
        # With a group, split() gives added tokens as well, at odd places.
        names = name_pattern(token.content for token in added.values())
        self._added_pattern = re.compile(f"({names})")
        self._is_unigram = isinstance(self._backend.model, tokenizers.models.Unigram)
        ids = self._backend.get_vocab(with_added_tokens=True).values()
        self.vocab_size = max(ids, default=-1) + 1
        self._literal: tokenizers.Tokenizer | None = None
        self._literal_lock = threading.Lock()
        self._escaper = SpecialTokenEscaper(self._special_texts)
        self._escaped_backend: tokenizers.Tokenizer | None = None
        self._known = KnownParts(added.values())

    @classmethod
    def load(cls, path: Path, num_rows: int | None = None) -> "Tokenizer":
        """Return the tokenizer of a .gguf file or a Hugging Face directory.

        num_rows: of the model's embedding; None to trust the tokenizer's ids.
        Raises TokenizerError, one line that names the file.
        """
        return cls(load_huggingface(path) if path.is_dir() else load_gguf(path), num_rows)

    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
        max_length: int | None = None,
        salt: str | None = None,
    ) -> list[int]:
        """Return the ids of a text. Other threads run meanwhile (the GIL is released).

        Special tokens' names inside escape()d parts of it are characters in any case.
        add_special_tokens: put around it what the model wants around a prompt; what it begins with
        already is not put there twice.
        parse_special: read a special token's name in the text as that token, not as characters.
        max_length: the text's last tokens are cut off so that all fit, not those around it.
        salt: the parts of the text are remembered, for those under the same salt; None to remember
        nothing.
        Raises TokenizerError if the text is not valid Unicode, or holds a token that the model has
        no embedding for and that could not be taken out of the tokenizer; or if max_length has no
        room for what stands around it.
        """
        ids = self._ids(text, parse_special=parse_special, salt=salt)
        prefix, suffix = self._vocabulary.prefix_ids, self._vocabulary.suffix_ids
        if not add_special_tokens:
            prefix = suffix = ()
        # A template or a client may have written it out: twice, it is a text nobody trained on.
        if parse_special and tuple(ids[: len(prefix)]) == prefix:
            prefix = ()
        if max_length is not None:
            if (num_left := max_length - len(prefix) - len(suffix)) < 0:
                num_special = max_length - num_left
                raise TokenizerError(
                    f"{max_length} tokens are too few: a text has {num_special} special tokens"
                )
            ids = ids[:num_left]
        return [*prefix, *ids, *suffix]

    def encode_pair(
        self,
        first: str,
        second: str,
        *,
        max_length: int | None = None,
        max_second: int | None = None,
        parse_special: bool = False,
    ) -> TokenizedPair:
        """Return two texts as a cross-encoder takes them, special tokens and segments included.

        max_length: of both together; the longer text loses its last tokens first. max_second: what
        is behind so many tokens of the second is left out before.
        Raises TokenizerError as encode() does, and where the vocabulary has no form for pairs or
        max_length none of their tokens.
        """
        form = self._vocabulary.pair_form
        if form is None:
            raise TokenizerError("this model's tokenizer has no form for a pair of texts")
        ids = [self._ids(text, parse_special=parse_special) for text in (first, second)]
        try:
            return form.join(ids[0], ids[1][:max_second], max_length)
        except ValueError as error:
            raise TokenizerError(str(error)) from None

    def min_num_tokens(self, text: str) -> int:
        """Return how many tokens encode() makes of a text at least, without making them."""
        if self._bound is None:
            return 0
        return self._bound.min_num_tokens(self._escaper.unescape(text))

    def escape(self, text: str) -> str:
        """Return `text` to be put into a larger one, such that encode() of that reads no special
        token in it. The same object if there is nothing to escape."""
        return self._escaper.escape(text)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ids; U+FFFD for broken characters, nothing for unknown ids."""
        if self._pieces is None:
            return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        detokenizer = self.detokenizer(skip_special_tokens=skip_special_tokens)
        return "".join([*map(detokenizer.push, ids), detokenizer.flush()])

    def piece(self, token_id: int) -> Piece:
        """Return what one token adds to a text, special tokens included; "" for an unknown id.

        Bytes where it is a part of a character, if this decoder can tell.
        """
        if self._pieces is not None:
            full = self._pieces.full
            return full[token_id] if 0 <= token_id < len(full) else ""
        text = self._backend.decode([token_id], skip_special_tokens=False)
        return text if "\ufffd" not in text else self._backend.id_to_token(token_id) or ""

    def token(self, token_id: int) -> str:
        """Return how the vocabulary has a token; "" for an unknown id."""
        return self._backend.id_to_token(token_id) or ""

    def id_of(self, token: str) -> int | None:
        """Return the id of a token that is written as the vocabulary has it."""
        return self._backend.token_to_id(token)

    def pieces(self) -> list[bytes]:
        """Return the bytes of every token, by id; nothing for special tokens and unused ids.

        Raises TokenizerError if what a token adds to a text depends on its neighbours.
        """
        if self._pieces is None:
            raise TokenizerError("the bytes of this tokenizer's tokens depend on their neighbours")
        pieces = self._pieces.visible[: self._num_rows]
        return [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]

    def detokenizer(
        self,
        prompt_ids: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
        shown_ids: frozenset[int] = frozenset(),
    ) -> Detokenizer:
        """Return the incremental decoder of one choice that continues prompt_ids.

        shown_ids: special tokens that are text all the same. Where tokens have no text of their own
        all special tokens are, then.
        """
        if self._pieces is None:
            return WindowDetokenizer(
                self._backend,
                prompt_ids,
                skip_special_tokens=skip_special_tokens and not shown_ids,
            )
        pieces = self._pieces.visible if skip_special_tokens else self._pieces.full
        if skip_special_tokens and shown_ids:
            pieces = self._pieces_with(shown_ids)
        return PieceDetokenizer(pieces, prompt_ids, strips_space=self._pieces.strips_space)

    def _pieces_with(self, shown_ids: frozenset[int]) -> list[Piece]:
        """Return what each token adds to a text, some of the special tokens included."""
        assert self._pieces is not None
        if shown_ids not in self._shown:
            pieces = self._pieces.visible.copy()
            for token_id in shown_ids:
                pieces[token_id] = self._pieces.full[token_id]
            self._shown[shown_ids] = pieces
        return self._shown[shown_ids]

    def _ids(self, text: str, *, parse_special: bool, salt: str | None = None) -> list[int]:
        """Return the ids of a text alone."""
        if self._is_unigram and not parse_special:
            text = self._escaper.escape(text)
        if self._vocabulary.charsmap is not None:
            text = self._mapped(text, self._vocabulary.charsmap)
        is_escaped = self._escaper.sentinel in text
        if is_escaped:
            backend = self._backend_for_escaped()
        else:
            backend = self._backend if parse_special else self._backend_for_literal(text)
        if salt is not None and parse_special:
            ids = self._known.ids(
                text, salt, is_escaped=is_escaped, tokenise=lambda part: _ids_of(backend, part)
            )
        else:
            ids = _ids_of(backend, text)
        if self.tokens_without_rows:
            self._check_rows(ids)
        return ids

    def _mapped(self, text: str, charsmap: CharsMap) -> str:
        """Return what a map of characters makes of a text, added tokens left as they are."""
        parts = self._added_pattern.split(text)
        try:
            for i in range(0, len(parts), 2):
                mapped = charsmap.normalize(parts[i])
                # What spells a special token only now ("＜/s＞") is characters.  # noqa: RUF003
                parts[i] = mapped if mapped == parts[i] else self.escape(mapped)
        except UnicodeEncodeError:
            raise TokenizerError(_HALF_SURROGATE) from None
        return "".join(parts)

    def _check_rows(self, ids: Sequence[int]) -> None:
        """Raise TokenizerError for ids that the model has no embedding for."""
        assert self._num_rows is not None
        for token_id in ids:
            if token_id >= self._num_rows:
                token = self._backend.id_to_token(token_id)
                raise TokenizerError(f"this model has no embedding for its token {token!r}")

    def _backend_for_literal(self, text: str) -> tokenizers.Tokenizer:
        """Return a backend that reads special tokens in `text` as characters.

        That is a setting of the object, which threads share: so a second object, made when the
        first text that needs it comes.
        """
        if not any(special in text for special in self._special_texts):
            return self._backend
        with self._literal_lock:
            if self._literal is None:
                literal = tokenizers.Tokenizer.from_str(self._backend.to_str())
                literal.encode_special_tokens = True
                self._literal = literal
            return self._literal

    def _backend_for_escaped(self) -> tokenizers.Tokenizer:
        with self._literal_lock:
            if self._escaped_backend is None:
                self._escaped_backend = self._escaper.backend(self._backend)
            return self._escaped_backend


def _ids_of(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    try:
        # `encode` is the same but holds the GIL: a 100,000-token prompt stopped all streams.
        [encoding] = backend.encode_batch_fast([text], add_special_tokens=False)
    except TypeError:
        raise TokenizerError(_HALF_SURROGATE) from None
    return encoding.ids
