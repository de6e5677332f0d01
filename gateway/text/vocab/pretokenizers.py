"""How byte-level BPE vocabularies cut text into words before merging, by GGUF's name for it.

A GGUF file names its pre-tokenizer (`tokenizer.ggml.pre`) and leaves the regular expressions to
the reader. They are the published ones of the models; each pattern of a tuple cuts the pieces that
the one before it left. Knows nothing of files or ids. Called by `gateway/text/vocab/gguf.py`.
"""

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BREAKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_BREAKS}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SIGNS}|{_BREAKS}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_CASED_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_TEKKEN = rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_CASED_SIGNS}|{_BREAKS}"
_GPT4O = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_LEAD}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}|{_CASED_SIGNS}|{_BREAKS}"
)
_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|]+"
_FALCON_PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
_DEEPSEEK_V3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BREAKS}"
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """Patterns, and what else the name implies.

    ignore_merges: a word that is a token stays whole, even if no merges lead to it.
    add_bos: prompts begin with the begin-of-sequence token unless the file says otherwise.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False

    def build(self) -> pre_tokenizers.PreTokenizer:
        """Return the `tokenizers` object: the cuts, then bytes as printable characters."""
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*cuts, to_bytes])


_DIGIT_GPT2 = PreTokenizer((r"\p{N}", _GPT2))
_PLAIN_GPT2 = PreTokenizer((_GPT2,))
_PLAIN_LLAMA3 = PreTokenizer((_LLAMA3,))
_FULL_LLAMA3 = PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True)
_PLAIN_QWEN2 = PreTokenizer((_QWEN2,))
_PLAIN_GPT4O = PreTokenizer((_GPT4O,))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer((_PUNCTUATION, _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "chatglm-bpe": _PLAIN_LLAMA3,
    "codeshell": _DIGIT_GPT2,
    "command-r": _DIGIT_GPT2,
    "dbrx": _PLAIN_LLAMA3,
    "deepseek-coder": PreTokenizer(
        (
            "[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
            r"\p{N}",
        )
    ),
    "deepseek-r1-qwen": _PLAIN_QWEN2,
    "deepseek-v3": PreTokenizer(
        (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK_V3)
    ),
    "exaone": _DIGIT_GPT2,
    "exaone4": _PLAIN_GPT2,
    "falcon": PreTokenizer((_FALCON_PUNCTUATION, _GPT2, "[0-9][0-9][0-9]")),
    "falcon3": _FULL_LLAMA3,
    "glm4": _PLAIN_LLAMA3,
    "gpt-2": _PLAIN_GPT2,
    "gpt-4o": _PLAIN_GPT4O,
    "granite-docling": _PLAIN_GPT2,
    "hunyuan": _PLAIN_QWEN2,
    "lfm2": _FULL_LLAMA3,
    "llama-bpe": _FULL_LLAMA3,
    "llama-v3": _FULL_LLAMA3,
    "llama3": _FULL_LLAMA3,
    "llama4": _PLAIN_GPT4O,
    "megrez": _PLAIN_QWEN2,
    "mellum": _PLAIN_GPT2,
    "minerva-7b": _DIGIT_GPT2,
    "mpt": _PLAIN_GPT2,
    "olmo": _PLAIN_GPT2,
    "phi-2": _PLAIN_GPT2,
    "pixtral": _FULL_LLAMA3,
    "qwen2": _PLAIN_QWEN2,
    "refact": _DIGIT_GPT2,
    "smaug-bpe": _PLAIN_LLAMA3,
    "smollm": _DIGIT_GPT2,
    "stablelm2": _PLAIN_QWEN2,
    "starcoder": _DIGIT_GPT2,
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True),
    "trillion": _PLAIN_GPT2,
}
