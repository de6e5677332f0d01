"""Every message between the gateway and a lead rank.

Down go Submit, Abort, Vocabulary and Served; up come Ready, StepOutput, Served and Failed.
msgpack arrays tagged by type: no field names on the wire, and a malformed one is refused by
msgspec before any of our code sees it. Text never appears here.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from backend.wire.sampling import SamplingParams, TokenId

SeqId = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class FinishReason(enum.StrEnum):
    """Why a sequence ended: `stop` is an end-of-sequence token, `error` names its cause."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Ask a group to continue `prompt_ids + output_ids` as one sequence.

    seq_id is the worker's and unique in its life. output_ids is empty but for a resumption, and so
    many prompt_logprobs have been delivered then.
    deadline is in CLOCK_MONOTONIC seconds, 0 for none. second_segment: of two texts, where the
    second begins, for models that are told so; 0 for one text.
    """

    seq_id: SeqId
    prompt_ids: list[TokenId]
    output_ids: list[TokenId]
    params: SamplingParams
    tenant: str = ""
    priority: int = 0
    deadline: float = 0.0
    cache_salt: str = ""
    num_prompt_logprobs: Annotated[int, Meta(ge=0)] = 0
    second_segment: Annotated[int, Meta(ge=0)] = 0


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Stop a sequence and free its blocks. Unknown and finished ids are ignored."""

    seq_id: SeqId


class Vocabulary(msgspec.Struct, frozen=True, array_like=True, tag="vocabulary"):
    """The bytes of every token, by id; sent once, before the first Submit with a grammar.

    Special tokens, which no grammar may produce, are empty.
    """

    pieces: list[bytes]


# Of the keys that one worker serves in a second, the busiest.
MAX_SERVED_KEYS = 1024


class Served(msgspec.Struct, frozen=True, array_like=True, tag="served"):
    """What each tenant was given by one worker, in tokens as fairness counts them, since the last
    time. The lead passes it on to all other workers; it means nothing to the group itself."""

    tokens: Annotated[dict[str, float], Meta(max_length=MAX_SERVED_KEYS)]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """A group has loaded its model and takes work; the first frame of every token pipe.

    max_model_len: prompt and completion, as the model takes them or as it was set. num_blocks,
    kv_bytes: the KV cache of all ranks together. kv_sequence_tokens: what it holds of one sequence,
    if that is alone; kv_capacity_tokens: of several that are as long as they may be.
    weight_bytes has one entry a rank. num_slots, state_bytes: of what layers keep of fixed size for
    each sequence, of all ranks together, past prompts included. model: its identity (config/
    identity.py), for gateways that have joined the group.
    """

    replica: int
    epoch: int
    device: str
    dtype: str
    kernels: str
    max_model_len: int
    kv_sequence_tokens: int
    kv_capacity_tokens: int
    kv_bytes: int
    num_blocks: int
    block_size: int
    weight_bytes: list[int]
    replicated_bytes: int
    credit: int
    num_slots: int = 0
    state_bytes: int = 0
    model: str = ""


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """Log-probabilities of raw logits at one position: of the token there and of the best.

    top: (token, log-probability), most likely first, as many as were asked for.
    rank: how many tokens are more likely than this one.
    """

    logprob: float
    rank: int
    top: list[tuple[TokenId, float]]


# The error of a sequence whose parameters contradict each other: its caller's fault, no failure.
NO_TOKEN_LEFT = "the request's own rules leave no token to choose"


class SeqOutput(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one sequence got in a step. token_ids may be empty when only finish_reason is news.

    num_cached_tokens: prompt tokens taken from the prefix cache, sent with the first token. error:
    for the caller's eyes, set when finish_reason is `error`. is_final: and the same request would
    fail again. logprobs: one for each of token_ids if they were asked for. prompt_logprobs: those
    of the next prompt positions, the first prompt token left out; chunk by chunk, all before the
    first token. vector: of a model that is pooled, its result, float32, lowest byte first.
    stop_token_id: the one of SamplingParams.stop_token_ids that ended the sequence.
    """

    seq_id: SeqId
    token_ids: list[TokenId]
    finish_reason: FinishReason | None = None
    num_cached_tokens: int = 0
    error: str = ""
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    stop_token_id: TokenId | None = None
    is_final: bool = False
    vector: bytes = b""


class StepTimings(msgspec.Struct, frozen=True, array_like=True):
    """Seconds one step spent planning, in the forward pass and in sampling."""

    schedule_s: float = 0.0
    forward_s: float = 0.0
    sample_s: float = 0.0


class StateFigures(msgspec.Struct, frozen=True, array_like=True):
    """What a group keeps of fixed size for sequences, where its model's layers have states.

    num_in_use: slots of running sequences. num_snapshots: states kept for the prefix cache.
    num_hits: sequences that went on from one. num_evictions: snapshots that were overwritten.
    """

    num_in_use: int
    num_snapshots: int
    num_hits: int
    num_evictions: int


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """What a group has done in its life, for all workers together.

    num_prompt_tokens, num_output_tokens: run through the model as prompt, sampled.
    num_prefix_queries, num_prefix_hits: tokens looked for in the prefix cache, and found.
    num_full_gathers: rows whose candidates held too little mass, so that all logits were gathered.
    states: None where the model has none.
    """

    num_steps: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_preemptions: int = 0
    num_prefix_queries: int = 0
    num_prefix_hits: int = 0
    num_full_gathers: int = 0
    schedule_s: float = 0.0
    forward_s: float = 0.0
    sample_s: float = 0.0
    states: StateFigures | None = None


class StepOutput(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """One frame per worker per step.

    credit: tokens of work the group would take now beyond what it holds.
    num_running, num_waiting, num_free_blocks: the group's load after the step.
    """

    step: int
    outputs: list[SeqOutput]
    timings: StepTimings
    credit: int
    num_running: int
    num_waiting: int
    num_free_blocks: int
    totals: Totals = Totals()


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """A rank cannot start or go on. `message` is for the operator, one to five lines.

    is_foreign: what ended it came from outside; no request is to blame.
    """

    rank: int
    message: str
    is_foreign: bool = False


Request = Submit | Abort | Vocabulary | Served
Reply = Ready | StepOutput | Served | Failed

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode
