"""What chunks of a completion hold besides text, over HTTP."""

from tests.gateway.completion_requests import (
    completed,
    scripted,
)


async def test_every_chunk_has_usage_when_asked() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    exchange = await completed(scripted(b"ok"), stream=True, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in exchange.chunks]
    assert counts == [1, 2, 2]
