"""What `unisono bench serve` and `bench gateway` can be told. Declared like the server's settings;
flags only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import Temperature
from gateway.client_key import KEY_DESCRIPTION

DEFAULT_LEVELS = (1, 4, 16, 64)
Levels = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=4096)], ...],
    Meta(
        description="closed loop: so many streams are kept open, a level each, separated by commas "
        f"({','.join(map(str, DEFAULT_LEVELS))} if nothing else says when requests come)"
    ),
]
Rates = Annotated[
    tuple[Annotated[float, Meta(gt=0, le=1e5)], ...],
    Meta(
        description="open loop: requests come by chance, so many a second on average (Poisson), "
        "whether or not others are answered"
    ),
]
Preset = Annotated[
    Literal["none", "takeoff", "chat"],
    Meta(
        description="a load by name, whose values other flags replace: takeoff is Table 3 of "
        "TitanML's article; chat has prompts of 512 tokens and limits of latency"
    ),
]
PromptTokens = Annotated[
    int, Meta(ge=1, le=1_000_000, description="length of every prompt, all distinct")
]
MaxTokens = Annotated[int, Meta(ge=1, le=1_000_000, description="tokens to generate")]
Extra = Annotated[
    str, Meta(description="JSON object merged into every request: '{\"top_p\": 0.9}'")
]
Timeout = Annotated[
    float, Meta(ge=1, le=86_400, description="a stream not done by then has failed")
]
Html = Annotated[str, Meta(description="file that gets the report as one page with plots")]
_LIMITS = {"group": "limits"}
TtftLimit = Annotated[
    float,
    Meta(
        ge=0,
        description="a good request has its first token within so many ms (0: any time)",
        extra=_LIMITS,
    ),
]
ItlLimit = Annotated[
    float,
    Meta(
        ge=0,
        description="a good request has at most so many ms between tokens on average (0: any)",
        extra=_LIMITS,
    ),
]
_ARRIVALS = {"group": "when requests come"}


class BenchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server to load, the load, and where the figures go."""

    url: Annotated[str, Meta(min_length=1, description="root of the server's URL")] = (
        "http://127.0.0.1:8000"
    )
    model: Annotated[
        str, Meta(description="model to ask for (first of /v1/models if not given)")
    ] = ""
    api_key: Annotated[str, Meta(description=KEY_DESCRIPTION)] = ""
    preset: Preset = "none"
    requests: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="requests a level (0: 2 x streams, 4 at least; rate x seconds; all of a "
            "trace)",
        ),
    ] = 0
    rounds: Annotated[
        int, Meta(ge=1, le=100, description="passes over all levels; figures are their medians")
    ] = 2
    prompt_tokens: PromptTokens = 128
    prompt_ids: Annotated[bool, Meta(description="send prompts as token ids instead of text")] = (
        False
    )
    max_tokens: MaxTokens = 128
    ignore_eos: Annotated[
        bool, Meta(description="ask for max-tokens even past an end of sequence")
    ] = True
    temperature: Annotated[Temperature, Meta(description="0 is greedy")] = 0.0
    extra: Extra = ""
    timeout_s: Timeout = 900.0
    concurrency: Annotated[Levels, Meta(extra=_ARRIVALS)] = ()
    rate: Annotated[Rates, Meta(extra=_ARRIVALS)] = ()
    seconds: Annotated[
        float,
        Meta(ge=1, le=86_400, description="how long requests come at a rate", extra=_ARRIVALS),
    ] = 30.0
    trace: Annotated[
        str,
        Meta(
            description="file of requests: Mooncake's JSON lines, whose times are kept unless "
            "--rate or --concurrency says otherwise, or ShareGPT's JSON",
            extra=_ARRIVALS,
        ),
    ] = ""
    speed: Annotated[
        float,
        Meta(gt=0, le=1e6, description="a trace's times pass so much faster", extra=_ARRIVALS),
    ] = 1.0
    length_scale: Annotated[
        float,
        Meta(gt=0, le=100, description="a Mooncake trace's lengths times this", extra=_ARRIVALS),
    ] = 1.0
    seed: Annotated[int, Meta(ge=0, description="of the times at a rate", extra=_ARRIVALS)] = 0
    ttft_limit_ms: TtftLimit = 0.0
    itl_limit_ms: ItlLimit = 0.0
    json: Annotated[str, Meta(description="file that gets every figure of every round")] = ""
    html: Html = ""

    @property
    def levels(self) -> tuple[int, ...]:
        """Streams at once, of each level of a closed loop."""
        return self.concurrency or DEFAULT_LEVELS


class GatewayBenchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The load on a gateway worker, and where the figures go."""

    dialect: Annotated[
        Literal["completions", "chat", "messages", "responses", "ollama", "takeoff"],
        Meta(description="what the clients speak"),
    ] = "completions"
    writes: Annotated[
        Literal["plain", "text", "thought", "arguments"],
        Meta(
            description="what the engine writes: plain text, or text, a thought or a call's "
            "arguments that a parser follows"
        ),
    ] = "plain"
    streams: Annotated[int, Meta(ge=1, le=512, description="streams, or connections, at once")] = 64
    rate: Annotated[float, Meta(gt=0, le=1000, description="tokens a second of each stream")] = 25.0
    seconds: Annotated[float, Meta(ge=0.5, le=600, description="length of each measurement")] = 5.0
    rounds: Annotated[
        int, Meta(ge=1, le=100, description="measurements of each kind; figures are medians")
    ] = 5
    json: Annotated[str, Meta(description="file that gets every figure")] = ""
