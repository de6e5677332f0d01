"""Splits what a model writes into text, thoughts and calls, while it arrives.

Follows a notation that is data, in time linear in the text; how the text was cut into deltas does
not change what comes out. Knows no tokens, no dialect and no HTTP. One OutputParser a choice.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    PlainKind,
    ReasoningDelta,
    TextDelta,
)
from gateway.notations.argument_readers import reader_of
from gateway.notations.arguments import ArgumentReader, JsonReader
from gateway.notations.call_events import CallEvents
from gateway.notations.call_rest import CallRest
from gateway.notations.call_search import CallSearch, Found
from gateway.notations.compiled import CompiledNotation
from gateway.notations.forms import CompiledForm
from gateway.notations.heads import Begun
from gateway.notations.joined_events import joined
from gateway.notations.marks import Fits
from gateway.notations.messages import MessageReader
from gateway.notations.region_marks import finders_of
from gateway.notations.regions import Region


class OutputParser:
    """The text of one choice, split.

    White space around calls and thoughts is dropped. A block that is no call stays text; of a call
    that is cut short nothing is text.
    is_cut: the last call is not complete.
    """

    def __init__(
        self,
        notation: CompiledNotation,
        *,
        tools: Mapping[str, Mapping[str, Any] | None] | None = None,
        is_thinking: bool = False,
        is_continued: bool = False,
        allows_parallel: bool = True,
        hidden: frozenset[str] = frozenset(),
        tracks_offsets: bool = False,
    ) -> None:
        """tools: schemas of the arguments by name; None where a call is not looked for.

        is_thinking: the prompt ends within a thought. is_continued: or within what is said.
        allows_parallel: without it, calls after the
        first are dropped. hidden: marks that are never text, since they are special tokens.
        tracks_offsets: text is told with where it begins.
        """
        self.is_cut = False
        self._notation = notation
        self._tools = tools
        self._hidden = hidden | frozenset(notation.ignored)
        self._events: list[AnswerEvent] = []
        self._calls = CallEvents(
            lambda event: self._events.append(event),
            allows_parallel=allows_parallel,
            id_length=notation.id_length,
            id_form=notation.id_form,
        )
        self._text = Region(self._told, keeps_space=True)
        self._thought = Region(self._thought_of, keeps_space=False)
        self._region = self._text
        self._held = ""
        self._num_pushed = 0  # characters, what is held included
        self._tracks_offsets = tracks_offsets
        self._passing: Fits | None = None  # of what pass_on() takes; and what that is
        self._passing_kind: PlainKind = TextDelta
        self._is_final = False
        self._forms = notation.forms if tools is not None else ()
        self._finders = finders_of(notation, self._forms, self._hidden)
        self._search = CallSearch(self._forms, tools)
        self._tries_unmarked = self._search.has_unmarked
        self._reader: ArgumentReader | None = None
        self._rest = CallRest(None)  # of the last call
        self._state: Callable[[], bool] = self._read_region
        self._messages: MessageReader | None = None
        if notation.messages is not None:
            self._messages = MessageReader(notation.messages)
            if not is_continued:
                self._state = self._read_first_header
        if notation.text_opening and not is_continued:
            self._state = self._read_text_opening
        if is_thinking or (notation.reasoning is not None and notation.reasoning.starts_open):
            self._enter(self._thought)
            self._state = self._read_region

    @property
    def num_calls(self) -> int:
        """Calls that are complete."""
        return self._calls.num_complete

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next belongs to a thought."""
        return self._region is self._thought

    def push(self, text: str) -> list[AnswerEvent]:
        """Take more text; return what is certain."""
        self._num_pushed += len(text)
        self._held += text
        return self._advance()

    def pass_on(self, text: str) -> PlainKind | None:
        """Take text of which all is certain to be of one kind; return that, else None, taking none.

        push() would do the same, in five times the time: most tokens end here. None where offsets
        are tracked.
        """
        fits = self._passing
        return None if fits is None or fits(text) is None else self._passing_kind

    def flush(self, *, is_cut: bool = False) -> list[AnswerEvent]:
        """Return what was held back: no more text will come. is_cut: the model would have gone on;
        what may have been the beginning of a mark is dropped then."""
        if is_cut:
            self._drop_beginning()
        self._is_final = True
        events = self._advance()
        self.is_cut |= self._reader is not None or self._state == self._read_head
        self._region.finish(is_blank=self._calls.num_begun > 0 or self.is_thinking)
        return joined(events + self._taken())

    def _advance(self) -> list[AnswerEvent]:
        while self._state():
            pass
        self._passing = self._new_passing()
        return self._taken()

    def _new_passing(self) -> Fits | None:
        """Return what fits texts that pass_on() takes until push() is asked again."""
        if self._held or self._tracks_offsets:
            return None
        if self._reader is not None:
            self._passing_kind = ArgumentsDelta
            # Calls that are not told have no arguments, either.
            return self._reader.passing if self._calls.is_told else None
        is_open = self._state == self._read_region and not self._tries_unmarked
        if not is_open or not self._region.flows:
            return None
        self._passing_kind = ReasoningDelta if self.is_thinking else TextDelta
        return self._finders[self.is_thinking].flowing

    def _taken(self) -> list[AnswerEvent]:
        events, self._events = self._events, []
        return joined(events)

    def _write(self, text: str, num_behind: int) -> None:
        """Pass text on. num_behind: characters from its beginning to the end of all that came."""
        self._region.write(text, self._num_pushed - num_behind)

    def _told(self, text: str, start: int) -> None:
        self._events.append(TextDelta(text, start if self._tracks_offsets else -1))

    def _thought_of(self, text: str, start: int) -> None:
        self._events.append(ReasoningDelta(text))

    # Text and thoughts.

    def _read_text_opening(self) -> bool:
        """Drop what stands before a text."""
        opening, held = self._notation.text_opening, self._held
        if opening.startswith(held) and held != opening and not self._is_final:
            return False
        if held.startswith(opening):
            self._held = held[len(opening) :]
            self._tries_unmarked = False
        self._state = self._read_region
        return True

    def _read_region(self) -> bool:
        if self._tries_unmarked and not self.is_thinking:
            match self._read_unmarked():
                case "begun":
                    return True
                case "more":
                    return False
        at, mark = self._finders[self.is_thinking].find(self._held, final=self._is_final)
        self._write(self._held[:at], len(self._held))
        if not mark:
            self._held = self._held[at:]
            return False
        self._held = self._held[at:]
        self._obey(mark)
        return True

    def _obey(self, mark: str) -> None:
        """Do what a mark means, which the held text begins with."""
        reasoning = self._notation.reasoning
        if reasoning is not None and mark == (
            reasoning.close if self.is_thinking else reasoning.open
        ):
            if self.is_thinking:
                self._enter(self._text)
            elif not self._text.is_blank and mark not in self._hidden:
                self._write(mark, len(self._held))
            else:
                self._enter(self._thought)
            self._held = self._held[len(mark) :]
        elif self._search.begin_at(mark, is_thinking=self.is_thinking):
            self._state = self._read_head
        elif self._messages is not None and mark in self._messages.form.open:
            self._state = self._read_header
        else:
            self._held = self._held[len(mark) :]
            if self._messages is not None and mark in self._messages.form.close:
                self._enter(self._text)
                self._state = self._read_header
            elif mark not in self._hidden:
                self._write(mark, len(self._held) + len(mark))

    def _enter(self, region: Region) -> None:
        self._region.leave()
        self._region = region
        region.enter()
        self._tries_unmarked = self._search.has_unmarked

    # The beginning of a call.

    def _read_unmarked(self) -> str:
        """Look for calls that nothing marks, where text would begin; see _match_heads()."""
        start = len(self._held) - len(self._held.lstrip())
        if start == len(self._held):
            return "none" if self._is_final else "more"
        self._search.begin_unmarked()
        outcome = self._match_heads(self._held[start:], start)
        if outcome == "more" and self._is_final:
            self._search.give_up()
            outcome = "none"
        if outcome == "none":
            self._tries_unmarked = False
        return outcome

    def _read_head(self) -> bool:
        outcome = self._match_heads(self._held, 0)
        if outcome == "none":
            mark = self._search.mark
            self._state = self._read_region
            self._held = self._held[len(mark) :]
            shown = mark
            while hidden := next((h for h in self._hidden if shown.startswith(h)), ""):
                shown = shown[len(hidden) :]
            self._write(shown, len(self._held) + len(shown))
        return outcome != "more"

    def _match_heads(self, text: str, start: int) -> str:
        """Begin the call that a text is the head of; say "more" or "none" if it is not yet one."""
        outcome = self._search.match(text)
        if not isinstance(outcome, Found):
            return outcome
        self._held = self._held[start + outcome.begun.end :]
        self._begin(outcome.form, outcome.begun)
        return "begun"

    def _drop_beginning(self) -> None:
        """Drop what may be the beginning of a mark: the model would have gone on."""
        at = 0  # in other states all that is held may be one
        if self._state == self._read_region and not self._search.is_open:
            at, _ = self._finders[self.is_thinking].find(self._held)
        if self._state == self._read_head:
            self.is_cut = True
        if self._state != self._read_arguments:
            self._held = self._held[:at]

    def _begin(self, form: CompiledForm, begun: Begun) -> None:
        self._region.drop_space()
        self._tries_unmarked = form.form.is_unmarked
        self._calls.begin(begun.name, begun.index)
        self._rest = CallRest(form, JsonReader(depth=1) if begun.is_inside else None)
        if begun.arguments is not None:
            self._reader = JsonReader()
            self._calls.arguments(begun.arguments)
            self._end_arguments()
            return
        self._reader = reader_of(form, (self._tools or {}).get(begun.name))
        self._state = self._read_arguments

    # The rest of a call.

    def _read_arguments(self) -> bool:
        assert self._reader is not None
        arguments, length = self._reader.read(self._held)
        self._held = self._held[length:]
        self._calls.arguments(arguments)
        if not self._reader.is_complete:
            return False
        self._end_arguments()
        return True

    def _end_arguments(self) -> None:
        self._calls.end()
        self._reader = None
        self._state = self._read_rest

    def _read_rest(self) -> bool:
        """Pass what belongs to a call after its arguments."""
        length, outcome = self._rest.read(self._held, final=self._is_final)
        self._held = self._held[length:]
        match outcome:
            case "more":
                return False
            case "header":
                self._state = self._read_header
            case "text":
                self._state = self._read_region
            case "call":
                self._state = self._read_next
        return True

    def _read_next(self) -> bool:
        """Begin the next call of a section; without one the section has ended."""
        assert self._rest.form is not None
        start = len(self._held) - len(self._held.lstrip())
        self._search.begin_after(self._rest.form)
        outcome = self._match_heads(self._held[start:], start)
        if outcome == "none":
            has_opening = bool(self._notation.text_opening)
            self._state = self._read_text_opening if has_opening else self._read_region
        return outcome != "more"

    # Answers in messages.

    def _read_first_header(self) -> bool:
        """See whether an answer is written in messages at all."""
        assert self._messages is not None
        match self._messages.begins(self._held):
            case None if not self._is_final:
                return False
            case True:
                self._state = self._read_header
            case _:
                self._state = self._read_region
        return True

    def _read_header(self) -> bool:
        assert self._messages is not None
        header, length = self._messages.read_header(self._held)
        self._held = self._held[length:]
        if header is None:
            return False
        name = self._messages.called(header)
        if name is not None and self._tools is not None:
            self._begin_message_call(name)
        else:
            is_thought = name is not None or self._messages.is_reasoning(header)
            self._enter(self._thought if is_thought else self._text)
            self._state = self._read_region
        return True

    def _begin_message_call(self, name: str) -> None:
        self._enter(self._text)
        self._text.drop_space()
        self._calls.begin(name)
        self._reader, self._rest = JsonReader(), CallRest(None)
        self._state = self._read_arguments
