"""Which special tokens a GGUF file has, named or by default, as llama.cpp reads them.

Owns the keys of `tokenizer.ggml.*_token_id` and the ids that a kind of vocabulary has where its
file names none. Knows no text of a token. Read by `eos` for the engine, and by the gateway's
tokenizers.
"""

from collections.abc import Mapping

KIND, PRE, TOKENS = "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens"
# Name here -> name in the key; "seperator" is the format's own spelling.
_NAMES = {
    "bos": "bos",
    "eos": "eos",
    "eot": "eot",
    "eom": "eom",
    "unknown": "unknown",
    "separator": "seperator",
    "padding": "padding",
    "mask": "mask",
    "cls": "cls",
    "fim_pre": "fim_pre",
    "fim_suf": "fim_suf",
    "fim_mid": "fim_mid",
    "fim_pad": "fim_pad",
    "fim_rep": "fim_rep",
    "fim_sep": "fim_sep",
}
ID_KEYS = {name: f"tokenizer.ggml.{key}_token_id" for name, key in _NAMES.items()}
# llama-vocab.cpp, llama_vocab::impl::load: what a vocabulary has before its file is asked. Ids of
# the first file of each kind: Falcon's text ends with 11.
_DEFAULTS = {
    "llama": {"bos": 1, "eos": 2, "unknown": 0},
    "gpt2": {"bos": 11, "eos": 11},
    "bert": {"bos": 101, "separator": 102, "unknown": 100, "padding": 0, "mask": 103},
    "t5": {"eos": 1, "unknown": 2, "padding": 0},
}
_WITHOUT_BOS = frozenset(("chatglm-bpe", "glm4", "glm5"))


def special_ids(metadata: Mapping[str, object]) -> dict[str, int]:
    """Return the ids by name: "bos", "eos", "separator", ...; those that a file lacks are absent.

    metadata: the file's; KIND, PRE, TOKENS and ID_KEYS are looked at. An id that no token has says
    nothing, as in llama.cpp: converters write -1 and others for "none". One difference: llama.cpp
    does not read BERT's [CLS] and takes 101 unless the file calls it BOS.
    """
    tokens = metadata.get(TOKENS)
    # A file may leave its tokenizer out; its ids are then checked against the embedding.
    limit = len(tokens) if isinstance(tokens, tuple | list) and tokens else 1 << 31
    kind = metadata.get(KIND)
    ids = dict(_DEFAULTS.get(kind, {})) if isinstance(kind, str) else {}
    if metadata.get(PRE) in _WITHOUT_BOS:
        ids.pop("bos", None)
    named = {name: metadata.get(key) for name, key in ID_KEYS.items()}
    if kind == "bert" and named["bos"] is None:
        named["bos"] = named["cls"]
    for name, value in named.items():
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit:
            ids[name] = value
    return {name: id_ for name, id_ in ids.items() if id_ < limit}
