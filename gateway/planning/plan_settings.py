"""What may be asked of `unisono plan`. Apart from what it does, so that `--help` loads little."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class PlanSettings(msgspec.Struct, frozen=True):
    """One plan: where, how the model is served, the load, and what is wanted."""

    devices: Annotated[
        str,
        Meta(
            description="4xA10, 4x24GiB@600GB/s,125TFLOPS,link=32GB/s, 4x24GiB (memory alone), "
            "2x(4xA10),net=10Gb/s,0.1ms: nodes of such, "
            "cpu: this machine; cuda: its GPUs, once they were measured"
        ),
    ] = "cpu"
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"],
        Meta(description="arithmetic of the forward pass; auto: what the device is fast at"),
    ] = "auto"
    quantization: Annotated[
        Literal["auto", "none", "int8", "int4"],
        Meta(description="weights in few bits: auto as in the file, int8 and int4 by rounding"),
    ] = "auto"
    kv_cache_dtype: Annotated[
        Literal["auto", "int8", "fp8"],
        Meta(description="keys and values; int8: half of it, less exact; fp8: as much, on a GPU"),
    ] = "auto"
    max_model_len: Annotated[
        int, Meta(ge=0, description="longest prompt + completion, tokens (0: the model's)")
    ] = 0
    expert_parallel: Annotated[
        bool, Meta(description="ranks have whole experts of a mixture, not columns of each")
    ] = False
    prompt: Annotated[
        int, Meta(ge=1, le=1 << 24, description="tokens of a prompt", extra={"group": "load"})
    ] = 128
    output: Annotated[
        int, Meta(ge=1, le=1 << 24, description="tokens of a completion", extra={"group": "load"})
    ] = 128
    concurrency: Annotated[
        int,
        Meta(
            ge=1, le=65536, description="completions asked for at a time", extra={"group": "load"}
        ),
    ] = 16
    objective: Annotated[
        Literal["throughput", "latency", "fit"],
        Meta(
            description="what ranks layouts: tokens/s, a request's time, or sequences that fit",
            extra={"group": "load"},
        ),
    ] = "throughput"
    json: Annotated[bool, Meta(description="as one JSON object", extra={"group": "output"})] = False
    list: Annotated[
        bool,
        Meta(description="show the models and cards that are known", extra={"group": "output"}),
    ] = False
    revision: Annotated[str, Meta(description="branch, tag or commit", extra={"group": "hub"})] = ""
    hf_token: Annotated[
        str, Meta(description="token of the hub (HF_TOKEN)", extra={"group": "hub"})
    ] = ""
    offline: Annotated[bool, Meta(description="ask no hub", extra={"group": "hub"})] = False
