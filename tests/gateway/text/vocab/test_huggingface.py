"""Hugging Face directories: which file says what, and the conversion of older formats."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab import convert

BOS, EOS, TURN = 256, 257, 258


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("UNISONO_CACHE", str(cache))
    return cache


def alphabet() -> dict[str, int]:
    return {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def byte_tokenizer(*, template: bool = True) -> tokenizers.Tokenizer:
    """One token a byte, then <s>, </s> and <turn>; the template puts <s> first."""
    backend = tokenizers.Tokenizer(models.BPE(vocab=alphabet(), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text) for text in ("<s>", "</s>", "<turn>")])
    if template:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", BOS)]
        )
    return backend


def directory(path: Path, *, template: bool = True, **files: Any) -> Path:
    """Write a model directory; files are JSON contents by name without its ending."""
    target = path / "model"
    target.mkdir()
    byte_tokenizer(template=template).save(str(target / "tokenizer.json"))
    for name, content in files.items():
        (target / f"{name}.json").write_text(json.dumps(content))
    return target


def test_what_surrounds_a_prompt_is_the_post_processors(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(directory(tmp_path))
    assert tokenizer.encode("") == [BOS]
    assert tokenizer.encode("a", add_special_tokens=False) == [alphabet()["a"]]
    assert tokenizer.decode(tokenizer.encode("né 😀")) == "né 😀"
    assert tokenizer.vocab_size == 259


@pytest.mark.parametrize(
    ("template", "config", "ids"),
    [
        (True, {"add_bos_token": True}, [BOS]),
        (True, {"add_bos_token": False}, []),
        (False, {}, []),
        (False, {"add_bos_token": True}, [BOS]),
        (True, {"add_eos_token": True}, [BOS, EOS]),
        (True, {"add_bos_token": None}, [BOS]),
    ],
)
def test_configuration_overrules_the_post_processor(
    tmp_path: Path, template: bool, config: dict[str, Any], ids: list[int]
) -> None:
    named = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    path = directory(tmp_path, template=template, tokenizer_config=named | config)
    assert Tokenizer.load(path).encode("") == ids


def test_ends_are_the_models_list_and_the_tokenizers_own(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(
        directory(
            tmp_path,
            tokenizer_config={"bos_token": "<s>", "eos_token": "</s>"},
            generation_config={"eos_token_id": [TURN]},
            config={"eos_token_id": 7},
        )
    )
    assert tokenizer.eos_token_ids == (TURN, EOS)
    assert tokenizer.eos_token_id == EOS
    assert tokenizer.bos_token_id == BOS


def test_ids_come_from_config_json_where_no_text_is_given(tmp_path: Path) -> None:
    config = {"bos_token_id": BOS, "eos_token_id": EOS}
    tokenizer = Tokenizer.load(directory(tmp_path, config=config))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_ids) == (BOS, (EOS,))


def test_bos_token_of_null_is_no_bos_token(tmp_path: Path) -> None:
    path = directory(tmp_path, tokenizer_config={"bos_token": None}, config={"bos_token_id": BOS})
    assert Tokenizer.load(path).bos_token_id is None


def test_null_end_in_generation_config_says_nothing(tmp_path: Path) -> None:
    path = directory(
        tmp_path, generation_config={"eos_token_id": None}, config={"eos_token_id": EOS}
    )
    assert Tokenizer.load(path).eos_token_ids == (EOS,)


def test_truncation_of_the_training_run_is_not_kept(tmp_path: Path) -> None:
    path = directory(tmp_path)
    backend = byte_tokenizer()
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    backend.save(str(path / "tokenizer.json"))
    assert len(Tokenizer.load(path).encode("abcdefgh")) == 9


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = directory(tmp_path)
    (path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=name) as info:
        Tokenizer.load(path)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON: "),
        ('{"a":' * 5000 + "1" + "}" * 5000, "not valid JSON: "),
        ("[]", "Expected `object`, got `array`"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(
    tmp_path: Path, content: str, words: str
) -> None:
    path = directory(tmp_path) / "tokenizer_config.json"
    path.write_text(content)
    with pytest.raises(TokenizerError) as info:
        Tokenizer.load(path.parent)
    assert str(info.value).startswith(f"{path}: {words}")


def test_directory_without_a_tokenizer_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer: expected tokenizer\.json"):
        Tokenizer.load(tmp_path)


def write_pair(path: Path) -> Path:
    """Write the older format of a byte tokenizer with one merge."""
    path.mkdir()
    vocab = alphabet() | {"ab": 256, "<|endoftext|>": 257}
    (path / "vocab.json").write_text(json.dumps(vocab))
    (path / "merges.txt").write_text("#version: 0.2\na b\n")
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"})
    )
    return path


def test_older_format_is_converted_once_and_then_cached(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pair(tmp_path / "model")
    tokenizer = Tokenizer.load(path)
    assert tokenizer.encode("ab<|endoftext|>") == [256, 257]
    assert tokenizer.eos_token_ids == (257,)
    assert len(list(own_cache.rglob("*.json"))) == 1
    # What is cached needs no process, and what has other bytes has another name.
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert Tokenizer.load(path).encode("ab") == [256]
    (path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(FileNotFoundError):
        Tokenizer.load(path)


def test_failed_conversion_gives_its_last_line(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho noise >&2\necho 'the reason' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(TokenizerError, match=r"cannot convert the tokenizer of .*: the reason$"):
        Tokenizer.load(write_pair(tmp_path / "model"))
    assert list(own_cache.rglob("*.json")) == []


def test_missing_transformers_names_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    # Restored afterwards: the conversion sets it for its own short life.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit, match=r"pip install '\.\[convert\]'"):
        convert.main(str(write_pair(tmp_path / "model")), str(tmp_path / "out.json"))
