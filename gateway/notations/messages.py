"""Reads the headers of answers that consist of messages, as gpt-oss writes them (Harmony).

Called by the parser.
"""

import re

from gateway.notations.marks import MarkFinder
from gateway.notations.notation import MessagesForm

MAX_HEADER_CHARS = 4096
_RECIPIENT = "to="


class MessageReader:
    """Takes the header of the next message as it comes."""

    def __init__(self, form: MessagesForm) -> None:
        self.form = form
        self._call = re.compile(form.call)
        self._reasoning = re.compile(form.reasoning)
        self._finder = MarkFinder([form.header_end])
        self._openings = (*form.open, form.header_end, _RECIPIENT)
        self._header: list[str] = []

    def begins(self, text: str) -> bool | None:
        """Whether an answer that begins so is written in messages at all; None to wait for more."""
        start = text.lstrip()
        if start.startswith(self._openings):
            return True
        return None if any(opening.startswith(start) for opening in self._openings) else False

    def read_header(self, text: str) -> tuple[str | None, int]:
        """Return the header once it is complete, and how many characters were read."""
        at, mark = self._finder.find(text)
        if sum(map(len, self._header)) < MAX_HEADER_CHARS:
            self._header.append(text[:at])
        if not mark:
            return None, at
        header = "".join(self._header)
        self._header.clear()
        return header, at + len(mark)

    def called(self, header: str) -> str | None:
        """Return the name of the tool that a message calls; None for another message."""
        found = self._call.search(header)
        return found["name"] if found else None

    def is_reasoning(self, header: str) -> bool:
        """Whether a message is a thought."""
        return self._reasoning.search(header) is not None
