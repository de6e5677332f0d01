"""Records what llama.cpp makes of 1,000 strings: `python -m tests.gateway.data.make_llama_cpp_ids`.

Run by hand, beside an installed `llama-cpp-python` (0.3.36 made the committed file) and with the
folder of llama.cpp's own vocabularies, `vendor/llama.cpp/models` of its sources, as argument. The
tests read only the result, llama_cpp_ids.json.gz:
    texts      the strings
    ids        llama.cpp's ids of each, special tokens read as such
    literal    {index: ids} where reading special tokens as characters differs
    by_pre     {pre-tokenizer: SHA-256 of all ids as JSON}: the same vocabulary declared to be of
               another family
    by_kind    {kind of vocabulary: checksum}: the small ones of `vocabularies`
    by_file    {name: what made_of_file() returns}: llama.cpp's own vocabularies
    skipped    {kind: indices of strings}: where we differ on purpose, see `differs`
"""

import gzip
import hashlib
import json
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.config.gguf_header import read_metadata
from gateway.hub import default_model
from gateway.text.vocab.pretokenizers import PRE_TOKENIZERS
from tests.gateway.data import vocabularies
from tests.gateway.data.mixed_scripts import mixed_scripts
from tests.gateway.gguf_files import write_gguf

RESULT = Path(__file__).with_name("llama_cpp_ids.json.gz")
# Our patterns are those of these models' own tokenizer.json. llama.cpp reads DeepSeek's range of
# Chinese characters, which includes some spaces, differently, and takes \d for 0 to 9. Of AFMoE's
# ranges, one begins at U+8C48 there instead of at U+F900 and has Hangul in it.
OWN_PATTERNS = ("afmoe", "cohere2moe", "deepseek-coder", "deepseek-llm", "tiny_aya")
# Letters since Unicode 16, which llama.cpp's tables do not know.
_NEW_LETTERS = range(0x13460, 0x14400)


def main(folder: Path) -> None:
    texts = mixed_scripts()
    model = default_model()
    ids = llama_cpp_ids(model, texts)
    literal = llama_cpp_ids(model, texts, special=False)
    skipped = {
        kind: [i for i, text in enumerate(texts) if differs(text, kind)]
        for kind in ("gpt2", "llama", "t5", "bert")
    }
    result = {
        "texts": texts,
        "ids": ids,
        "literal": {i: own for i, own in enumerate(literal) if own != ids[i]},
        "by_pre": {
            pre: digest(ids_declared_as(pre, model, texts))
            for pre in sorted(PRE_TOKENIZERS.keys() - set(OWN_PATTERNS))
        },
        "skipped": skipped,
        "by_kind": {
            kind: digest(ids_of_pairs(pairs, model, without(texts, skipped[kind])))
            for kind, pairs in vocabularies.by_kind(texts).items()
        },
        "by_file": {
            path.name: {"kind": kind} | made_of_file(path, without(texts, skipped[kind]))
            for path in sorted(folder.glob("ggml-vocab-*.gguf"))
            if (kind := read_metadata(path)["tokenizer.ggml.model"]) in skipped
        },
    }
    data = json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()
    RESULT.write_bytes(gzip.compress(data, mtime=0))
    print(f"{RESULT}: {RESULT.stat().st_size:,} bytes", file=sys.stderr)


def made_of_file(path: Path, texts: list[str]) -> dict[str, Any]:
    """Return what llama.cpp makes of a vocabulary.

    ids: checksum of those of the texts. literal: the same with special tokens read as characters.
    ends: the ids that end an answer.
    """
    import llama_cpp  # type: ignore[import-not-found,unused-ignore]

    llama: Any = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    vocab = llama._model.vocab
    is_end = llama_cpp.llama_vocab_is_eog
    return {
        "ids": digest(llama_cpp_ids(path, texts)),
        "literal": digest(llama_cpp_ids(path, texts, special=False)),
        "ends": [i for i in range(llama.n_vocab()) if is_end(vocab, i)],
    }


def differs(text: str, kind: str) -> bool:
    """Return whether the models' own tokenizers and ours may cut a text unlike llama.cpp."""
    if kind == "gpt2":
        return any(ord(character) in _NEW_LETTERS for character in text)
    if kind != "bert":
        return False
    # It has its own view of BERT's normalisation: see `gateway/text/vocab/word_piece.py`.
    return any(
        "\uac00" <= character <= "\ud7a3"
        or character == "\x85"
        or unicodedata.category(character) in ("Mc", "Me")
        or (
            unicodedata.category(character) == "Mn"
            and unicodedata.ucd_3_2_0.category(character) == "Cn"
        )
        for character in text
    )


def without(texts: Sequence[str], skipped: Sequence[int]) -> list[str]:
    """Return the texts whose indices are not in `skipped`."""
    return [text for i, text in enumerate(texts) if i not in set(skipped)]


def digest(ids: list[list[int]]) -> str:
    """Return a checksum of many lists of ids."""
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()


def ids_declared_as(pre: str, model: Path, texts: list[str]) -> list[list[int]]:
    """Return llama.cpp's ids for the model's vocabulary under another pre-tokenizer's name."""
    return ids_of_pairs(read_metadata(model) | {"tokenizer.ggml.pre": pre}, model, texts)


def ids_of_pairs(pairs: dict[str, Any], model: Path, texts: list[str]) -> list[list[int]]:
    """Return llama.cpp's ids for a vocabulary in the place of the model's."""
    others = {
        key: value
        for key, value in read_metadata(model).items()
        if not key.startswith("tokenizer.")
    }
    with tempfile.TemporaryDirectory() as directory:
        path = write_gguf(Path(directory) / "vocab.gguf", others | pairs)
        return llama_cpp_ids(path, texts)


def llama_cpp_ids(model: Path, texts: list[str], *, special: bool = True) -> list[list[int]]:
    """Return the ids of each text, without special tokens around it."""
    import llama_cpp  # type: ignore[import-not-found,unused-ignore]

    llama: Any = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    return [llama.tokenize(text.encode(), add_bos=False, special=special) for text in texts]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
