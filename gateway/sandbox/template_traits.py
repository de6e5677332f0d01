"""What a chat template reads, found by giving it conversations whose texts it must show.

Owns the probes and what follows from their renderings. A template is a program: which form of a
message it reads is seen in what it writes, not in its source. Knows no process; template_process.py
renders for it, chat_template.py goes by what it finds.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

Message = dict[str, Any]
# Returns the text of a conversation, None where the template fails.
Render = Callable[[Sequence[Message]], str | None]

# No template has this word of its own, and no change that templates make to texts takes it apart.
_WORD = "qzprobe"
_NO_ROLE = "qzrole"
_CALL_ID = "qzcall001"


class Traits(msgspec.Struct, frozen=True, array_like=True):
    """part_roles: whose contents the template reads as lists of parts, and not as strings.

    knows_developer: it writes a message of that role in another way than that of any role.
    loses_users: of what a user says it writes nothing, in either form, and does not fail.
    reads_text_arguments: it fails over arguments of past calls that are objects, and shows JSON.
    """

    part_roles: tuple[str, ...] = ()
    knows_developer: bool = False
    loses_users: bool = False
    reads_text_arguments: bool = False


def in_parts(message: Message) -> Message:
    """Return a message with its content as a list of one text part."""
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def with_text_arguments(message: Message) -> Message:
    """Return a message with the arguments of its calls as JSON."""
    calls = []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**message, "tool_calls": calls} if calls else message


def probe(render: Render) -> Traits:
    """Return what a template reads."""
    return _Prober(render).traits()


class _Prober:
    def __init__(self, render: Render) -> None:
        self._render = render
        self._part_roles: set[str] = set()

    def traits(self) -> Traits:
        """Find the form of each role; what is not to be seen is as for users."""
        user = self._form("user", lambda probe: [probe])
        if user is None:
            # Some templates want more than a question.
            before = [_said("user"), _said("assistant")]
            user = self._form("user", lambda probe: [*before, probe])
        loses_users = user is None and self._is_lost(_said("user", _WORD))
        if user:
            self._part_roles = {"user"}
        reads_text = self._reads_text_arguments()
        calling = self._calling()
        surroundings: dict[str, Callable[[Message], list[Message]]] = {
            "system": lambda probe: [probe, self._told("user")],
            "assistant": lambda probe: [self._told("user"), probe, self._told("user")],
            "tool": lambda probe: [
                self._told("user"),
                with_text_arguments(calling) if reads_text else calling,
                {**probe, "name": "qzcall", "tool_call_id": _CALL_ID},
            ],
        }
        found = {role: self._form(role, around) for role, around in surroundings.items()}
        forms = {role: bool(user) if form is None else form for role, form in found.items()}
        part_roles = [
            role for role, has_parts in {"user": bool(user), **forms}.items() if has_parts
        ]
        self._part_roles = set(part_roles)
        return Traits(tuple(part_roles), self._knows_developer(), loses_users, reads_text)

    def _calling(self) -> Message:
        """Return a message that calls, and shows a word in its arguments."""
        function = {"name": "qzcall", "arguments": {"qz": _WORD}}
        call = {"id": _CALL_ID, "type": "function", "function": function}
        return {**self._told("assistant"), "tool_calls": [call]}

    def _reads_text_arguments(self) -> bool:
        asked, calling = self._told("user"), self._calling()
        if self._render([asked, calling]) is not None:
            return False
        return self._shows([asked, with_text_arguments(calling)])

    def _form(self, role: str, around: Callable[[Message], list[Message]]) -> bool | None:
        """Return whether contents of a role are read as parts; None where nothing shows them."""
        message = _said(role, _WORD)
        if self._shows(around(message)):
            return False
        return True if self._shows(around(in_parts(message))) else None

    def _shows(self, messages: list[Message]) -> bool:
        return _WORD in (self._render(messages) or "").lower()

    def _is_lost(self, message: Message) -> bool:
        return self._render([message]) is not None

    def _knows_developer(self) -> bool:
        """Compare the role with one that no template knows: is more than the name different?"""
        developer, other = (
            self._render([self._told(role, _WORD), self._told("user")])
            for role in ("developer", _NO_ROLE)
        )
        if developer is None or _WORD not in developer.lower():
            return False
        return other is None or other.lower().replace(_NO_ROLE, "developer") != developer.lower()

    def _told(self, role: str, text: str = "a") -> Message:
        """Return a message in the form that its role is read in."""
        known = "system" if role in ("developer", _NO_ROLE) else role
        message = _said(role, text)
        return in_parts(message) if known in self._part_roles else message


def _said(role: str, text: str = "a") -> Message:
    return {"role": role, "content": text}
