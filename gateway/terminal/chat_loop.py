"""Talks with a person in a terminal: reads lines, asks, prints, obeys what begins with a slash.

Ctrl-C stops an answer, which stays as far as it came; at an empty line Ctrl-D leaves.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from gateway.options import suggestion
from gateway.terminal.chat_client import ChatClient, ChatError, Figures
from gateway.terminal.conversation import FIELDS, CannotSet, Conversation
from gateway.terminal.printer import Printer

PROMPT, MORE = ">>> ", "... "
_HELP = """\
/system TEXT      set the instructions; without a text, show them
/set NAME VALUE   set a field of requests; without a value, unset it; alone, show all
/again            ask the last question once more
/clear            forget the conversation
/save FILE        write the conversation: .json, or Markdown
/quit             leave, as Ctrl-D does
A line that ends with \\ goes on in the next; Ctrl-C stops an answer."""


class ChatLoop:
    """One conversation with one model."""

    def __init__(
        self,
        client: ChatClient,
        model: str,
        conversation: Conversation,
        printer: Printer,
        read_line: Callable[[str], str] = input,
    ) -> None:
        """read_line: shows a prompt and returns a line; EOFError at the end."""
        self._client = client
        self._model = model
        self._conversation = conversation
        self._printer = printer
        self._read_line = read_line
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/system": self._system,
            "/set": self._set,
            "/again": self._again,
            "/clear": self._clear,
            "/save": self._save,
        }

    def run(self) -> None:
        """Talk until the person leaves."""
        self._say(f"{self._model} at {self._client.url}; /help lists what else there is")
        while True:
            try:
                line = self._read()
            except EOFError:
                self._printer.note("")
                return
            except KeyboardInterrupt:
                self._printer.note("\nCtrl-D or /quit leaves")
                continue
            except UnicodeDecodeError as error:
                self._say(f"that is no text in {error.encoding.upper()}")
                continue
            if line in ("/quit", "/exit", "/bye"):
                return
            if line.startswith("/"):
                self._obey(line)
            elif line:
                self._ask(line)

    def _read(self) -> str:
        lines = [self._read_line(PROMPT)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._read_line(MORE))
        return "\n".join(lines).strip()

    def _ask(self, question: str) -> None:
        conversation, figures, text = self._conversation, Figures(), ""
        conversation.ask(question)
        words = ""
        pieces = self._client.chat(self._model, conversation.messages, conversation.fields, figures)
        try:
            with contextlib.closing(pieces):
                for piece in pieces:
                    self._printer.piece(piece)
                    text += "" if piece.is_thought else piece.text
            words = str(figures)
        except KeyboardInterrupt:
            words = "stopped"
        except ChatError as error:
            words = str(error)
        self._printer.end()
        self._say(words + "\n")
        conversation.answer(text)

    def _obey(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        command = self._commands.get(name)
        if command is None:
            self._say(f"there is no {name}{suggestion(name, [*self._commands, '/quit'])}")
        else:
            command(rest.strip())

    def _help(self, rest: str) -> None:
        self._say(f"{_HELP}\nFields: {', '.join(FIELDS)}")

    def _system(self, text: str) -> None:
        if text:
            self._conversation.system = text
        self._say(self._conversation.system or "no instructions")

    def _set(self, rest: str) -> None:
        name, _, text = rest.partition(" ")
        try:
            if name:
                self._conversation.set(name, text.strip())
        except CannotSet as error:
            self._say(str(error))
            return
        fields = self._conversation.fields
        shown = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in fields.items()
        )
        self._say(shown or "all as the server has it")

    def _again(self, rest: str) -> None:
        question = self._conversation.take_back()
        if question:
            self._ask(question)
        else:
            self._say("nothing was asked yet")

    def _clear(self, rest: str) -> None:
        self._conversation.turns.clear()
        self._say("forgotten")

    def _save(self, rest: str) -> None:
        if not rest:
            self._say("to which file? /save FILE")
            return
        try:
            self._conversation.save(Path(rest).expanduser())
        except OSError as error:
            self._say(f"{rest} cannot be written: {error.strerror}")
        else:
            self._say(f"written to {rest}")

    def _say(self, words: str) -> None:
        self._printer.note(words)


def line_reader() -> Callable[[str], str]:
    """Return what reads lines from a person: with history and editing, where Python has them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() uses it once it is loaded

    return input
