"""What is seen of an answer: a terminal shows thoughts dim and obeys nothing, a file gets text."""

import io

import pytest

from gateway.terminal.chat_client import Piece
from gateway.terminal.printer import Printer
from tests.gateway.terminal.fake_terminal import FakeTerminal

PIECES = [Piece("Hm.", is_thought=True), Piece("Par"), Piece("is")]


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def printed(stream: io.StringIO, *pieces: Piece) -> str:
    printer = Printer(stream)
    for piece in pieces:
        printer.piece(piece)
    printer.end()
    return stream.getvalue()


def test_thoughts_are_dim_and_stand_apart() -> None:
    assert printed(FakeTerminal(), *PIECES) == "\x1b[2mHm.\x1b[0m\n\nParis\n"


def test_file_gets_the_answer_alone() -> None:
    assert printed(io.StringIO(), *PIECES) == "Paris\n"


def test_thought_that_is_cut_off_leaves_the_terminal_as_it_was() -> None:
    assert printed(FakeTerminal(), PIECES[0]) == "\x1b[2mHm.\x1b[0m\n\n"


def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed(FakeTerminal(), *PIECES) == "Hm.\n\nParis\n"


def test_last_line_is_ended_once() -> None:
    assert printed(io.StringIO(), Piece("One.\n")) == "One.\n"
    assert printed(io.StringIO()) == ""


def test_terminal_is_not_commanded_by_a_model() -> None:
    """An escape sequence of its text would be obeyed: this one renames the window."""
    text = "a\x1b]0;owned\x07b\x9b1mc\r\td\ne"
    shown = printed(FakeTerminal(), Piece(text))
    assert shown == "a␛]0;owned␇b\ufffd1mc␍\td\ne\n"
    assert printed(io.StringIO(), Piece(text)) == text + "\n", "a file gets it as it is"


def test_notes_are_for_those_who_watch() -> None:
    stream, terminal = io.StringIO(), FakeTerminal()
    for each in (stream, terminal):
        Printer(each).note("12 tokens")
    assert (stream.getvalue(), terminal.getvalue()) == ("", "\x1b[2m12 tokens\x1b[0m\n")
