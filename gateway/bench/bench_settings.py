"""What `unisono bench` can be told. Declared like the server's settings; flags only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import Temperature
from gateway.client_key import KEY_DESCRIPTION


class BenchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server to load, the load, and where the figures go."""

    url: Annotated[str, Meta(min_length=1, description="root of the server's URL")] = (
        "http://127.0.0.1:8000"
    )
    model: Annotated[
        str, Meta(description="model to ask for (first of /v1/models if not given)")
    ] = ""
    api_key: Annotated[str, Meta(description=KEY_DESCRIPTION)] = ""
    concurrency: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=4096)], ...],
        Meta(min_length=1, description="levels: streams at once, separated by commas"),
    ] = (1, 4, 16, 64)
    requests: Annotated[
        int, Meta(ge=0, le=1_000_000, description="requests a level (0: 2 x streams, 4 at least)")
    ] = 0
    rounds: Annotated[
        int, Meta(ge=1, le=100, description="passes over all levels; figures are their medians")
    ] = 2
    prompt_tokens: Annotated[
        int, Meta(ge=1, le=1_000_000, description="length of every prompt, all distinct")
    ] = 128
    prompt_ids: Annotated[bool, Meta(description="send prompts as token ids instead of text")] = (
        False
    )
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000, description="tokens to generate")] = 128
    ignore_eos: Annotated[
        bool, Meta(description="ask for max-tokens even past an end of sequence")
    ] = True
    temperature: Annotated[Temperature, Meta(description="0 is greedy")] = 0.0
    extra: Annotated[
        str, Meta(description="JSON object merged into every request: '{\"top_p\": 0.9}'")
    ] = ""
    timeout_s: Annotated[
        float, Meta(ge=1, le=86_400, description="a stream not done by then has failed")
    ] = 900.0
    json: Annotated[str, Meta(description="file that gets every figure of every round")] = ""


class GatewayBenchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The load on a gateway worker, and where the figures go."""

    dialect: Annotated[
        Literal["completions", "chat", "messages"], Meta(description="what the clients speak")
    ] = "completions"
    streams: Annotated[int, Meta(ge=1, le=512, description="streams, or connections, at once")] = 64
    rate: Annotated[float, Meta(gt=0, le=1000, description="tokens a second of each stream")] = 25.0
    seconds: Annotated[float, Meta(ge=0.5, le=600, description="length of each measurement")] = 5.0
    rounds: Annotated[
        int, Meta(ge=1, le=100, description="measurements of each kind; figures are medians")
    ] = 5
    json: Annotated[str, Meta(description="file that gets every figure")] = ""
