"""Reads traces: who asked for what, and when. Two forms, told apart by their first character.

Mooncake's is JSON lines: `timestamp` in milliseconds, `input_length`, `output_length` in tokens and
`hash_ids`, one for each 512 tokens of the prompt, equal where prompts begin alike
(github.com/kvcache-ai/Mooncake). ShareGPT's is one JSON array of conversations: the first question
is the prompt, the first reply says how long the answer is; nothing says when.

What is missing is refused with its line: a load with holes is another load. Knows no server.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

# Tokens that one of Mooncake's hash_ids stands for.
HASHED_TOKENS = 512
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_ASKERS = ("human", "user")
_ANSWERERS = ("gpt", "chatgpt", "assistant", "bing", "bard")


class TraceError(ValueError):
    """A file is no whole trace. The message names it and the line at fault."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request. arrival_s: from the trace's beginning; None where it does not say.

    Of Mooncake's form num_prompt_tokens and block_ids, of ShareGPT's prompt and reply. line: where
    it stands in the file. num_output_tokens: 0 where the reply's text says it.
    """

    line: int
    arrival_s: float | None = None
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    block_ids: tuple[int, ...] = ()
    prompt: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """form: "Mooncake" or "ShareGPT". num_skipped: conversations without an answered question."""

    form: str
    requests: list[TraceRequest]
    num_skipped: int = 0

    @property
    def has_times(self) -> bool:
        return self.requests[0].arrival_s is not None


def read_trace(path: Path) -> Trace:
    """Read a file of either form. Raises TraceError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(f"{path} is no text in UTF-8: {error.reason}") from error
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from error
    first = text.lstrip()[:1]
    if first == "{":
        trace = Trace("Mooncake", list(_mooncake(path, text)))
    elif first == "[":
        trace = _share_gpt(path, text)
    else:
        raise TraceError(
            f"{path} is no trace: JSON lines as Mooncake has them, or ShareGPT's array, are"
        )
    if not trace.requests:
        raise TraceError(f"{path} has no request in it")
    return trace


class _MooncakeLine(msgspec.Struct):
    timestamp: Annotated[float, Meta(ge=0)]
    input_length: Annotated[int, Meta(ge=1)]
    output_length: Annotated[int, Meta(ge=1)]
    hash_ids: tuple[int, ...] = ()


def _mooncake(path: Path, text: str) -> Iterator[TraceRequest]:
    decoder = msgspec.json.Decoder(_MooncakeLine)
    begin_ms = last_ms = -1.0
    # Not splitlines(), which also splits at characters that JSON allows inside of strings.
    for number, line in enumerate(text.rstrip().split("\n"), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            raise TraceError(f"{where}: the line is empty")
        try:
            fields = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise TraceError(f"{where}: {_in_words(error)}") from error
        if fields.timestamp < last_ms:
            raise TraceError(
                f"{where}: timestamp {fields.timestamp:g} lies before that of the line above, "
                f"{last_ms:g}"
            )
        num_blocks = -(-fields.input_length // HASHED_TOKENS)
        if fields.hash_ids and len(fields.hash_ids) != num_blocks:
            raise TraceError(
                f"{where}: {len(fields.hash_ids)} hash_ids; {fields.input_length} tokens have "
                f"{num_blocks}, one for each {HASHED_TOKENS}"
            )
        last_ms = fields.timestamp
        begin_ms = last_ms if number == 1 else begin_ms
        yield TraceRequest(
            number,
            (fields.timestamp - begin_ms) / 1e3,
            fields.input_length,
            fields.output_length,
            fields.hash_ids,
        )


def _share_gpt(path: Path, text: str) -> Trace:
    requests: list[TraceRequest] = []
    num_skipped = 0
    for line, entry in _elements(path, text):
        where = f"{path}, line {line}"
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(turns, list):
            raise TraceError(f"{where}: the entry has no list of conversations")
        pair = _first_pair(where, turns)
        if pair is None:
            num_skipped += 1
        else:
            requests.append(TraceRequest(line, prompt=pair[0], reply=pair[1]))
    return Trace("ShareGPT", requests, num_skipped)


def _elements(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array, each with the line that it begins on."""
    decoder = json.JSONDecoder()
    position = _skip_blank(text, text.index("[") + 1)
    line, counted = 1, 0
    while not text.startswith("]", position):
        line += text.count("\n", counted, position)
        counted = position
        try:
            element, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise TraceError(f"{path}, line {error.lineno}: {error.msg}") from error
        except RecursionError:
            raise TraceError(f"{path}, line {line}: the entry is nested too deeply") from None
        except ValueError:  # what Python says of thousands of digits
            raise TraceError(f"{path}, line {line}: a number is too long") from None
        yield line, element
        position = _skip_blank(text, position)
        if text.startswith(",", position):
            position = _skip_blank(text, position + 1)
            if text.startswith("]", position):
                end = 1 + text.count("\n", 0, position)
                raise TraceError(f"{path}, line {end}: an entry is missing after the comma")
        elif not text.startswith("]", position):
            end = 1 + text.count("\n", 0, position)
            raise TraceError(f"{path}, line {end}: a comma or the end of the list is missing")


def _skip_blank(text: str, position: int) -> int:
    while text[position : position + 1].isspace():
        position += 1
    return position


def _first_pair(where: str, turns: list[Any]) -> tuple[str, str] | None:
    """Return the first question that the next turn answers, and its answer."""
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise TraceError(f"{where}: a turn of the conversation has no text as its value")
    for asked, answered in itertools.pairwise(turns):
        is_pair = asked.get("from") in _ASKERS and answered.get("from") in _ANSWERERS
        if is_pair and asked["value"].strip() and answered["value"].strip():
            return _sendable(asked["value"]), _sendable(answered["value"])
    return None


def _sendable(text: str) -> str:
    """Put U+FFFD for halves of surrogate pairs: texts that were cut to a length have them, UTF-8
    has none."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def _in_words(error: msgspec.DecodeError) -> str:
    """Say what is wrong with a line without the library's notation of paths."""
    words = str(error)
    if words.startswith("Object missing required field"):
        return words.replace("Object missing required field", "there is no field").replace("`", "")
    return words.replace(" - at `$.", ": ").replace("`", "")
