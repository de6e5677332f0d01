"""Where a model's chat templates are found; transformers judges for directories."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from backend.config.errors import ModelError
from gateway.text.chat_templates import load_chat_templates
from tests.gateway.gguf_files import write_gguf

NAMED = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
STRING = {"tokenizer_config.json": {"chat_template": "C"}}
LIST = {"tokenizer_config.json": {"chat_template": NAMED}}
FILE = {"chat_template.jinja": "J"}
RAG = {"additional_chat_templates/rag.jinja": "R"}
DIRECTORIES: list[dict[str, Any]] = [
    {},
    {"tokenizer_config.json": {"chat_template": None}},
    STRING,
    LIST,
    {"tokenizer_config.json": {"chat_template": [{"name": "rag", "template": "R"}]}},
    {"tokenizer_config.json": {"chat_template": {"default": "D", "x": "X"}}},
    FILE,
    FILE | STRING,
    FILE | LIST,
    FILE | RAG,
    RAG | LIST,
    RAG,
    FILE | {"additional_chat_templates/default.jinja": "A"},
    FILE | {"chat_template.json": {"chat_template": "P"}},
    STRING | {"chat_template.json": {"chat_template": "P"}},
]


def directory(path: Path, files: dict[str, Any]) -> Path:
    """Write files, those whose content is no text as JSON."""
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("files", DIRECTORIES)
def test_directory_has_the_templates_that_transformers_finds(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    path = directory(tmp_path, files)
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(path / "tokenizer.json"))
    found = PreTrainedTokenizerFast.from_pretrained(path).chat_template
    expected = {"default": found} if isinstance(found, str) else found or {}
    assert load_chat_templates(path) == expected


def test_template_of_a_processor_serves_where_there_is_no_other(tmp_path: Path) -> None:
    """Models of images and text have it there alone, and are served as text."""
    path = directory(tmp_path, {"chat_template.json": {"chat_template": "P"}})
    assert load_chat_templates(path) == {"default": "P"}
    directory(path, {"processor_config.json": {"chat_template": "Q", "image_processor": {}}})
    assert load_chat_templates(path) == {"default": "Q"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer_config.json": {"chat_template": 7}}, r"got `int` - at `\$.chat_template`"),
        ({"tokenizer_config.json": {"chat_template": ["x"]}}, "Expected `object`, got `str`"),
        ({"tokenizer_config.json": {"chat_template": [{"name": "x"}]}}, "field `template`"),
        ({"tokenizer_config.json": "{"}, "tokenizer_config.json: not valid JSON"),
        ({"chat_template.json": {"chat_template": []}}, "chat_template.json: Expected `str"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_chat_templates(directory(tmp_path, files))


def test_template_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: is not UTF-8"):
        load_chat_templates(tmp_path)


KEY = "tokenizer.chat_template"


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ({}, {}),
        ({KEY: ""}, {}),
        ({KEY: "D"}, {"default": "D"}),
        ({KEY: "D", f"{KEY}.tool_use": "T"}, {"default": "D", "tool_use": "T"}),
        # llama.cpp: what is for tools is for all where there is no other.
        ({f"{KEY}.tool_use": "T"}, {"default": "T", "tool_use": "T"}),
        ({KEY: "chatml", f"{KEY}.tool_use": "T"}, {"default": "T", "tool_use": "T"}),
        ({KEY: "D", f"{KEY}s": ["rag"], f"{KEY}.rag": "R"}, {"default": "D", "rag": "R"}),
        ({f"{KEY}s": ["rag"], f"{KEY}.rag": "R"}, {"rag": "R"}),
    ],
)
def test_gguf_has_the_templates_that_llama_cpp_finds(
    tmp_path: Path, pairs: dict[str, Any], expected: dict[str, str]
) -> None:
    assert load_chat_templates(write_gguf(tmp_path / "m.gguf", pairs)) == expected


def test_gguf_may_name_chatml(tmp_path: Path) -> None:
    found = load_chat_templates(write_gguf(tmp_path / "m.gguf", {KEY: "chatml"}))
    assert "<|im_start|>{{ message.role }}" in found["default"]


def test_several_written_by_the_converter_are_found_again(tmp_path: Path) -> None:
    """gguf's writer has its own way to put a list of templates into keys."""
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_chat_template([*NAMED, {"name": "rag-2", "template": "R"}])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = load_chat_templates(tmp_path / "m.gguf")
    assert found == {"default": "D", "tool_use": "T", "rag_2": "R"}


def test_file_goes_before_all_of_the_models(tmp_path: Path) -> None:
    path = directory(tmp_path, FILE | RAG | {"mine.jinja": "M"})
    assert load_chat_templates(path, str(path / "mine.jinja")) == {"default": "M"}


def test_name_of_a_template_makes_it_the_one_for_all(tmp_path: Path) -> None:
    path = directory(tmp_path, LIST)
    assert load_chat_templates(path, "tool_use") == {"default": "T"}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("rag", "rag: no such file, and no template of the model; its own are: default, tool_use."),
        ("{{ 1 }}", "Give the path of a Jinja file"),
        ("empty.jinja", "empty.jinja: the file is empty"),
    ],
)
def test_choice_that_is_neither_is_refused(
    tmp_path: Path, choice: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory(tmp_path, LIST | {"empty.jinja": " \n"})
    monkeypatch.chdir(path)
    with pytest.raises(ModelError, match=words) as refused:
        load_chat_templates(path, choice)
    assert str(refused.value).startswith("--chat-template ")
