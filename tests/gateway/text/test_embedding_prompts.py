"""The prompts that a directory's files bring."""

import json
from pathlib import Path

import pytest

from gateway.text.embedding_prompts import EmbeddingPrompts, load_embedding_prompts


def test_prompts_are_found_by_name_and_one_may_be_the_default(tmp_path: Path) -> None:
    file = {"prompts": {"query": "q: ", "document": None}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(file))
    prompts = load_embedding_prompts(tmp_path)
    assert (prompts.text(None), prompts.text("query"), prompts.text("document")) == (
        "q: ",
        "q: ",
        "",
    )
    with pytest.raises(KeyError):
        prompts.text("other")


def test_model_without_prompts_has_none(tmp_path: Path) -> None:
    assert load_embedding_prompts(tmp_path) == EmbeddingPrompts()
    assert load_embedding_prompts(tmp_path / "model.gguf").text(None) == ""
