"""What `unisono tune` can be told. Declared like the server's settings; flags only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.tuning.trial import Goal


class TuneSettings(msgspec.Struct, frozen=True):
    """The load, what is wanted of it, what may be changed, and where results go."""

    devices: Annotated[
        str, Meta(description="where it is to serve: cpu, or this machine's GPUs as for plan")
    ] = "cpu"
    preset: Annotated[
        Literal["none", "takeoff", "chat"],
        Meta(description="a load by name, as for bench serve"),
    ] = "none"
    load: Annotated[
        str, Meta(description="trace file to replay, Mooncake's or ShareGPT's form")
    ] = ""
    concurrency: Annotated[int, Meta(ge=1, le=4096, description="streams at once")] = 16
    prompt_tokens: Annotated[int, Meta(ge=1, description="length of every prompt")] = 128
    max_tokens: Annotated[int, Meta(ge=2, description="tokens to generate")] = 128
    requests: Annotated[
        int, Meta(ge=0, description="requests a trial (0: 2 x streams, 4 at least)")
    ] = 0
    objective: Annotated[Goal, Meta(description="most tokens/s, or the shortest request")] = (
        "throughput"
    )
    max_ttft_ms: Annotated[
        float, Meta(ge=0, description="99 % of first tokens must come sooner (0: any)")
    ] = 0.0
    max_itl_ms: Annotated[
        float, Meta(ge=0, description="99 % of gaps between tokens must be shorter (0: any)")
    ] = 0.0
    max_loss: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="what rounding may cost, percent of perplexity of the model's own text "
            "(0: nothing is rounded that the file has not rounded)",
        ),
    ] = 0.0
    max_model_len: Annotated[
        int, Meta(ge=0, description="longest prompt + completion to serve (0: the model's)")
    ] = 0
    minutes: Annotated[float, Meta(gt=0, description="time for all trials")] = 15.0
    out: Annotated[str, Meta(min_length=1, description="file of settings to write")] = "tuned.toml"
    results: Annotated[
        str, Meta(description="file that keeps every trial, to go on later (beside --out)")
    ] = ""
    plot: Annotated[str, Meta(description="file for a picture, SVG or PNG (beside --out)")] = ""
