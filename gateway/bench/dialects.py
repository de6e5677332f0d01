"""What `unisono bench gateway` asks of a worker in each dialect, and what its events look like."""

from dataclasses import dataclass
from typing import Any

import msgspec

_PROMPT = "Once upon a time"
_MESSAGES = [{"role": "user", "content": _PROMPT}]


@dataclass(frozen=True, slots=True)
class BenchDialect:
    """event: of a stream, with ids and times of the lengths that the worker's have.

    fields: of a request, beside the model and how it is answered.
    """

    path: str
    event: bytes
    fields: dict[str, Any]

    def body(self, model: str, *, max_tokens: int, stream: bool) -> bytes:
        """Return the body of a request for so many tokens."""
        common = {"model": model, "max_tokens": max_tokens, "stream": stream}
        return msgspec.json.encode({**common, **self.fields})


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
    ),
}
