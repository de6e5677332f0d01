"""How a family of models writes tool calls and thoughts, as data.

Shapes of a notation's file only: what the parts of a form mean is forms.py's. Notations that come
with the server are the files in builtin/; an operator may give another.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

Mark = Annotated[str, Meta(min_length=1, max_length=256)]
Form = Annotated[str, Meta(min_length=1, max_length=1024)]


class CallForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to write calls. Spaces and line breaks in forms may be any, or none, when read.

    call: one call, with {name} and one of {arguments} (a JSON object), {parameters} (each as
    `parameter` says) and {keywords} (as in Python's calls), or {object}, which is JSON and has both
    the name and the arguments. {index} is a number of the call, {ignored} is text up to what
    follows it, or ten letters and digits where a call is demanded.
    section: what stands around all calls, with {calls} in it. separator: what stands between two.
    parameter: one parameter, with {key} and {value}; strings stand bare, other values as JSON.
    Between the two may stand {string}, which is `true` or `false`, or {type}, a type of JSON.
    With {key} behind {value} as well, values nest: objects and lists are written in the same form.
    item_key: what is said for {key} of a list's items, where values nest.
    tag_prefix: what stands before every tag, and is a part of it.
    has_cdata: a value may stand in XML's <![CDATA[ and ]]>.
    name_key, arguments_key: what members of {object} are called when a call is demanded; whoever
    reads one knows `arguments` and `parameters`.
    string_mark: what stands around strings in {arguments} instead of quotation marks.
    bare_keys: keys in {arguments} have no marks around them, and are in alphabetic order.
    is_unmarked: nothing tells a call from a text but its form: it is one at the beginning of an
    answer only, and of a tool that the model was told of.
    known_only: it is one only of a tool that the model was told of.
    """

    call: Form
    section: Form = "{calls}"
    separator: str = ""
    parameter: str = ""
    item_key: Mark = "item"
    tag_prefix: str = ""
    has_cdata: bool = False
    name_key: Mark = "name"
    arguments_key: Mark = "arguments"
    string_mark: str = ""
    bare_keys: bool = False
    is_unmarked: bool = False
    known_only: bool = False


class MessagesForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer in several messages, each with a header that says what it is.

    open: what begins a header. header_end: what ends it and begins the body. close: what ends that.
    call: a regular expression that finds the group `name` in the header of a call, whose body is
    its arguments. reasoning: one that is found in headers of thoughts; other messages are text.
    written_call: the form of a call that follows an earlier message, or that begins an answer.
    written_text, written_reasoning: the headers of these, as they begin an answer.
    next_message: what stands before those that do not begin an answer. Where there are forms of
    calls as well, bodies have calls in them, and {arguments} stands for one.
    """

    open: Annotated[tuple[Mark, ...], Meta(min_length=1)]
    header_end: Mark
    close: Annotated[tuple[Mark, ...], Meta(min_length=1)]
    call: Form
    reasoning: Form
    written_call: Form
    written_text: Form
    written_reasoning: Form
    next_message: Form
    marks: tuple[Mark, ...] = ()


class ReasoningForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thoughts between two marks. starts_open: they begin an answer without the first."""

    open: Mark
    close: Mark
    starts_open: bool = False


class Notation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A family's way to write. Either part may be missing.

    calls: the ways to write calls; a call that is demanded is written in the first.
    ignored: marks that are not part of the text. text_opening: what begins an answer that is text,
    and is no part of it. id_length: of a call's id of letters and digits; 0
    for ids as OpenAI's. id_form: of a call's id that says which it is, with {name} and {index}.
    detect: texts of a chat template that has this notation: all of any row.
    detect_reasoning: the same for its reasoning.
    """

    calls: tuple[CallForm, ...] = ()
    messages: MessagesForm | None = None
    reasoning: ReasoningForm | None = None
    ignored: tuple[Mark, ...] = ()
    text_opening: Annotated[str, Meta(max_length=64)] = ""
    id_length: Annotated[int, Meta(ge=0, le=64)] = 0
    id_form: Annotated[str, Meta(max_length=64)] = ""
    detect: tuple[tuple[Mark, ...], ...] = ()
    detect_reasoning: tuple[tuple[Mark, ...], ...] = ()
