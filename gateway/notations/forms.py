"""What the forms of a notation mean: literal text and slots, ready to be matched.

White space in a form is what a template shows; when a text is read any amount of it may stand
there, or none. Called by whoever reads or writes calls.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from gateway.notations.notation import CallForm

_SLOT = re.compile(r"\{([a-z]+)\}")
# A mark in brackets is a word of its own: white space may follow it.
_WORD = re.compile(r"[^\s>\]]*[>\]]+|[^\s>\]]+")
_KINDS = ("string", "type")
_CONTENTS = ("arguments", "object", "parameters", "keywords")


class FormError(ValueError):
    """A form that means nothing. field: which of the notation's; the message goes on from it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Words:
    """Literal text. text: as it is written; words: its parts between white space."""

    text: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for what differs from call to call."""

    kind: str


Element = Words | Slot


@dataclass(frozen=True)
class ParameterForm:
    """One parameter: words before its key, between key and value, and after the value.

    kind: "string" or "type" where the notation says what a value is, between the words `between`
    and `before_value`; "" where it does not, and the value follows the former.
    after_key: where the key comes again between `after` and these words: such values nest.
    """

    before: Words
    between: Words
    after: Words
    kind: str = ""
    before_value: Words = Words("", ())
    after_key: Words | None = None

    @property
    def trims_start(self) -> bool:
        """Whether a line break before the value is not part of it."""
        return (self.before_value if self.kind else self.between).text.endswith("\n")

    @property
    def trims_end(self) -> bool:
        """Whether a line break after the value is not part of it."""
        return self.after.text.startswith("\n")


@dataclass(frozen=True)
class CompiledForm:
    """A way to write calls. section_open, section_close: the words around all of them.

    head: what precedes the arguments in a call; content: the slot that they fill; tail: the rest.
    """

    form: CallForm
    section_open: Words
    section_close: Words
    head: tuple[Element, ...]
    content: str
    tail: Words
    parameter: ParameterForm | None

    @cached_property
    def first_head(self) -> tuple[Element, ...]:
        """What precedes the arguments of the first call of a section."""
        return (self.section_open, *self.head) if self.section_open.words else self.head

    @cached_property
    def opening_words(self) -> tuple[str, ...]:
        """Words by which the form is known to begin; none for one that is not marked."""
        if self.form.is_unmarked:
            return ()
        heads = [self.first_head, self.head]
        firsts = [head[0].words[0] for head in heads if head and isinstance(head[0], Words)]
        # A brace alone marks nothing: calls of a section without a mark of their own.
        return tuple(dict.fromkeys(word for word in firsts if len(word) > 1))

    @cached_property
    def separator(self) -> str:
        """What stands between two calls, without white space."""
        return self.form.separator.strip()


def compile_form(form: CallForm) -> CompiledForm:
    """Return a form ready to be matched. Raises FormError."""
    before, after = _around(form.section, "calls", "section", form.tag_prefix)
    elements = _elements(form.call, "call", form.tag_prefix)
    contents = [n for n, e in enumerate(elements) if isinstance(e, Slot) and e.kind in _CONTENTS]
    names = [e for e in elements if isinstance(e, Slot) and e.kind == "name"]
    if len(contents) != 1:
        known = ", ".join(f"{{{kind}}}" for kind in _CONTENTS)
        raise FormError("call", f"must have exactly one of {known}")
    [at] = contents
    slot = elements[at]
    content = slot.kind if isinstance(slot, Slot) else ""
    if (content == "object") == bool(names) or len(names) > 1:
        raise FormError("call", "must have one {name}, or an {object} which has the name in it")
    rest = elements[at + 1 :]
    if any(isinstance(element, Slot) for element in rest):
        raise FormError("call", "must not have a slot after that of the arguments")
    tail = rest[0] if rest and isinstance(rest[0], Words) else Words("", ())
    parameter = _parameter(form.parameter, form.tag_prefix) if form.parameter else None
    if (content == "parameters") != (parameter is not None):
        raise FormError("parameter", "belongs to a call with {parameters}, and to no other")
    if content == "parameters" and not tail.words:
        raise FormError("call", "must have a mark after {parameters}")
    compiled = CompiledForm(form, before, after, tuple(elements[:at]), content, tail, parameter)
    if not compiled.opening_words and not form.is_unmarked:
        raise FormError("call", "has no mark that it begins with, so it must be `is_unmarked`")
    return compiled


def written(text: str, tag_prefix: str) -> Words:
    """Return literal text as words. tag_prefix: what begins a word and is no word by itself."""
    if not tag_prefix:
        return Words(text, tuple(_WORD.findall(text)))
    word = re.compile(f"(?:{re.escape(tag_prefix)})?(?:{_WORD.pattern})")
    return Words(text, tuple(word.findall(text)))


def _elements(form: str, field: str, tag_prefix: str) -> list[Element]:
    elements: list[Element] = []
    position = 0
    for slot in _SLOT.finditer(form):
        if slot[1] not in (*_CONTENTS, "name", "index", "ignored"):
            raise FormError(field, f"has an unknown slot {slot[0]}")
        if literal := form[position : slot.start()]:
            elements.append(written(literal, tag_prefix))
        elements.append(Slot(slot[1]))
        position = slot.end()
    if literal := form[position:]:
        elements.append(written(literal, tag_prefix))
    return elements


def _around(form: str, slot: str, field: str, tag_prefix: str) -> tuple[Words, Words]:
    before, found, after = form.partition(f"{{{slot}}}")
    if not found:
        raise FormError(field, f"must have {{{slot}}} in it")
    return written(before, tag_prefix), written(after, tag_prefix)


def _parameter(form: str, tag_prefix: str) -> ParameterForm:
    before, rest = form.partition("{key}")[::2]
    between, after = rest.partition("{value}")[::2]
    kind = next((name for name in _KINDS if f"{{{name}}}" in between), "")
    between, _, before_value = between.partition(f"{{{kind}}}") if kind else (between, "", "")
    after, is_nested, after_key = after.partition("{key}")
    texts = [before, between, after, before_value, after_key]
    opening, middle, closing, prelude, end = (written(text, tag_prefix) for text in texts)
    has_marks = bool(opening.words and middle.words and closing.words)
    if not has_marks or (kind and not prelude.words):
        raise FormError("parameter", "must have {key} and {value}, and marks around each")
    if unknown := _SLOT.search(" ".join(texts)):
        raise FormError("parameter", f"has an unknown slot {unknown[0]}")
    if is_nested and (kind or not end.words):
        raise FormError("parameter", "must have a mark after the second {key}, and says no types")
    return ParameterForm(opening, middle, closing, kind, prelude, end if is_nested else None)
