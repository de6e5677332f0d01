"""Hugging Face directories: which file says what, and the conversion of older formats."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab import convert
from gateway.text.vocab.gguf import vocabulary_from_metadata
from tests.gateway.data.mixed_scripts import mixed_scripts
from tests.gateway.data.vocabularies import word_piece

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
        (True, {"add_bos_token": False}, [BOS]),
        (False, {}, []),
        (False, {"add_bos_token": True}, []),
        (True, {"add_eos_token": True}, [BOS]),
        (True, {"add_bos_token": None}, [BOS]),
    ],
)
@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "LlamaTokenizer", "GPT2Tokenizer"])
def test_post_processor_overrules_the_configuration(
    tmp_path: Path, template: bool, config: dict[str, Any], ids: list[int], kind: str
) -> None:
    """As transformers 5.23 has it, whatever the class; compared by running it."""
    named = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "tokenizer_class": kind}
    path = directory(tmp_path, template=template, tokenizer_config=named | config)
    assert Tokenizer.load(path).encode("") == ids


def test_files_own_pre_tokenizer_counts_whatever_the_class(tmp_path: Path) -> None:
    """transformers builds GPT-2's tokenizer anew, and cuts words where the file does not."""
    path = directory(tmp_path, tokenizer_config={"tokenizer_class": "GPT2Tokenizer"})
    backend = tokenizers.Tokenizer(models.BPE(alphabet() | {"ab": 256, "a1": 257}, [("a", "1")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.save(str(path / "tokenizer.json"))
    assert Tokenizer.load(path).encode("a1") == [257]


def test_pair_has_the_post_processors_form(tmp_path: Path) -> None:
    path = directory(tmp_path)
    backend = byte_tokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", BOS), ("</s>", EOS)],
    )
    backend.save(str(path / "tokenizer.json"))
    a, b = alphabet()["a"], alphabet()["b"]
    pair = Tokenizer.load(path).encode_pair("a", "bb", max_length=5)
    assert (pair.ids, pair.type_ids) == ([BOS, a, EOS, b, EOS], [0, 0, 0, 1, 1])
    # What a client spells is characters.
    assert EOS not in Tokenizer.load(path).encode_pair("</s>", "").ids[1:-2]
    with pytest.raises(TokenizerError, match="2 tokens are too few: a pair has 3 special tokens"):
        Tokenizer.load(path).encode_pair("a", "b", max_length=2)


def test_prompt_that_a_template_began_gets_no_second_bos(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(directory(tmp_path))
    assert tokenizer.encode("<s>a") == tokenizer.encode("a") == [BOS, alphabet()["a"]]


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
    with pytest.raises(
        TokenizerError,
        match=r"has no tokenizer: expected tokenizer\.json, or vocab\.json with merges\.txt, ",
    ):
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


@pytest.fixture
def converted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have directories converted in this process: the import of transformers takes seconds."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        convert.main(*command[-2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("gateway.text.vocab.huggingface.subprocess.run", run)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # which the conversion sets for its short life


@pytest.mark.usefixtures("converted_here")
def test_prompt_of_opt_begins_with_its_bos_token(tmp_path: Path) -> None:
    """Its directories have the older format alone: there `add_bos_token` counts."""
    path = write_pair(tmp_path / "model")
    config = json.loads((path / "tokenizer_config.json").read_text())
    config |= {"bos_token": "<|endoftext|>", "add_bos_token": True}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokenizer.load(path).encode("ab") == [257, 256]


@pytest.mark.usefixtures("converted_here")
def test_berts_older_format_has_the_ids_of_its_gguf_twin(tmp_path: Path) -> None:
    """transformers makes this one; Hangul and the marks that llama.cpp reads otherwise included."""
    pairs = word_piece(mixed_scripts()) | {"tokenizer.ggml.token_type_count": 2}
    gguf = Tokenizer(vocabulary_from_metadata(pairs))
    vocab = gguf._backend.get_vocab(with_added_tokens=False)
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path)
    texts = mixed_scripts()
    assert [gguf.encode(text) for text in texts] == [tokenizer.encode(text) for text in texts]
    assert gguf.encode_pair("the", "a fox") == tokenizer.encode_pair("the", "a fox")


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
