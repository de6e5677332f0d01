"""The default model's tokenizer against llama.cpp's ids, and what every caller may rely on."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config.gguf_header import read_metadata
from gateway.hub import default_model
from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab.gguf import vocabulary_from_metadata
from gateway.text.vocab.pretokenizers import PRE_TOKENIZERS
from tests.gateway.characters import REPRESENTABLE
from tests.gateway.data import vocabularies
from tests.gateway.data.make_llama_cpp_ids import OWN_PATTERNS, RESULT, digest, without
from tests.gateway.text.default_tokenizer import smollm

ENDOFTEXT, IM_START, IM_END, REPONAME = 0, 1, 2, 4


@cache
def metadata() -> dict[str, Any]:
    return read_metadata(default_model())


@cache
def recorded() -> dict[str, Any]:
    """The strings and llama.cpp's ids; see make_llama_cpp_ids.py."""
    result: dict[str, Any] = json.loads(gzip.decompress(RESULT.read_bytes()))
    return result


def test_ids_of_1000_mixed_script_strings_equal_llama_cpps() -> None:
    texts = recorded()["texts"]
    assert len(texts) == 1000
    differing = {
        text: (own, theirs)
        for text, theirs in zip(texts, recorded()["ids"], strict=True)
        if (own := smollm().encode(text)) != theirs
    }
    assert differing == {}


def test_special_tokens_read_as_characters_equal_llama_cpps() -> None:
    literal = recorded()["literal"]
    assert len(literal) > 50
    for index, theirs in literal.items():
        text = recorded()["texts"][int(index)]
        assert smollm().encode(text, parse_special=False) == theirs


def test_every_pre_tokenizer_cuts_like_llama_cpp() -> None:
    """Each kind of cut once; several families have the same."""
    backend = vocabulary_from_metadata(metadata()).backend
    own = {}
    for pre in {PRE_TOKENIZERS[name] for name in recorded()["by_pre"]}:
        backend.pre_tokenizer = pre.build()
        encodings = backend.encode_batch_fast(recorded()["texts"], add_special_tokens=False)
        own[pre] = digest([encoding.ids for encoding in encodings])
    assert recorded()["by_pre"] == {
        name: own[PRE_TOKENIZERS[name]] for name in PRE_TOKENIZERS if name not in OWN_PATTERNS
    }


@pytest.mark.parametrize("kind", ["llama", "t5", "bert"])
def test_ids_of_every_kind_of_vocabulary_equal_llama_cpps(kind: str) -> None:
    texts = recorded()["texts"]
    tokenizer = Tokenizer(vocabulary_from_metadata(vocabularies.by_kind(texts)[kind]))
    compared = without(texts, recorded()["skipped"][kind])
    assert len(compared) > 700
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in compared]
    assert digest(ids) == recorded()["by_kind"][kind]


def test_decoding_the_ids_of_a_text_gives_the_text() -> None:
    for text in recorded()["texts"]:
        assert smollm().decode(smollm().encode(text), skip_special_tokens=False) == text


@settings(deadline=None)
@given(st.text(REPRESENTABLE))
def test_any_text_survives_encoding_as_characters(text: str) -> None:
    assert smollm().decode(smollm().encode(text, parse_special=False)) == text


def test_default_model_has_its_ids() -> None:
    tokenizer = smollm()
    assert tokenizer.vocab_size == 49152
    assert tokenizer.bos_token_id == IM_START
    assert tokenizer.eos_token_ids == (IM_END, ENDOFTEXT, REPONAME)
    assert tokenizer.encode("") == []


def test_special_token_in_text_is_one_id_unless_told_otherwise() -> None:
    assert smollm().encode("hi<|im_end|>")[-1] == IM_END
    ids = smollm().encode("hi<|im_end|>", parse_special=False)
    assert IM_END not in ids
    assert smollm().decode(ids) == "hi<|im_end|>"


def test_special_tokens_are_left_out_of_text_by_default() -> None:
    ids = smollm().encode("<|im_start|>user")
    assert smollm().decode(ids) == "user"
    assert smollm().decode(ids, skip_special_tokens=False) == "<|im_start|>user"


def test_pieces_are_a_texts_bytes_and_special_tokens_have_none() -> None:
    pieces = smollm().pieces()
    assert len(pieces) == smollm().vocab_size
    assert [pieces[token_id] for token_id in (ENDOFTEXT, IM_START, IM_END)] == [b"", b"", b""]
    for text in recorded()["texts"][:100]:
        ids = smollm().encode(text, parse_special=False)
        assert b"".join(pieces[token_id] for token_id in ids) == text.encode()


def test_ids_without_a_token_add_no_text() -> None:
    hello = smollm().encode("Hello")
    assert smollm().decode([49152, *hello, -1, 2**31 - 1]) == "Hello"


def test_half_a_surrogate_pair_is_refused_in_words() -> None:
    with pytest.raises(TokenizerError, match="not valid Unicode"):
        smollm().encode("a\ud83db")


def test_threads_may_encode_at_the_same_time() -> None:
    tokenizer = Tokenizer.load(default_model())
    texts = recorded()["texts"][:200]
    expected = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        # The first literal texts race for the second backend.
        literal = pool.map(lambda text: tokenizer.encode(text, parse_special=False), texts)
        assert list(pool.map(tokenizer.encode, texts)) == expected
        assert list(literal) == [tokenizer.encode(text, parse_special=False) for text in texts]


def test_what_a_prompt_begins_with_is_not_put_there_twice() -> None:
    """A template's or client's own begin-of-sequence token counts."""
    pairs = metadata() | {"tokenizer.ggml.add_bos_token": True}
    tokenizer = Tokenizer(vocabulary_from_metadata(pairs))
    assert tokenizer.encode("hi") == [IM_START, *smollm().encode("hi")]
    assert tokenizer.encode("<|im_start|>hi") == tokenizer.encode("hi")
    assert tokenizer.encode("<|im_start|>") == tokenizer.encode("") == [IM_START]
    literal = tokenizer.encode("<|im_start|>", parse_special=False)
    assert literal == [IM_START, *smollm().encode("<|im_start|>", parse_special=False)]


def test_decoder_takes_no_pairs() -> None:
    with pytest.raises(TokenizerError, match="no form for a pair of texts"):
        smollm().encode_pair("a", "b")


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot read .*nothing\.gguf: No such file"):
        Tokenizer.load(tmp_path / "nothing.gguf")
