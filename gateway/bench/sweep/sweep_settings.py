"""What `unisono bench sweep` can be told. Lists are the axes of its grid; flags only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from backend.wire.sampling import Temperature
from gateway.bench.bench_settings import (
    DEFAULT_LEVELS,
    Extra,
    Html,
    MaxTokens,
    Preset,
    PromptTokens,
    Timeout,
)

_GRID = {"group": "grid: one server for each combination"}
_LOAD = {"group": "load"}


class SweepSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The layouts to start, the load on each, and where the figures go."""

    model: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="models, as `unisono serve` takes them (the default one)", extra=_GRID),
    ] = ()
    dtype: Annotated[
        tuple[Literal["auto", "bfloat16", "float16", "float32"], ...],
        Meta(min_length=1, description="arithmetic", extra=_GRID),
    ] = ("auto",)
    quantization: Annotated[
        tuple[Literal["auto", "none", "int8", "int4"], ...],
        Meta(min_length=1, description="weights in few bits", extra=_GRID),
    ] = ("auto",)
    tp: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=64)], ...],
        Meta(min_length=1, description="ranks a group", extra=_GRID),
    ] = (1,)
    dp: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=64)], ...],
        Meta(min_length=1, description="groups", extra=_GRID),
    ] = (1,)
    concurrency: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=4096)], ...],
        Meta(min_length=1, description="streams at once: batch sizes", extra=_GRID),
    ] = DEFAULT_LEVELS
    serve: Annotated[
        str,
        Meta(
            description="JSON object of settings that every server has, by their names in the "
            'settings file: \'{"kv_cache_bytes": "2GB"}\''
        ),
    ] = ""
    start_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="a server that is not ready by then is missing")
    ] = 600.0
    preset: Annotated[Preset, Meta(extra=_LOAD)] = "none"
    rounds: Annotated[
        int,
        Meta(ge=1, le=100, description="passes over the levels of a server", extra=_LOAD),
    ] = 2
    requests: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="requests a level (0: 2 x streams, 4 at least)",
            extra=_LOAD,
        ),
    ] = 0
    prompt_tokens: Annotated[PromptTokens, Meta(extra=_LOAD)] = 128
    max_tokens: Annotated[MaxTokens, Meta(extra=_LOAD)] = 128
    temperature: Annotated[Temperature, Meta(description="0 is greedy", extra=_LOAD)] = 0.0
    extra: Annotated[Extra, Meta(extra=_LOAD)] = ""
    timeout_s: Annotated[Timeout, Meta(extra=_LOAD)] = 900.0
    results: Annotated[
        str,
        Meta(min_length=1, description="JSON file of all figures; a sweep goes on where it ends"),
    ] = "sweep.json"
    retry: Annotated[bool, Meta(description="try points again that the file says are missing")] = (
        False
    )
    html: Html = ""
