"""What `unisono bench gateway` asks of a worker in each dialect, and what its events look like."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

_PROMPT = "Once upon a time"
_MESSAGES = [{"role": "user", "content": _PROMPT}]


@dataclass(frozen=True, slots=True)
class EventForm:
    """How the bytes of a stream are told apart.

    end: what every event ends with that counts, and nothing inside of one does. last: what only
    the last event contains.
    """

    end: bytes = b"}\n\n"
    last: re.Pattern[bytes] = re.compile(rb"\[DONE\]")


SERVER_SENT = EventForm()


@dataclass(frozen=True, slots=True)
class BenchDialect:
    """event: of a stream, with ids and times of the lengths that the worker's have.

    fields: of a request, beside the model, how it is answered and how long the answer may be; that
    is `limit`, in the object `limit_in` if it names one. whole_path: of answers that are no stream,
    where it is another.
    """

    path: str
    event: bytes
    fields: dict[str, Any]
    form: EventForm = SERVER_SENT
    limit: str = "max_tokens"
    limit_in: str = ""
    whole_path: str = ""

    def body(
        self,
        model: str,
        *,
        max_tokens: int,
        stream: bool,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> bytes:
        """Return the body of a request for so many tokens. more: of its fields."""
        limit: dict[str, Any] = {self.limit: max_tokens}
        if self.limit_in:
            limit = {self.limit_in: limit}
        fields = {"model": model, **limit, "stream": stream, **self.fields, **more}
        return msgspec.json.encode(fields)


DIALECTS = {
    "completions": BenchDialect(
        "/v1/completions",
        b'data: {"id":"cmpl-00000000000000000000000000000000","object":"text_completion",'
        b'"created":1795406945,"model":"bench","system_fingerprint":"fp_0000000000",'
        b'"choices":[{"text":" word","index":0,"logprobs":null,"finish_reason":null}]}\n\n',
        {"prompt": _PROMPT, "ignore_eos": True},
    ),
    "chat": BenchDialect(
        "/v1/chat/completions",
        b'data: {"id":"chatcmpl-00000000000000000000000000000000",'
        b'"object":"chat.completion.chunk","created":1795406945,"model":"bench",'
        b'"system_fingerprint":"fp_0000000000","choices":[{"index":0,'
        b'"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n',
        {"messages": _MESSAGES, "ignore_eos": True},
    ),
    "messages": BenchDialect(
        "/v1/messages",
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":" word"}}\n\n',
        {"messages": _MESSAGES},
        EventForm(last=re.compile(rb'"message_stop"')),
    ),
    "responses": BenchDialect(
        "/v1/responses",
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        b'"sequence_number":1000,"output_index":0,'
        b'"item_id":"msg_00000000000000000000000000000000","content_index":0,'
        b'"delta":" word","logprobs":[]}\n\n',
        {"input": _PROMPT},
        EventForm(last=re.compile(rb"event: response\.(completed|incomplete|failed)\n")),
        limit="max_output_tokens",
    ),
    "ollama": BenchDialect(
        "/api/chat",
        b'{"model":"bench","created_at":"2026-11-28T00:00:00.000000Z","done":false,'
        b'"message":{"role":"assistant","content":" word"}}\n',
        {"messages": _MESSAGES},
        EventForm(b"}\n", re.compile(rb'"done":true')),
        limit="num_predict",
        limit_in="options",
    ),
    "takeoff": BenchDialect(
        "/generate_stream",
        b"data: word\n\n",
        {"text": _PROMPT, "return_metadata": True},
        EventForm(b"\n\n", re.compile(rb"event: metadata")),
        limit="max_new_tokens",
        whole_path="/generate",
    ),
}
