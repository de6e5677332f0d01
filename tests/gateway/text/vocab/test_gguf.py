"""GGUF files: their kinds, what stands around a prompt, and files that cannot be used."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab.pretokenizers import PRE_TOKENIZERS
from tests.gateway.gguf_files import HELLO, hello_pairs, write_gguf

UNK, BOS, EOS = 0, 1, 2


def load(path: Path, pairs: dict[str, Any]) -> Tokenizer:
    return Tokenizer.load(write_gguf(path / "model.gguf", pairs))


def byte_level_pairs(**changes: Any) -> dict[str, Any]:
    """The 256 letters of the byte alphabet, "ab", a control and a user-defined token."""
    letters = sorted(ByteLevel.alphabet())
    pairs = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [*letters, "ab", "<|end|>", "<think>"],
        "token_type": [1] * 257 + [3, 4],
        "merges": ["a b"],
        "bos_token_id": 257,
        "eos_token_id": 257,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (pairs | changes).items()}


def test_sentencepiece_prompt_begins_with_bos_unless_told_not_to(tmp_path: Path) -> None:
    assert load(tmp_path, hello_pairs()).encode("")[0] == BOS
    without = hello_pairs() | {"tokenizer.ggml.add_bos_token": False}
    assert load(tmp_path, without).encode("") == []
    with_eos = hello_pairs() | {"tokenizer.ggml.add_eos_token": True}
    assert load(tmp_path, with_eos).encode("") == [BOS, EOS]


def test_byte_level_prompts_begin_with_bos_where_the_family_does(tmp_path: Path) -> None:
    assert load(tmp_path, byte_level_pairs()).encode("ab") == [256]
    assert load(tmp_path, byte_level_pairs(pre="llama-bpe")).encode("ab") == [257, 256]
    told = byte_level_pairs(pre="llama-bpe", add_bos_token=False)
    assert load(tmp_path, told).encode("ab") == [256]


def test_sentencepiece_file_without_ids_has_llama_cpps(tmp_path: Path) -> None:
    pairs = hello_pairs()
    for name in ("bos", "eos", "unknown"):
        del pairs[f"tokenizer.ggml.{name}_token_id"]
    tokenizer = load(tmp_path, pairs)
    assert tokenizer.encode("hello")[0] == tokenizer.bos_token_id == BOS
    assert tokenizer.eos_token_ids == (EOS,)


def test_byte_level_file_without_ids_ends_at_11(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, byte_level_pairs(bos_token_id=-1, eos_token_id=-1))
    assert tokenizer.eos_token_ids == (11, 257)  # "<|end|>" ends an answer as well
    assert tokenizer.encode("ab") == [256]
    told = byte_level_pairs(bos_token_id=-1, add_bos_token=True)
    assert load(tmp_path, told).encode("ab") == [11, 256]


@pytest.mark.parametrize("type_", [1, 3, 4])
def test_known_end_is_found_in_text_whatever_its_type(tmp_path: Path, type_: int) -> None:
    pairs = byte_level_pairs(token_type=[1] * 257 + [type_, 4])
    tokenizer = load(tmp_path, pairs)
    assert tokenizer.encode("ab<|end|>") == [256, 257]
    assert 257 not in tokenizer.encode("ab<|end|>", parse_special=False)
    assert tokenizer.decode([256, 257]) == "ab"


def test_blanks_behind_phi3s_tokens_belong_to_them(tmp_path: Path) -> None:
    """Its template writes a line break behind each of them. The file does not say it."""
    pairs = hello_pairs()
    pairs["tokenizer.ggml.tokens"] += ["<|user|>"]
    pairs["tokenizer.ggml.scores"] += [0.0]
    pairs["tokenizer.ggml.token_type"] += [3]
    user = len(pairs["tokenizer.ggml.tokens"]) - 1
    text, hello = "<|user|>\n hello", 259 + HELLO.index("▁hello")
    named = load(tmp_path, pairs | {"general.name": "Phi-3 mini"})
    assert named.encode(text, add_special_tokens=False) == [user, hello]
    assert named.encode("<s> hello", add_special_tokens=False)[:2] == [BOS, 259 + HELLO.index("▁")]
    other = load(tmp_path, pairs | {"general.name": "Llama"})
    assert len(other.encode(text, add_special_tokens=False)) > 2


ROBERTA = byte_level_pairs(
    pre="roberta-bpe",
    tokens=[*sorted(ByteLevel.alphabet()), "<s>", "</s>", "<mask>"],
    token_type=[1] * 256 + [3, 3, 3],
    bos_token_id=256,
    eos_token_id=257,
    merges=[],
)


@pytest.mark.parametrize(
    ("changes", "between"),
    [
        ({"add_bos_token": True, "add_eos_token": True}, [257, 257]),
        ({"add_bos_token": True, "add_eos_token": True, "add_sep_token": False}, [257]),
        ({"add_bos_token": True, "add_eos_token": True, "pre": "modern-bert"}, [257]),
    ],
)
def test_pair_of_a_byte_level_encoder(
    tmp_path: Path, changes: dict[str, Any], between: list[int]
) -> None:
    own = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    a, b = (sorted(ByteLevel.alphabet()).index(letter) for letter in "ab")
    pair = load(tmp_path, ROBERTA | own).encode_pair("a", "b")
    assert pair.ids == [256, a, *between, b, 257]
    assert pair.type_ids == [0] * len(pair.ids)


def test_user_defined_tokens_are_text_and_control_tokens_are_not(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, byte_level_pairs())
    ids = tokenizer.encode("<think><|end|>")
    assert ids == [258, 257]
    assert tokenizer.decode(ids) == "<think>"
    assert tokenizer.encode("<think>", parse_special=False) == [258]


def test_ends_are_the_named_ids_and_known_spellings(tmp_path: Path) -> None:
    pairs = hello_pairs() | {"tokenizer.ggml.eot_token_id": 300, "tokenizer.ggml.eom_token_id": 270}
    # 300 is outside of the vocabulary.
    assert load(tmp_path, pairs).eos_token_ids == (EOS, 270)


def test_unknown_pre_tokenizer_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(
        TokenizerError, match=r"model\.gguf.*'quux' is not known; a directory .*llama-bpe"
    ) as info:
        load(tmp_path, byte_level_pairs(pre="quux"))
    assert all(name in str(info.value) for name in PRE_TOKENIZERS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model": "rwkv"},
            "its kind is 'rwkv'; 'gpt2', 'llama', 't5' and 'bert' are read; a directory of the"
            " same model with tokenizer.json would be served",
        ),
        ({"model": "t5", "unknown_token_id": 0}, "259 tokens but 0 scores"),
        ({"merges": ["ab"]}, "merge 'ab' does not name two tokens"),
        ({"merges": ["a zz"]}, "its merges do not fit its tokens"),
        ({"token_type": [1, 1]}, "259 tokens but 2 token types"),
        ({"tokens": ["a", "b", "a"]}, "1 of its tokens are spelled like another one"),
        ({"model": "llama"}, "259 tokens but 0 scores"),
        ({"tokens": 5}, "Expected `array`, got `int`"),
    ],
)
def test_metadata_that_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(TokenizerError, match=re.escape(words)) as info:
        load(tmp_path, byte_level_pairs(**changes))
    assert "model.gguf" in str(info.value)
    assert "\n" not in str(info.value)


def test_file_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"model\.gguf has no tokenizer"):
        load(tmp_path, {})


def test_file_that_cannot_be_parsed_is_an_error_of_the_tokenizer(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", hello_pairs())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TokenizerError, match=r"model\.gguf: truncated: ") as info:
        Tokenizer.load(path)
    assert "\n" not in str(info.value)


def test_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TokenizerError, match=r"cannot read .*model\.gguf: Permission denied"):
        Tokenizer.load(tmp_path / "model.gguf")


def test_tokenizer_is_loaded_without_numpy_or_the_gguf_package(tmp_path: Path) -> None:
    """Their import, 0.12 s, would add half to the 0.2 s that the default model takes."""
    path = write_gguf(tmp_path / "model.gguf", hello_pairs())
    code = (
        "import sys; from pathlib import Path; from gateway.text.tokenizer import Tokenizer;"
        "Tokenizer.load(Path(sys.argv[1]));"
        "sys.exit(' '.join({'numpy', 'gguf', 'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
