"""A person's lines, played by hand, and what they see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gateway.terminal.chat_client import Answer, ChatClient, ChatError, Figures, Piece
from gateway.terminal.chat_loop import ChatLoop
from gateway.terminal.conversation import Conversation
from gateway.terminal.printer import Printer
from tests.gateway.terminal.fake_terminal import FakeTerminal


class FakeClient:
    """Answers with given pieces; one that is an exception is raised."""

    url = "http://fake"

    def __init__(self, *answers: Sequence[str | BaseException]) -> None:
        self._answers = list(answers)
        self.asked: list[list[Mapping[str, str]]] = []
        self.fields: list[Mapping[str, object]] = []

    def chat(
        self, model: str, messages: Sequence[Any], fields: Mapping[str, object], into: Figures
    ) -> Answer:
        self.asked.append(list(messages))
        self.fields.append(dict(fields))
        for part in self._answers.pop(0):
            if isinstance(part, BaseException):
                raise part
            into.num_tokens += 1
            yield Piece(part)


def talk(client: FakeClient, *lines: str | BaseException) -> tuple[str, Conversation]:
    """Type lines, then leave; return what was seen, and the conversation."""
    waiting: list[str | BaseException] = [*lines, EOFError()]

    def read_line(prompt: str) -> str:
        line = waiting.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    terminal, conversation = FakeTerminal(), Conversation()
    loop = ChatLoop(cast(ChatClient, client), "m", conversation, Printer(terminal), read_line)
    loop.run()
    assert not waiting or lines[-1] == "/quit"
    return terminal.getvalue(), conversation


def test_each_question_brings_what_was_said() -> None:
    client = FakeClient(["Par", "is"], ["Ma", "drid"])
    seen, _ = talk(client, "Of France?", "Of Spain?", "/quit")
    assert "Paris\n" in seen and "Madrid\n" in seen and "2 tokens" in seen
    assert [message["content"] for message in client.asked[1]] == [
        "Of France?",
        "Paris",
        "Of Spain?",
    ]


def test_interrupt_stops_an_answer_and_keeps_its_beginning() -> None:
    seen, conversation = talk(FakeClient(["Par", KeyboardInterrupt()]), "Of France?")
    assert "stopped" in seen
    assert conversation.turns[-1] == {"role": "assistant", "content": "Par"}


def test_interrupt_at_the_prompt_says_how_to_leave() -> None:
    seen, _ = talk(FakeClient(), KeyboardInterrupt())
    assert "Ctrl-D or /quit leaves" in seen


def test_line_in_another_encoding_is_not_the_end() -> None:
    strange = UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid continuation byte")
    client = FakeClient(["ok"])
    seen, _ = talk(client, strange, "one")
    assert "that is no text in UTF-8" in seen and len(client.asked) == 1


def test_failure_is_told_and_the_question_can_be_asked_anew() -> None:
    seen, conversation = talk(FakeClient([ChatError("no group")]), "Of France?")
    assert "no group" in seen
    assert conversation.turns == []


def test_line_that_ends_with_a_backslash_goes_on() -> None:
    client = FakeClient(["ok"])
    talk(client, "one\\", "two")
    assert client.asked[0][0]["content"] == "one\ntwo"


def test_commands_change_what_is_asked(tmp_path: Path) -> None:
    client = FakeClient(["a"], ["b"])
    file = tmp_path / "talk.md"
    seen, conversation = talk(
        client,
        "/system Be brief.",
        "/set temperature 0.5",
        "/set nonsense 1",
        "Hello",
        "/again",
        f"/save {file}",
        "/save /no/such/place",
        "/clear",
        "/again",
        "/sytem x",
    )
    assert client.asked[0] == client.asked[1]
    assert client.asked[0][0] == {"role": "system", "content": "Be brief."}
    assert client.fields == [{"temperature": 0.5}] * 2
    assert "## User\n\nHello\n" in file.read_text()
    assert "there is no field nonsense" in seen
    assert "cannot be written: No such file or directory" in seen
    assert "nothing was asked yet" in seen
    assert "there is no /sytem; did you mean /system?" in seen
    assert conversation.turns == []


def test_help_names_every_command() -> None:
    seen, _ = talk(FakeClient(), "/help")
    for name in ("/system", "/set", "/again", "/clear", "/save", "/quit", "temperature"):
        assert name in seen
