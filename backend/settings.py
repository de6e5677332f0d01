"""What an engine is told before it starts. Frozen; no file below reads flags or environment."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

# "wanted": what the message that refuses another value says.
Device = Annotated[
    str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", extra={"wanted": "cpu, cuda, cuda:N or auto"})
]


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of every replica group. `0` means: choose for this machine and model."""

    model: Annotated[str, Meta(description="path of a GGUF file or a Hugging Face directory")] = ""
    model_impl: Annotated[
        Literal["auto", "unisono", "transformers"],
        Meta(
            description="whose code runs the model: our own decoder (unisono) or transformers'; "
            "auto: ours where it knows the architecture"
        ),
    ] = "auto"
    task: Annotated[
        Literal["auto", "generate", "embed", "rerank"],
        Meta(description="what the model gives: text, vectors, scores; auto: what its files say"),
    ] = "auto"
    tp: Annotated[int, Meta(ge=1, le=64, description="ranks a stage (tensor parallel)")] = 1
    pp: Annotated[
        int,
        Meta(ge=1, le=64, description="stages a group, each with some layers (pipeline parallel)"),
    ] = 1
    nodes: Annotated[
        int,
        Meta(ge=1, le=64, description="nodes that a group's ranks are on; --launcher ray alone"),
    ] = 1
    expert_parallel: Annotated[
        bool, Meta(description="ranks have whole experts of a mixture, not columns of each")
    ] = False
    dp: Annotated[int, Meta(ge=1, le=64, description="groups of ranks (data parallel)")] = 1
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Meta(description="where the ranks compute")
    ] = "auto"
    devices: Annotated[
        tuple[Device, ...],
        Meta(description="where each rank computes, group after group: cuda:0,cuda:1"),
    ] = ()
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"],
        Meta(description="arithmetic of the forward pass; auto: what the device is fast at"),
    ] = "auto"
    quantization: Annotated[
        Literal["auto", "none", "int8", "int4"],
        Meta(description="weights in few bits: auto as in the file, int8 and int4 by rounding"),
    ] = "auto"
    kernels: Annotated[
        Literal[
            "auto", "native", "torch",
            "amx", "avx512_bf16", "avx512_vnni", "avx512", "avx_vnni", "avx2", "portable",
        ],
        Meta(
            description="what computes on a CPU: PyTorch (torch) or our own (native), at its best "
            "or at a level: amx, avx512_bf16, avx512_vnni, avx512, avx_vnni, avx2 or portable"
        ),
    ] = "auto"  # fmt: skip
    activations: Annotated[
        Literal["auto", "mixed", "int8", "int16", "bf16"],
        Meta(
            description="what our own kernels multiply activations as; auto: mixed, which is int8 "
            "and 16 bits of what is large in a row"
        ),
    ] = "auto"
    exact: Annotated[
        bool,
        Meta(description="one arithmetic for every batch size: same bytes alone and in a crowd"),
    ] = False
    enforce_eager: Annotated[
        bool,
        Meta(
            description="launch the kernels of decodes one by one: capture no graphs on a GPU, "
            "record no steps on a CPU"
        ),
    ] = False
    load_format: Annotated[
        Literal["auto", "dummy"],
        Meta(
            description="auto: the model's files; dummy: random weights in the shapes of a name of "
            "`unisono plan --list`, a config.json or a directory, to measure without files"
        ),
    ] = "auto"
    max_model_len: Annotated[
        int, Meta(ge=0, description="longest prompt + completion, tokens (0: the model's)")
    ] = 0
    max_num_seqs: Annotated[int, Meta(ge=1, le=4096, description="sequences a step")] = 128
    max_num_batched_tokens: Annotated[
        int, Meta(ge=0, description="token budget a step; long prompts are cut to it (0: auto)")
    ] = 0
    inter_token_ms: Annotated[
        float,
        Meta(ge=0, description="streams wait no longer for a step with prompts in it (0: any)"),
    ] = 200.0
    block_size: Annotated[int, Meta(ge=1, le=1024, description="tokens a KV block")] = 32
    kv_cache_bytes: Annotated[
        int, Meta(ge=0, description="memory for the KV cache of a group (0: from free memory)")
    ] = 0
    state_cache_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="of kv_cache_bytes, for states of past prompts in models that keep states "
            "(0: a quarter of what running sequences leave)",
        ),
    ] = 0
    kv_cache_dtype: Annotated[
        Literal["auto", "int8", "fp8"],
        Meta(
            description="keys and values; auto: as the arithmetic; int8: half of it, less exact; "
            "fp8: as much, on a GPU"
        ),
    ] = "auto"
    prefix_caching: Annotated[
        bool, Meta(description="keep the KV blocks of past prompts for requests that share them")
    ] = True
    threads: Annotated[int, Meta(ge=0, description="CPU threads a rank (0: cores / ranks)")] = 0
    test_faults: Annotated[
        str,
        Meta(description="for tests: faults to inject, as backend/fault_injection.py says"),
    ] = ""

    @property
    def num_ranks(self) -> int:
        """Ranks of a group."""
        return self.tp * self.pp

    @property
    def ranks_a_node(self) -> int:
        """Ranks of a group on each of its nodes."""
        return self.num_ranks // self.nodes
