"""Ends of an answer by key and by spelling. What llama.cpp makes of the same is in its
llama-vocab.cpp; the sets of real vocabularies were compared with `llama_vocab_is_eog`."""

from typing import Any

import pytest

from backend.config.eos import (
    CONTROL,
    END_TEXTS,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    end_token_ids,
    token_types,
)

FIM_ENDS = (
    "<|fim_pad|> <PAD> [PAD] <|fim_repo|> <|repo_name|> <REPO> <reponame> <|file_sep|>".split()
)


def vocabulary(*marks: tuple[str, int], kind: str = "llama", **named: int) -> dict[str, Any]:
    """An SPM vocabulary of <unk>, <s>, </s> and "x", then these texts with their types."""
    tokens, types = zip(("<unk>", 2), ("<s>", 3), ("</s>", 3), ("x", 1), *marks, strict=True)
    keys = {f"tokenizer.ggml.{name}_token_id": value for name, value in named.items()}
    own = {"model": kind, "tokens": tokens, "token_type": types}
    return keys | {f"tokenizer.ggml.{name}": value for name, value in own.items()}


@pytest.mark.parametrize("type_", [NORMAL, CONTROL, USER_DEFINED, UNUSED])
@pytest.mark.parametrize("text", [*sorted(END_TEXTS - {"</s>"}), *FIM_ENDS])
def test_known_spelling_ends_an_answer_whatever_its_type(text: str, type_: int) -> None:
    metadata = vocabulary((text, type_), eos=2)
    assert end_token_ids(metadata) == (2, 4)
    assert token_types(metadata) == [2, 3, 3, 1, CONTROL]


@pytest.mark.parametrize("text", ["<|im_start|>", "<|fim_prefix|>", "<end>", "<file_sep>"])
def test_other_marks_end_nothing(text: str) -> None:
    assert end_token_ids(vocabulary((text, CONTROL), eos=2)) == (2,)


def test_named_ids_come_first() -> None:
    marks = [("<|im_end|>", 3), ("<turn>", 3), ("<pad>", 3)]
    metadata = vocabulary(*marks, eos=5, eot=4, eom=99, fim_pad=6)
    assert end_token_ids(metadata) == (5, 4, 6, 2)


def test_file_without_ids_ends_where_llama_cpp_ends_it() -> None:
    assert end_token_ids(vocabulary()) == (2,)
    marks = [(f"w{i}", 1) for i in range(10)]
    assert end_token_ids(vocabulary(*marks, kind="gpt2")) == (11, 2)


def test_named_part_of_an_infill_replaces_the_spelled_one() -> None:
    marks = [("<|repo_name|>", 1), ("<repo>", 3)]
    metadata = vocabulary(*marks, fim_rep=5)
    assert end_token_ids(metadata) == (2, 5)
    assert token_types(metadata)[4] == NORMAL


@pytest.mark.parametrize("others", [("<|return|>", "<|call|>"), ("<|calls|>", "<|flush|>")])
def test_end_of_a_message_is_not_the_answers_in_harmony(others: tuple[str, str]) -> None:
    metadata = vocabulary(("<|end|>", 3), *((text, 3) for text in others), ("<|start|>", 3), eos=5)
    assert set(end_token_ids(metadata)) == {2, 5, 6}
    assert token_types(metadata)[4:] == [USER_DEFINED, CONTROL, CONTROL, USER_DEFINED]
    assert 4 in end_token_ids(vocabulary(("<|end|>", 3), ("<|call|>", 3)))


@pytest.mark.parametrize("type_", [NORMAL, USER_DEFINED])
def test_html_tag_of_qwen_and_gemma_ends_nothing(type_: int) -> None:
    """llama.cpp ends Qwen 2.5 and Gemma 3 at `</s>`: where an answer strikes a word through."""
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ("<s>", "</s>", "<|im_end|>"),
        "tokenizer.ggml.token_type": (type_, type_, CONTROL),
        "tokenizer.ggml.eos_token_id": 2,
    }
    assert end_token_ids(metadata) == (2,)
    assert token_types(metadata) == [type_, type_, CONTROL]
    # Alone, or named by the file, it is the end of a sequence.
    assert end_token_ids(metadata | {"tokenizer.ggml.tokens": ("<b>", "</s>", "x")}) == (2, 1)
    assert end_token_ids(metadata | {"tokenizer.ggml.eos_token_id": 1}) == (1, 2)
    assert end_token_ids(metadata | {"tokenizer.ggml.bos_token_id": 0}) == (2, 1)


def test_end_of_sequence_is_a_word_of_gemma_4() -> None:
    metadata = vocabulary(("<|tool_response>", 3), ("<turn|>", 3), kind="gemma4", eos=5)
    assert end_token_ids(metadata) == (5, 4)
    assert token_types(metadata)[2] == NORMAL
    assert 2 in end_token_ids(metadata | {"tokenizer.ggml.eos_token_id": 2})


def test_types_that_do_not_fit_the_tokens_are_refused() -> None:
    metadata = vocabulary() | {"tokenizer.ggml.token_type": (1, 1)}
    with pytest.raises(ValueError, match="4 tokens but 2 token types"):
        token_types(metadata)
    assert token_types(vocabulary() | {"tokenizer.ggml.token_type": ()}) == [1, 1, CONTROL, 1]
