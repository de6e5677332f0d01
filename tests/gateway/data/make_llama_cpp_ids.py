"""Records what llama.cpp makes of 1,000 strings: `python -m tests.gateway.data.make_llama_cpp_ids`.

Run by hand, beside an installed `llama-cpp-python` (0.3.36 made the committed file); the tests read
only the result, llama_cpp_ids.json.gz:
    texts      the strings
    ids        llama.cpp's ids of each, special tokens read as such
    literal    {index: ids} where reading special tokens as characters differs
    by_pre     {pre-tokenizer: SHA-256 of all ids as JSON}: the same vocabulary declared to be of
               another family
"""

import gzip
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from backend.config.gguf_header import read_metadata
from gateway.hub import default_model
from tests.gateway.data.mixed_scripts import mixed_scripts
from tests.gateway.gguf_files import write_gguf

RESULT = Path(__file__).with_name("llama_cpp_ids.json.gz")
# One name of each kind. Not deepseek-coder: our pattern is that of the model's own tokenizer.json,
# and llama.cpp reads its range of Chinese characters, which includes some spaces, differently.
PRE_TOKENIZERS = "default dbrx deepseek-v3 falcon gpt-2 gpt-4o llama-bpe qwen2 tekken".split()


def main() -> None:
    texts = mixed_scripts()
    model = default_model()
    ids = llama_cpp_ids(model, texts)
    literal = llama_cpp_ids(model, texts, special=False)
    result = {
        "texts": texts,
        "ids": ids,
        "literal": {i: own for i, own in enumerate(literal) if own != ids[i]},
        "by_pre": {pre: digest(ids_declared_as(pre, model, texts)) for pre in PRE_TOKENIZERS},
    }
    data = json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()
    RESULT.write_bytes(gzip.compress(data, mtime=0))
    print(f"{RESULT}: {RESULT.stat().st_size:,} bytes", file=sys.stderr)


def digest(ids: list[list[int]]) -> str:
    """Return a checksum of many lists of ids."""
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()


def ids_declared_as(pre: str, model: Path, texts: list[str]) -> list[list[int]]:
    """Return llama.cpp's ids for the model's vocabulary under another pre-tokenizer's name."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vocab.gguf"
        write_gguf(path, read_metadata(model) | {"tokenizer.ggml.pre": pre})
        return llama_cpp_ids(path, texts)


def llama_cpp_ids(model: Path, texts: list[str], *, special: bool = True) -> list[list[int]]:
    """Return the ids of each text, without a begin-of-sequence token."""
    import llama_cpp  # type: ignore[import-not-found,unused-ignore]

    llama: Any = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    return [llama.tokenize(text.encode(), add_bos=False, special=special) for text in texts]


if __name__ == "__main__":
    main()
