"""What `unisono tune` can be told. Declared like the server's settings; flags only."""

from typing import Annotated

import msgspec
from msgspec import Meta

from backend.wire.sampling import Temperature
from gateway.bench.bench_settings import Extra, MaxTokens, Preset, PromptTokens
from gateway.tuning.trial import Goal

_OBJECTIVE = {"group": "objective"}
_FILES = {"group": "files"}


class TuneSettings(msgspec.Struct, frozen=True):
    """The load, what is wanted of it, what may be changed, and where results go."""

    preset: Preset = "none"
    load: Annotated[
        str, Meta(description="trace to replay instead: Mooncake's JSON lines or ShareGPT's JSON")
    ] = ""
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="streams at once")] = 16
    requests: Annotated[
        int, Meta(ge=0, description="requests a trial (0: 2 x streams, 4 at least; all of a trace)")
    ] = 0
    prompt_tokens: PromptTokens = 128
    max_tokens: MaxTokens = 128
    temperature: Annotated[Temperature, Meta(description="0 is greedy")] = 0.0
    extra: Extra = ""
    objective: Annotated[
        Goal, Meta(description="most tokens/s, or the shortest request", extra=_OBJECTIVE)
    ] = "throughput"
    max_ttft_ms: Annotated[
        float,
        Meta(ge=0, description="99 % of first tokens must come sooner (0: any)", extra=_OBJECTIVE),
    ] = 0.0
    max_itl_ms: Annotated[
        float,
        Meta(
            ge=0,
            description="99 % of gaps between tokens must be shorter (0: any)",
            extra=_OBJECTIVE,
        ),
    ] = 0.0
    max_loss: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="what rounding may cost, in percent of perplexity of the model's own text "
            "(0: nothing is rounded that the file has not rounded)",
            extra=_OBJECTIVE,
        ),
    ] = 0.0
    devices: Annotated[
        str,
        Meta(description="where it is to serve: cpu, or cuda for this machine's GPUs"),
    ] = "cpu"
    max_model_len: Annotated[
        int, Meta(ge=0, description="longest prompt + completion to serve (0: the model's)")
    ] = 0
    minutes: Annotated[
        float, Meta(gt=0, le=10_000, description="time for trials; then the best so far is it")
    ] = 15.0
    out: Annotated[
        str, Meta(min_length=1, description="file of settings that is written", extra=_FILES)
    ] = "tuned.toml"
    results: Annotated[
        str,
        Meta(
            description="file that keeps every trial, to go on from (--out with .trials)",
            extra=_FILES,
        ),
    ] = ""
    html: Annotated[
        str, Meta(description="file that gets the report as one page with plots", extra=_FILES)
    ] = ""
