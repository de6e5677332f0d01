"""What is asked, and what is kept."""

import json
from pathlib import Path

import pytest

from gateway.terminal.conversation import CannotSet, Conversation


def spoken() -> Conversation:
    conversation = Conversation("Be brief.", {"seed": 1})
    conversation.ask("Capital of France?")
    conversation.answer("Paris.")
    return conversation


def test_instructions_come_first() -> None:
    roles = [message["role"] for message in spoken().messages]
    assert roles == ["system", "user", "assistant"]
    assert Conversation().messages == []


def test_question_without_an_answer_was_not_asked() -> None:
    conversation = spoken()
    conversation.ask("And of Spain?")
    conversation.answer("")
    assert len(conversation.turns) == 2


def test_last_question_can_be_taken_back() -> None:
    conversation = spoken()
    assert conversation.take_back() == "Capital of France?"
    assert (conversation.turns, conversation.take_back()) == ([], "")


def test_fields_are_set_and_left_to_the_server() -> None:
    conversation = Conversation()
    for name, text in (("temperature", "0.5"), ("top_k", "20"), ("stop", "\\n")):
        conversation.set(name, text)
    assert conversation.fields == {"temperature": 0.5, "top_k": 20, "stop": "\\n"}
    conversation.set("top_k", "")
    assert "top_k" not in conversation.fields


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("temprature", "1", "there is no field temprature; did you mean temperature?"),
        ("top_k", "x", "top_k is a whole number, not 'x'"),
        ("top_k", "1.5", "top_k is a whole number, not '1.5'"),
        ("temperature", "hot", "temperature is a number, not 'hot'"),
        ("top_p", "nan", "top_p is a number, not 'nan'"),
        ("top_p", "-inf", "top_p is a number, not '-inf'"),
    ],
)
def test_what_cannot_be_set_is_told(name: str, text: str, words: str) -> None:
    with pytest.raises(CannotSet, match=words.replace("?", r"\?")):
        Conversation().set(name, text)


def test_saved_json_is_what_a_request_would_be(tmp_path: Path) -> None:
    spoken().save(tmp_path / "a.json")
    saved = json.loads((tmp_path / "a.json").read_text())
    assert saved == {"messages": spoken().messages, "seed": 1}


def test_saved_text_is_markdown(tmp_path: Path) -> None:
    spoken().save(tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    assert "## User\n\nCapital of France?\n\n## Assistant\n\nParis.\n" in text
