"""Which tokens of a GGUF file end an answer. The engine stops at them, the gateway names them.

Owns the spellings by which llama.cpp knows such tokens, whatever type a file gives them: files
written before end-of-turn ids had keys of their own name only one id, often that of the document's
end, and converters leave `<|im_end|>` and others as ordinary or user-defined tokens.
"""

from collections.abc import Mapping

from backend.config.special_ids import ID_KEYS, KIND, PRE, TOKENS, special_ids

# llama.cpp's types of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
# llama-vocab.cpp: the texts that it puts into `special_eog_ids`.
END_TEXTS = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn>"
    " <|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance>"
    " <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~[".split()  # noqa: RUF001
)
# Tokens of fill-in-the-middle by name, each with the texts that it is found by where no key names
# it. Behind the last three a completion has nothing more to say; the others are prompts' parts.
_FIM_TEXTS = {
    "fim_pre": "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE>"  # noqa: RUF001
    " <|code_prefix|> <|prefix|>",
    "fim_suf": "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF>"  # noqa: RUF001
    " <|code_suffix|> <|suffix|>",
    "fim_mid": "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID>"  # noqa: RUF001
    " <|code_middle|> <|middle|>",
    "fim_pad": "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]",
    "fim_rep": "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>",
    "fim_sep": "<|file_sep|>",
}
_FIM_ENDS = ("fim_pad", "fim_rep", "fim_sep")
# Parts of OpenAI's harmony form that are always shown.
_SHOWN_TEXTS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
_WATCHED = frozenset((*END_TEXTS, *" ".join(_FIM_TEXTS.values()).split(), *_SHOWN_TEXTS, "<s>"))
_TYPES = "tokenizer.ggml.token_type"
# All that end_token_ids looks at: to read merges and scores as well takes twice the time.
END_KEYS = frozenset((KIND, PRE, TOKENS, _TYPES, *ID_KEYS.values()))


def end_token_ids(metadata: Mapping[str, object]) -> tuple[int, ...]:
    """Return the ids, the one the file itself names first.

    metadata: the file's, END_KEYS at least. They are llama.cpp's but for `</s>`: where neither it
    nor `<s>` is a control token both are HTML's (in Qwen's and Gemma's vocabularies), and an answer
    that strikes a word through must not end there.
    """
    marks = _Marks(metadata)
    return marks.ends()


def token_types(metadata: Mapping[str, object]) -> list[int]:
    """Return the type of every token, by id: the file's, but what is known by its text is CONTROL.

    metadata: as for end_token_ids. Raises ValueError if there are fewer types than tokens.
    """
    marks = _Marks(metadata)
    return marks.types()


class _Marks:
    """The tokens of one vocabulary that are known by their text, and its special ids."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        tokens, types = metadata.get(TOKENS, ()), metadata.get(_TYPES, ())
        assert isinstance(tokens, tuple | list) and isinstance(types, tuple | list)
        self._types = types or [NORMAL] * len(tokens)
        self._num_tokens = len(tokens)
        self._ids = special_ids(metadata)
        self._by_text = {text: id_ for id_, text in enumerate(tokens) if text in _WATCHED}

    def ends(self) -> tuple[int, ...]:
        named = [self._ids[name] for name in ("eos", "eot", "eom", *_FIM_ENDS) if name in self._ids]
        spelled = [id_ for text, id_ in sorted(self._by_text.items()) if text in END_TEXTS]
        found = self._found_fim()
        fim = [found[name] for name in _FIM_ENDS if name in found]
        words = {self._by_text[text] for text in self._words()}
        return tuple(id_ for id_ in dict.fromkeys((*named, *spelled, *fim)) if id_ not in words)

    def types(self) -> list[int]:
        if len(self._types) < self._num_tokens:
            raise ValueError(f"it has {self._num_tokens} tokens but {len(self._types)} token types")
        types, words = list(self._types[: self._num_tokens]), self._words()
        for text, id_ in self._by_text.items():
            if text in words:
                types[id_] = words[text]
            elif text in END_TEXTS:
                types[id_] = CONTROL
            elif text in _SHOWN_TEXTS:
                types[id_] = USER_DEFINED
        for id_ in self._found_fim().values():
            types[id_] = CONTROL
        return types

    def _found_fim(self) -> dict[str, int]:
        """Return the tokens of fill-in-the-middle that no key names, by name."""
        found = {}
        for name, texts in _FIM_TEXTS.items():
            ids = [self._by_text[text] for text in texts.split() if text in self._by_text]
            if ids and name not in self._ids:
                found[name] = ids[0]
        return found

    def _words(self) -> dict[str, int]:
        """Return the texts of END_TEXTS that end nothing here, each with its type."""
        words, has = {}, self._by_text.keys()
        # `<|end|>` ends a message of OpenAI's harmony and of Solar, not the answer.
        is_harmony = has & {"<|call|>", "<|calls|>"} and has & {"<|return|>", "<|flush|>"}
        if is_harmony and "<|end|>" in has:
            words["<|end|>"] = USER_DEFINED
        if "</s>" in has and self._by_text["</s>"] not in self._ids.values():
            if "<|tool_response>" in has:  # as llama.cpp has it for Gemma 4
                words["</s>"] = NORMAL
            elif self._has_html():
                words["</s>"] = self._type("</s>")
        return words

    def _has_html(self) -> bool:
        """Return whether `<s>` and `</s>` are tags: neither a control token nor BOS."""
        start = self._by_text.get("<s>")
        if start is None or start in self._ids.values():
            return False
        return CONTROL not in (self._type("<s>"), self._type("</s>"))

    def _type(self, text: str) -> int:
        id_ = self._by_text[text]
        return self._types[id_] if id_ < len(self._types) else NORMAL
