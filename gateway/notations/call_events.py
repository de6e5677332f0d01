"""Tells of calls, in order: their numbers, their ids, and which of them are told at all.

Called by the parser.
"""

import secrets
import string
from collections.abc import Callable

from gateway.answer_events import AnswerEvent, ArgumentsDelta, CallBegin, CallEnd

_ID_LETTERS = string.ascii_letters + string.digits


class CallEvents:
    """num_begun: calls so far; num_complete: those that were told and have an end."""

    def __init__(
        self,
        tell: Callable[[AnswerEvent], None],
        *,
        allows_parallel: bool,
        id_length: int,
        id_form: str = "",
    ) -> None:
        """allows_parallel: without it, calls after the first are not told. id_length: letters and
        digits of an id; 0 for ids as OpenAI's. id_form: see Notation."""
        self.num_begun = 0
        self.num_complete = 0
        self._tell = tell
        self._allows_parallel = allows_parallel
        self._id_length = id_length
        self._id_form = id_form

    def begin(self, name: str, index: str = "") -> None:
        """A tool is called. index: the number that the model gave the call, if it did."""
        self.num_begun += 1
        if self.is_told:
            id = self._new_id(name, index or str(self.num_begun - 1))
            self._tell(CallBegin(self.num_begun - 1, id, name))

    def arguments(self, text: str) -> None:
        """More of its arguments, as JSON."""
        if text and self.is_told:
            self._tell(ArgumentsDelta(self.num_begun - 1, text))

    def end(self) -> None:
        """Its arguments are complete."""
        if self.is_told:
            self._tell(CallEnd(self.num_begun - 1))
            self.num_complete += 1

    @property
    def is_told(self) -> bool:
        """Whether the last call is told."""
        return self.num_begun == 1 or self._allows_parallel

    def _new_id(self, name: str, index: str) -> str:
        if self._id_form:
            return self._id_form.replace("{name}", name).replace("{index}", index)
        if self._id_length:
            return "".join(secrets.choice(_ID_LETTERS) for _ in range(self._id_length))
        return f"call_{secrets.token_hex(12)}"
