"""What `unisono bench engine` can be told; flags only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.bench.bench_settings import Html

_SHAPES = {"group": "shapes"}
_Counts = tuple[Annotated[int, Meta(ge=1, le=4096)], ...]
_Lengths = tuple[Annotated[int, Meta(ge=1, le=1_000_000)], ...]


class EngineBenchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The engine to load into a process of its own, and the steps to run."""

    model: Annotated[
        str, Meta(description="what to load, as `unisono serve` takes it (the default model)")
    ] = ""
    engine: Annotated[
        str,
        Meta(
            description="JSON object of engine settings, by their names in the settings file: "
            '\'{"quantization": "int8", "kernels": "avx2"}\''
        ),
    ] = ""
    batch: Annotated[
        _Counts, Meta(min_length=1, description="sequences of a decode step", extra=_SHAPES)
    ] = (1, 4, 16, 64)
    context: Annotated[
        _Lengths,
        Meta(min_length=1, description="tokens before those that are decoded", extra=_SHAPES),
    ] = (128, 1024)
    prompts: Annotated[_Lengths, Meta(description="lengths of prompts", extra=_SHAPES)] = (128, 512)
    prompt_batch: Annotated[
        _Counts, Meta(min_length=1, description="prompts at a time", extra=_SHAPES)
    ] = (1,)
    steps: Annotated[
        int, Meta(ge=2, le=10_000, description="decode steps of each shape; an eighth of prompts")
    ] = 32
    sampling: Annotated[
        Literal["greedy", "plain", "takeoff"],
        Meta(
            description="how decode steps choose: greedy, plain from the whole distribution, "
            "takeoff as in Table 3 of the article"
        ),
    ] = "greedy"
    json: Annotated[str, Meta(description="file that gets the time of every step")] = ""
    html: Html = ""
