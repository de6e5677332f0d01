"""What the last stage of a group tells its lead of a step: the tokens that were drawn."""

import msgspec

from backend.wire.messages import TokenLogprobs


class DrawnStep(msgspec.Struct, frozen=True, array_like=True):
    """As StepResult has it (engine/model_runner.py). num_full_gathers: of the sampler so far."""

    step: int
    token_ids: list[int]
    logprobs: list[TokenLogprobs | None]
    prompt_logprobs: list[TokenLogprobs]
    sample_s: float
    num_full_gathers: int


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(DrawnStep).decode
