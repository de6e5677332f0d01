"""Reads what precedes the arguments of a call: is it a call, of which tool, or is more needed?

Called by the parser, with all that came since the mark.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from gateway.notations.arguments import JsonReader
from gateway.notations.forms import CompiledForm, Element, Words

# A name has 64 characters at most, marks and white space a few more.
MAX_HEAD_CHARS = 1024

# It matches all that precedes the arguments, in the order that all templates show; another order
# is read too, but only once the call is complete.
_OBJECT_HEAD = re.compile(
    r'\{\s*"(?:name|function)"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,'
    r'\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_OBJECT_BEGINNING = re.compile(r'\{\s*"name"\s*:\s*"(?P<name>[^"]*)')
# How a call without marks may begin; Llama 3.1 writes a type in front at times.
_OBJECT_WORDS = (("{", '"name"', ":", '"'), ("{", '"type"', ":", '"function"', ","))
_NAME = re.compile(r"[\w./-]+")
_INDEX = re.compile(r"\d+")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Begun:
    """A call has begun. end: where its arguments begin in the text.

    arguments: all of them, where the call was complete already; is_inside: the arguments are a part
    of an object which goes on after them. index: the number that the model gave the call.
    """

    name: str
    end: int
    arguments: str | None = None
    is_inside: bool = False
    index: str = ""


Outcome = Begun | Literal["more", "none"]


class HeadMatcher:
    """One form, at one place where it may begin."""

    def __init__(
        self, form: CompiledForm, elements: tuple[Element, ...], known: Collection[str] | None
    ) -> None:
        """elements: what precedes the arguments here. known: the only tools it may be of."""
        self.form = form
        self._elements = elements
        self._known = known
        self._object: JsonReader | None = None
        self._object_start = 0
        self._num_scanned = 0
        self._index = ""

    def match(self, text: str) -> Outcome:
        """Say what a text begins with: all that came since the place."""
        outcome = self._match(text)
        if self._known is None or outcome == "none":
            return outcome
        if isinstance(outcome, Begun):
            return outcome if outcome.name in self._known else "none"
        if self.form.form.is_unmarked and not self._may_be_known(text, self._known):
            return "none"
        return outcome

    def _may_be_known(self, text: str, known: Collection[str]) -> bool:
        """Whether a text without marks that may become a call may become one of a known tool.

        Otherwise it is text, and nobody has to wait for its end.
        """
        if self._object is None:
            names = _NAME.findall(text)
            return not names or any(name.startswith(names[-1]) for name in known)
        ways = [match_words(words, text, self._object_start) for words in _OBJECT_WORDS]
        found = _OBJECT_BEGINNING.match(text, self._object_start)
        if found is None:
            return any(way != -1 for way in ways)
        name, is_complete = found["name"], found.end() < len(text)
        return name in known if is_complete else any(n.startswith(name) for n in known)

    def _match(self, text: str) -> Outcome:
        if self._object is not None:
            return self._match_object(text)
        position, name = 0, ""
        self._index = ""
        for number, element in enumerate(self._elements):
            if isinstance(element, Words):
                end = match_words(element.words, text, position)
            elif element.kind == "name":
                end, name = _match_word(_NAME, text, position)
                if not self._is_known(name, is_whole=end is not None):
                    return "none"
            elif element.kind == "index":
                end, self._index = _match_word(_INDEX, text, position)
            else:
                end = self._end_of_ignored(number, text, position)
            if end is None:
                return "more" if len(text) <= MAX_HEAD_CHARS else "none"
            if end < 0:
                return "none"
            position = end
        return self._match_content(text, position, name)

    def _is_known(self, name: str, *, is_whole: bool) -> bool:
        """Whether a name, or what begins with this, may be called."""
        if self._known is None:
            return True
        return name in self._known if is_whole else any(n.startswith(name) for n in self._known)

    def _end_of_ignored(self, number: int, text: str, position: int) -> int | None:
        following = self._elements[number + 1] if number + 1 < len(self._elements) else None
        word = following.words[0] if isinstance(following, Words) else "{"
        at = text.find(word, position)
        return at if at >= 0 else None

    def _match_content(self, text: str, position: int, name: str) -> Outcome:
        start = _skip_space(text, position)
        if self.form.content == "keywords":
            return Begun(name, position, index=self._index)
        if start == len(text):
            return "more" if len(text) <= MAX_HEAD_CHARS else "none"
        if self.form.content == "parameters":
            return self._match_parameters(text, position, name)
        if text[start] != "{":
            return "none"
        if self.form.content == "arguments":
            return Begun(name, start, index=self._index)
        self._object, self._object_start, self._num_scanned = JsonReader(), start, start
        return self._match_object(text)

    def _match_parameters(self, text: str, position: int, name: str) -> Outcome:
        assert self.form.parameter is not None
        for words in (self.form.parameter.before, self.form.tail):
            end = match_words(words.words[:1], text, position)
            if end is None:
                return "more"
            if end >= 0:
                return Begun(name, position, index=self._index)
        return "none"

    def _match_object(self, text: str) -> Outcome:
        assert self._object is not None
        start = self._object_start
        if self._num_scanned <= MAX_HEAD_CHARS:
            head = _OBJECT_HEAD.match(text, start)
            if head is not None and isinstance(name := _decoded(head["name"]), str):
                return Begun(name, head.end(), is_inside=True)
        self._num_scanned += self._object.end(text[self._num_scanned :])
        if not self._object.is_complete:
            return "more"
        call = _decoded(text[start : self._num_scanned])
        if not isinstance(call, dict):
            return "none"
        if isinstance(call.get("function"), dict):
            call = call["function"]
        name = call.get("name", call.get("function"))
        if not isinstance(name, str):
            return "none"
        arguments = call.get("arguments", call.get("parameters"))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments or {}, ensure_ascii=False)
        return Begun(name, self._num_scanned, arguments)


def match_words(words: tuple[str, ...], text: str, position: int) -> int | None:
    """Return where words end in a text, white space before each; -1 if they are not there.

    None if more text is needed to tell.
    """
    for word in words:
        start = _skip_space(text, position)
        if text.startswith(word, start):
            position = start + len(word)
        elif word.startswith(text[start:]):
            return None
        else:
            return -1
    return position


def _match_word(pattern: re.Pattern[str], text: str, position: int) -> tuple[int | None, str]:
    """Return where a name or number ends, and itself; None and -1 as in match_words()."""
    start = _skip_space(text, position)
    found = pattern.match(text, start)
    if found is None:
        return (None if start == len(text) else -1), ""
    return (None if found.end() == len(text) else found.end()), found[0]


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
