"""The vocabularies that llama.cpp tests its tokenizers with, in our own tokenizers.

They are files of its sources: real ones, of eighteen models. What llama.cpp made of 1,000 strings
with each is recorded in `tests/gateway/data`.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.text.tokenizer import Tokenizer
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON
from tests.gateway.data.make_llama_cpp_ids import RESULT, digest, without
from tests.suites.environment import sources

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# Where `</s>` is HTML's, as `<s>` is: see `backend/config/eos.py`.
HTML_ENDS = {"ggml-vocab-qwen2.gguf": 128247, "ggml-vocab-qwen35.gguf": 128247}


@cache
def recorded() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(gzip.decompress(RESULT.read_bytes()))
    return result


@cache
def folder() -> Path:
    return sources("llama-cpp-python", LLAMA_CPP_PYTHON) / "vendor" / "llama.cpp" / "models"


@pytest.mark.parametrize("name", recorded()["by_file"])
def test_real_vocabulary_gives_llama_cpps_ids_and_ends(name: str) -> None:
    theirs = recorded()["by_file"][name]
    tokenizer = Tokenizer.load(folder() / name)
    texts = without(recorded()["texts"], recorded()["skipped"][theirs["kind"]])
    for key, parse_special in (("ids", True), ("literal", False)):
        ids = [
            tokenizer.encode(text, add_special_tokens=False, parse_special=parse_special)
            for text in texts
        ]
        assert digest(ids) == theirs[key]
    ends = set(theirs["ends"]) - {HTML_ENDS.get(name)}
    assert set(tokenizer.eos_token_ids) == ends
